"""The machine's clock jumps by an hour, forward and back, under load: by Debian's faketime, so that nothing in the program knows."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.behaviours.live import Live
from tests.behaviours.network import Network
from tests.behaviours.peer import Peer
from tests.behaviours.server import wait_until

HOUR_S = 3600
RECIPIENTS = 160
LEASES = "SELECT id, slot FROM lease ORDER BY id"
PATIENT = {"expire_after_s": 365 * 86400}  # or the jump alone would end what waits: time_scale divides it
SETTINGS: dict[str, dict[str, Any]] = {
    "delivery": {"time_scale": 600, "lease_s": 20},
    "retry": {"bulk": PATIENT, "transactional": PATIENT},
}


class Clock:
    """The clock of a server and of every process of it."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)

    def set(self, offset_s: int) -> None:
        """``offset_s`` before the real one, from the next look at it on."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset_s:+d}\n")
        fresh.replace(self._file)

    @property
    def surroundings(self) -> dict[str, str]:
        """What a process needs in its environment to go by it."""
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture
def server(tmp_path: Path, network: Network, clock: Clock) -> Iterator[Live]:
    server = Live(tmp_path, network, SETTINGS)
    server.surroundings = clock.surroundings
    with server:
        server.add_domain("shop.test")
        yield server


def putting_off(peer: Peer, word: str) -> None:
    """Have the peer put off the first try of every recipient with ``word`` in it."""
    seen: set[str] = set()

    def answer(verb: str, line: str) -> str | None:
        if verb == "RCPT" and word in line and line not in seen:
            seen.add(line)
            return "451 4.7.1 come back later"
        return None

    peer.answer = answer


def test_an_hour_forward_and_back(server: Live, network: Network, clock: Clock) -> None:
    peer = network.peer()
    network.mail_domain("people.test", (10, peer.host))
    putting_off(peer, "later")
    people = [f"{'later' if number % 10 == 0 else 'now'}{number}@people.test" for number in range(RECIPIENTS)]
    in_half_an_hour = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    soon = server.campaign(["soon@people.test"], **{"from": "news@shop.test", "send_at": in_half_an_hour})["campaign"]
    much_later = server.campaign(["much@people.test"], **{"from": "news@shop.test", "send_at": tomorrow})["campaign"]
    before = server.pids()
    leases = wait_until(lambda: found if len(found := server.rows(LEASES)) == 2 else None, what=server.output)
    campaign = server.campaign(people, **{"from": "news@shop.test"})["campaign"]
    page = logged_in(server)

    single = []
    for offset_s, word in ((HOUR_S, "forward"), (0, "back"), (-HOUR_S, "behind"), (0, "right")):
        done = len(peer.messages)
        wait_until(lambda done=done: len(peer.messages) >= min(done + 20, RECIPIENTS // 2))  # type: ignore[misc]
        clock.set(offset_s)
        single += [
            server.message(f"{mood}.{word}@people.test", **{"from": "shop@shop.test"}) for mood in ("now", "later")
        ]
        server.submit(
            b"From: shop@shop.test\r\nSubject: x\r\n\r\nx\r\n", "shop@shop.test", [f"smtp.{word}@people.test"]
        )
        if word == "forward":
            assert server.wait_campaign(soon)["delivered"] == 1, "its time has come"
    stories = [server.wait_delivery(delivery) for delivery in single]
    assert [story["delivery"]["state"] for story in stories] == ["delivered"] * len(single)
    view = server.wait_campaign(campaign)
    assert view["delivered"] == RECIPIENTS
    assert server.get(f"/v1/campaigns/{much_later}")["queued"] == 1, "its time has not come"
    wait_until(lambda: len(peer.messages) == RECIPIENTS + 1 + len(single) + 4)
    took = Counter(message.rcpt for message in peer.messages)
    assert set(took.values()) == {1}

    assert server.pids() == before, server.log("supervisor")
    assert server.rows(LEASES) == leases
    events = server.events()
    assert Counter(event["kind"] for event in events)["lease_released"] == 0
    check_order(events)
    assert page.get("/", follow_redirects=False).status_code == 200
    page.close()
    assert "the clock was set back" in server.log("jobs")


def logged_in(server: Live) -> httpx.Client:
    """A browser's session, opened by the token."""
    page = httpx.Client(base_url=server.connection["http"], trust_env=False, timeout=30)
    answer = page.post("/login", data={"token": server.connection["token"]})
    assert answer.status_code in (200, 303), answer.text
    return page


def check_order(events: list[dict[str, object]]) -> None:
    """Whatever their times say, the events of a delivery stand in the order in which they happened."""
    ends = {"delivered", "bounced", "expired"}
    of_delivery = sorted((event for event in events if event["delivery"]), key=lambda event: str(event["delivery"]))
    for _, story in itertools.groupby(of_delivery, key=lambda event: event["delivery"]):
        kinds = [str(event["kind"]) for event in story]
        assert kinds[0] == "accepted", kinds
        assert not ends & set(kinds[:-1]), kinds
