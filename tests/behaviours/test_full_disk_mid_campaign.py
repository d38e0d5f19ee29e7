"""A disk without a free byte in the middle of a campaign: nothing is taken, nobody dies, and with room again all goes on."""

from __future__ import annotations

import random
import smtplib
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviours.disk import filled, small_disk
from tests.behaviours.live import Live
from tests.behaviours.network import Network
from tests.behaviours.server import wait_until

RECIPIENTS = 1500
LARGE = textwrap.fill(random.Random(1).randbytes(300_000).hex(), 76)  # more than the database has room for by chance


@pytest.fixture
def server(tmp_path: Path, network: Network) -> Iterator[Live]:
    settings = {
        "server": {"min_free_disk_mb": 0},  # no floor: the disk itself is to say no
        "delivery": {"time_scale": 60, "connections_per_site": 2},
    }
    live = Live(tmp_path, network, settings)
    with small_disk(live.data, 64), live:
        live.add_domain("shop.test")
        yield live


def test_nothing_is_lost_or_doubled_and_no_process_dies(server: Live, network: Network) -> None:
    peer = network.peer()
    network.mail_domain("people.test", (10, peer.host))
    server.login  # noqa: B018 - made while there is room
    people = [f"p{number}@people.test" for number in range(RECIPIENTS)]
    campaign = server.campaign(people, **{"from": "news@shop.test"})["campaign"]
    before = server.pids()
    wait_until(lambda: len(peer.messages) > RECIPIENTS // 10)
    with filled(server.data):
        small = take_small_ones_while_there_is_room(server)
        check_refusals(server)
        wait_until(lambda: "waits" in server.output(), what=server.output)
        assert server.pids() == before
        for role in ("front", "jobs", "deliver-0", "deliver-1"):
            server.kill(role)  # whoever dies just now comes back and waits as well
            wait_until(lambda role=role: server.pids().get(role, before[role]) != before[role], what=server.output)  # type: ignore[misc]
        wait_until(server.healthy)
        check_refusals(server)
        assert len(peer.messages) < RECIPIENTS
        restarted = server.pids()
    view = server.wait_campaign(campaign)
    assert view["delivered"] == RECIPIENTS
    for delivery in small:
        assert server.wait_delivery(delivery)["delivery"]["state"] == "delivered"
    took = Counter(message.rcpt for message in peer.messages if "small" not in message.rcpt)
    assert took == Counter(f"RCPT TO:<{one}>" for one in people), took.most_common(3)
    kinds = Counter(event["kind"] for event in server.events(campaign=campaign))
    assert kinds["accepted"] == kinds["delivered"] == RECIPIENTS
    assert not kinds["deferred"], "a full disk of ours is no failed attempt"
    assert server.pids() == restarted
    wait_until(lambda: server.http.get("/health/ready").status_code == 200)
    assert server.to("after@people.test")["delivery"]["state"] == "delivered"
    assert server.stop() == 0


def take_small_ones_while_there_is_room(server: Live) -> list[str]:
    """Files that have their place on the disk may hold some more; what is accepted into them is accepted."""
    taken: list[str] = []

    def full() -> bool:
        body = {"from": "shop@shop.test", "to": [f"small{len(taken)}@people.test"], "subject": "Order", "text": "x"}
        answer = server.http.post("/v1/messages", json=body)
        if answer.status_code == 202:
            taken.append(answer.json()["deliveries"][0]["delivery"])
        ready = server.http.get("/health/ready")
        return answer.status_code == 429 and ready.status_code == 503 and "disk" in ready.text

    wait_until(full, what=server.output)
    return taken


def check_refusals(server: Live) -> None:
    """Every entrance says that it is the disk, and when to try again."""
    body = {"from": "shop@shop.test", "to": ["new@people.test"], "subject": "Order", "text": LARGE}
    refused = server.http.post("/v1/messages", json=body)
    assert refused.status_code == 429, refused.text
    assert int(refused.headers["Retry-After"]) > 0
    assert "disk" in refused.json()["detail"]
    message = f"From: shop@shop.test\nSubject: x\n\n{LARGE}\n".replace("\n", "\r\n").encode()
    with pytest.raises(smtplib.SMTPResponseException) as sender:
        server.submit(message, "shop@shop.test", ["new@people.test"])
    assert sender.value.smtp_code == 451, sender.value
    assert b"disk" in sender.value.smtp_error
