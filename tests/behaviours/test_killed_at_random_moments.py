"""kill -9 at ten random moments of a campaign: nothing is lost, everything is accounted for, repeats are few and told."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from mailfleet.base import ids
from mailfleet.engine.journal import replay
from mailfleet.sandbox import journal
from tests.behaviours.server import Server, wait_until

RECIPIENTS = 3000
KILLS = 10
ROLES = ("front", "jobs", "deliver-0", "deliver-1", "deliver-0", "deliver-1", "sandbox")
SEED = int(os.environ.get("KILL_SEED", "7"))
DOMAINS = ("gmail.com", "outlook.com", "yahoo.com", "workspace.example", "one.example", "two.example")
MANNERS = ("ok",) * 60 + ("grey", "unknown", "later", "drop", "full-clears", "ratelimit")


@pytest.fixture
def server(serve: Callable[..., Server]) -> Server:
    # Few connections, so that the campaign is still under way when the tenth kill comes
    return serve({"delivery": {"connections_per_site": 3}, "sandbox": {"time_scale": 2880}})


def recipients(rng: random.Random) -> list[str]:
    return [f"{rng.choice(MANNERS)}-{number}@{rng.choice(DOMAINS)}" for number in range(RECIPIENTS)]


def progress(server: Server, campaign: str) -> int:
    view = server.get(f"/v1/campaigns/{campaign}")
    return int(view["recipients"]) - int(view["pending"])


@pytest.mark.timeout(180)
def test_kill_of_any_process(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(SEED)
    server.start()
    people = recipients(rng)
    campaign = server.campaign([{"email": one, "name": one[:4]} for one in people])["campaign"]
    killed: Counter[str] = Counter()
    read_ms: dict[str, int] = {}
    whole = rng.randrange(KILLS)
    for number in range(KILLS):
        # The kills are spread over the campaign by its progress; the moment within is chance
        due = (number + rng.random()) * RECIPIENTS * 0.9 / KILLS
        wait_until(lambda due=due: progress(server, campaign) >= due, 120, server.output)  # type: ignore[misc]
        time.sleep(rng.random() * 0.2)
        if number == whole:
            killed["supervisor"] += 1
            server.kill_supervisor()
            server.start()
        else:
            role = rng.choice(ROLES)
            killed[role] += 1
            server.kill(role)
            if role.startswith("deliver-"):
                read_ms = dict.fromkeys(replies_read(server, int(role[-1])), round(time.time() * 1000)) | read_ms
    view = server.wait_campaign(campaign, 120)
    check_accounts(server, campaign, view, people)
    repeats = {one.message_id: one for _, one in journal.read(server.data) if one.accepted and one.repeat}
    on_wire, cut_off = who_may_have_had_it_twice(server, campaign)
    with capsys.disabled():
        counts = f"{len(on_wire)} + {len(cut_off)} possible"
        print(f"\n  seed {SEED}, killed {dict(killed)}: {len(repeats)} repeats, {counts}, of {RECIPIENTS}")
    assert set(repeats) <= on_wire | cut_off
    wrong = [one for one in repeats.values() if one.at_ms > read_ms.get(one.message_id, one.at_ms)]
    assert not wrong, "a delivery whose 250 was on record was sent again"
    check_nothing_is_left_open(server)


def message_id(delivery: str) -> str:
    return f"<{delivery.lower()}@shop.example>"


def replies_read(server: Server, slot: int) -> set[str]:
    """Message-IDs of deliveries whose 250 the killed process had put on record, as far as the files are still there."""
    found: set[str] = set()
    for path in (server.data / "run").glob(f"journal-{slot}-*-1"):
        with contextlib.suppress(FileNotFoundError):
            lease = int(path.name.split("-")[2])
            found |= {message_id(ids.public("dlv", one)) for one in replay(path.parent, slot, lease).accepted}
    return found


def who_may_have_had_it_twice(server: Server, campaign: str) -> tuple[set[str], set[str]]:
    """Deliveries on the wire when their sender died, as the events say, and those whose provider died before its answer."""
    events = server.events(campaign=campaign)
    on_wire = {message_id(event["delivery"]) for event in events if event["kind"] == "repeat_possible"}
    cut_off = {
        message_id(event["delivery"])
        for event in events
        if event["data"].get("hung_up")
        or (event["kind"] == "deferred" and event["data"].get("failure") == "connection-lost")
    }
    return on_wire, cut_off


def check_accounts(server: Server, campaign: str, view: dict[str, Any], people: list[str]) -> None:
    """Everything that must be true of an ended campaign."""
    deliveries = server.deliveries(campaign)
    assert sorted(row["recipient"] for row in deliveries) == sorted(people)
    states = Counter(row["state"] for row in deliveries)
    events = server.events(campaign=campaign)
    kinds = Counter(event["kind"] for event in events)
    for state in ("delivered", "bounced", "expired", "suppressed", "cancelled"):
        assert view[state] == states[state] == kinds[state], (state, view, states, kinds)
    assert view["pending"] == view["leased"] == view["deferred"] == 0
    finals = Counter(
        event["delivery"] for event in events if event["kind"] in ("delivered", "bounced", "expired", "suppressed")
    )
    assert set(finals.values()) == {1}
    assert len(finals) == len(people) == kinds["accepted"]
    assert kinds["campaign_created"] == kinds["campaign_finished"] == 1
    assert kinds["campaign_paused"] == kinds["cancelled"] == 0
    meant = {
        "accepted": "delivered",
        "refused": "bounced",
        "deferred": "expired",
    }  # the last word when its time was over
    decided = {recipient: meant.get(final, final) for recipient, _, final in server.outcomes()}
    assert decided == {row["recipient"]: row["state"] for row in deliveries}
    report = server.report()["totals"]
    assert report["accepted"] == view["delivered"]
    assert report["bad_signatures"] == 0
    assert Counter(one.recipient for one in server.inbox()).total() == report["accepted"] + report["repeats"]


def check_nothing_is_left_open(server: Server) -> None:
    """No lease but those of the processes that run, no delivery under any, no journal of an earlier run."""
    assert server.get("/v1/queue")["leased"] == 0
    leases = server.rows("SELECT id, slot FROM lease ORDER BY slot")
    assert [slot for _, slot in leases] == [0, 1], leases
    current = {f"journal-{slot}-{lease}" for lease, slot in leases}
    journals = {path.name.rpartition("-")[0] for path in (server.data / "run").glob("journal-*")}
    assert journals <= current, (journals, current)
    assert server.stop() == 0
    assert not list((server.data / "run").glob("journal-*"))
    assert server.rows("SELECT * FROM lease") == []
    assert server.rows("SELECT count(*) FROM delivery WHERE state IN (1, 2)") == [(0,)]
