"""SIGTERM in the middle of a campaign: the server ends in bounded time, and the next start repeats nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from tests.behaviours.server import Server, wait_until


def at_work(server: Server) -> bool:
    """Both delivery processes have what they begin with: one that is stopped before leaves its lease to the next start."""
    return {path.name.split("-")[1] for path in (server.data / "run").glob("journal-*")} == {"0", "1"}


def test_stopped_and_started_again_nothing_is_sent_twice_or_lost(serve: Callable[..., Server]) -> None:
    server = serve({"delivery": {"connections_per_site": 3}}).start()
    people = [f"ok{number}@{'gmail.com' if number % 2 else 'small.example'}" for number in range(1200)]
    people += [f"slow{number}@other.example" for number in range(3)] + ["grey1@other.example", "later1@yahoo.com"]
    campaign = server.campaign(people)["campaign"]
    for least in (100, 400, 700):
        wait_until(lambda least=least: server.get(f"/v1/campaigns/{campaign}")["delivered"] >= least)  # type: ignore[misc]
        wait_until(partial(at_work, server), what=server.output)
        assert server.stop() == 0
        assert server.rows("SELECT count(*) FROM delivery WHERE state = 2") == [(0,)]
        assert server.rows("SELECT * FROM lease") == []
        assert not list((server.data / "run").glob("journal-*"))
        server.start()
    view = server.wait_campaign(campaign)
    assert (view["delivered"], view["pending"]) == (len(people), 0)
    totals = server.report()["totals"]
    assert (totals["accepted"], totals["repeats"]) == (len(people), 0)
    kinds = Counter(event["kind"] for event in server.events(campaign=campaign))
    assert kinds["delivered"] == kinds["accepted"] == len(people)
    assert kinds["repeat_possible"] == 0
    # An attempt that the stop met was let end: nothing was put off but what the recipient asked for
    put_off = {event["recipient"] for event in server.events(campaign=campaign, kind="deferred")}
    assert put_off == {"grey1@other.example", "later1@yahoo.com"}
    assert "did not stop in time" not in server.log("supervisor")
    assert "attempts under way" not in server.log("deliver")
