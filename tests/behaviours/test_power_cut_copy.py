"""The data folder copied in the middle of a campaign, as after a loss of power: a start from the copy loses nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.behaviours.server import Server, wait_until


def copy_as_it_lies(source: Path, target: Path) -> None:
    """What a disk would hold: database, its log, keys and journals; the writers go on meanwhile.

    The log is copied before the database: what a checkpoint moves in between is then in both, never in neither.
    """
    (target / "run").mkdir(parents=True)
    shutil.copy2(source / "mailfleet.db-wal", target)
    shutil.copy2(source / "mailfleet.db", target)
    for name in ("master.key", "kind", "connection.json"):
        shutil.copy2(source / name, target)
    for path in (source / "run").glob("journal-*"):
        shutil.copy2(path, target / "run")
    shutil.copytree(source / "sandbox" / "dns", target / "sandbox" / "dns")
    shutil.copy2(source / "sandbox" / "rates.toml", target / "sandbox")


def test_a_start_from_the_copy_loses_nothing(serve: Callable[..., Server]) -> None:
    first = serve({"delivery": {"connections_per_site": 2}}, folder="first").start()
    people = [f"ok{number}@{'gmail.com' if number % 2 else 'small.example'}" for number in range(1500)]
    campaign = first.campaign(people)["campaign"]
    wait_until(lambda: first.get(f"/v1/campaigns/{campaign}")["delivered"] > 200)
    second = serve({"delivery": {"connections_per_site": 2}}, folder="second")
    shutil.rmtree(second.data)
    copy_as_it_lies(first.data, second.data)
    first.kill_supervisor()
    before = {recipient for recipient, _, final in first.outcomes() if final == "accepted"}
    assert 200 < len(before) < len(people)

    second.start()
    view = second.wait_campaign(campaign)
    assert (view["delivered"], view["bounced"], view["pending"]) == (len(people), 0, 0)
    after = Counter(recipient for recipient, _, final in second.outcomes() if final == "accepted")
    assert before | set(after) == set(people)
    assert set(after.values()) == {1}
    kinds = Counter(event["kind"] for event in second.events(campaign=campaign))
    assert kinds["delivered"] == kinds["accepted"] == len(people)
