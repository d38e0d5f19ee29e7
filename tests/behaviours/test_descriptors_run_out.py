"""Processes without a file descriptor to spare: they wait, say so once, blame nobody else, and go on when there are some."""

from __future__ import annotations

import os
import resource
import socket
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.behaviours.live import Live
from tests.behaviours.server import wait_until

SETTINGS = {"delivery": {"time_scale": 60, "idle_connection_s": 0.2}}
DOMAINS, RECIPIENTS = 12, 240


def limit(pid: int, spare: int) -> None:
    """Let the process have ``spare`` more open files than it has."""
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    numbers = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = (number for number in range(1_000_000) if number not in numbers)
    lowest_left_out = [next(free) for _ in range(spare + 1)][-1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_left_out, hard))


def lift(pid: int) -> None:
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


def test_the_front_turns_clients_away_with_words_and_answers_again(live: Live) -> None:
    front = live.pids()["front"]
    web = live.connection["http"]
    limit(front, 10)  # nobody is connected
    with socket.create_connection(live.submission, 30) as client:
        assert client.recv(100).startswith(b"421 4.7.0")
    turned_away = httpx.get(web + "/health/live", trust_env=False)
    assert turned_away.status_code == 503
    assert int(turned_away.headers["Retry-After"]) > 0
    assert "descriptors" in live.log("front")

    def says_nothing() -> bool:
        limit(front, 0)  # again, as long as connections of before go and files are written meanwhile
        with socket.create_connection(live.submission, 30) as client:
            return client.recv(100) == b""

    wait_until(says_nothing, what=lambda: "not even a word can be said")
    limit(front, 40)
    silent = [socket.create_connection(live.submission, 30) for _ in range(60)]
    with socket.create_connection(live.submission, 30) as client:
        assert client.recv(100).startswith(b"220"), "who comes now takes the place of one that said nothing"
    for one in silent:
        one.close()
    lift(front)
    wait_until(live.healthy)
    assert live.to(f"late@[{live.network.peer().host}]")["delivery"]["state"] == "delivered"
    assert live.pids()["front"] == front


@pytest.mark.parametrize("spare", [0, 14])
def test_delivery_waits_and_periodic_work_goes_on(live: Live, spare: int) -> None:
    peers = [live.network.peer() for _ in range(DOMAINS)]
    for number, peer in enumerate(peers):
        live.network.mail_domain(f"d{number}.{spare}.test", (10, peer.host))
    pids = live.pids()
    tight = [pids[role] for role in ("deliver-0", "deliver-1", "jobs")]
    people = [f"p{number}@d{number % DOMAINS}.{spare}.test" for number in range(RECIPIENTS)]
    said = [live.log(f"deliver-{slot}").count("descriptors run out") for slot in (0, 1)]
    for pid in tight:
        limit(pid, spare)
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    campaign = live.campaign(people, **{"from": "news@shop.test"})["campaign"]
    cancelled = live.campaign(["q@d0.nowhere.test"], **{"from": "news@shop.test", "send_at": later})
    if spare:  # a few are enough, it only takes longer
        live.wait_campaign(campaign)
    else:
        for slot in (0, 1):
            wait_until(lambda slot=slot: "descriptors run out" in live.log(f"deliver-{slot}"), what=live.output)  # type: ignore[misc]
    live.post(f"/v1/campaigns/{cancelled['campaign']}/cancel")
    live.wait_campaign(cancelled["campaign"])
    for pid in tight:
        lift(pid)
    live.wait_campaign(campaign)
    kinds = Counter(event["kind"] for event in live.events(campaign=campaign))
    assert kinds == {"accepted": RECIPIENTS, "delivered": RECIPIENTS, "campaign_created": 1, "campaign_finished": 1}
    assert Counter(message.rcpt for peer in peers for message in peer.messages) == Counter(
        f"RCPT TO:<{one}>" for one in people
    )
    assert live.pids() == pids
    for slot in (0, 1):
        assert live.log(f"deliver-{slot}").count("descriptors run out") <= said[slot] + 1
