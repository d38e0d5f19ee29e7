"""The disk fails in the middle of a campaign and is read-only from then on: nothing more is promised, nothing that was is lost."""

from __future__ import annotations

import os
import signal
import smtplib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviours.disk import FailingDisk
from tests.behaviours.live import Live
from tests.behaviours.network import Network
from tests.behaviours.server import wait_until

RECIPIENTS = 1200


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[FailingDisk]:
    disk = FailingDisk(tmp_path / "image", tmp_path / "server" / "data")
    disk.mount()
    yield disk
    disk.unmount()


@pytest.fixture
def server(disk: FailingDisk, tmp_path: Path, network: Network) -> Iterator[Live]:
    settings = {
        "server": {"min_free_disk_mb": 1},
        "delivery": {"time_scale": 60, "connections_per_site": 2},
    }
    live = Live(tmp_path / "server", network, settings)
    with live:
        live.add_domain("shop.test")
        yield live


def test_everybody_waits_and_a_repaired_disk_has_all_of_it(server: Live, disk: FailingDisk, network: Network) -> None:
    peer = network.peer()
    network.mail_domain("people.test", (10, peer.host))
    server.login  # noqa: B018 - made while the disk is well
    people = [f"p{number}@people.test" for number in range(RECIPIENTS)]
    campaign = server.campaign(people, **{"from": "news@shop.test"})["campaign"]
    before = server.pids()
    wait_until(lambda: len(peer.messages) > RECIPIENTS // 10)
    disk.fail()
    wait_until(lambda: server.http.get("/health/ready").status_code == 503, what=server.output)
    check_refusals(server)
    wait_until(lambda: "claiming waits" in server.output() or "settling waits" in server.output(), what=server.output)
    assert server.healthy()
    assert server.get(f"/v1/campaigns/{campaign}")["recipients"] == RECIPIENTS, "what is known can be asked for"
    assert server.pids() == before, server.output()
    assert len(peer.messages) < RECIPIENTS
    assert server.output().count("\n") < 200, "said, and not thousands of times"
    assert server.process is not None
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()

    disk.repair()
    wait_until(lambda: not peer.open_now)  # what was on the wire has come
    sent = Counter(message.rcpt for message in peer.messages)
    leased = {f"RCPT TO:<{row[0]}>" for row in server.rows("SELECT address FROM delivery WHERE state = 2")}
    server.start()
    view = server.wait_campaign(campaign)
    assert view["delivered"] == RECIPIENTS
    took = Counter(message.rcpt for message in peer.messages)
    assert set(took) == {f"RCPT TO:<{one}>" for one in people}, "and nothing that was refused"
    repeated = {rcpt for rcpt, count in took.items() if count > 1}
    assert repeated <= leased & set(sent)
    assert max(took.values()) <= 2
    assert server.stop() == 0


def check_refusals(server: Live) -> None:
    """Every entrance says that it is the disk, and when to try again."""
    body = {"from": "shop@shop.test", "to": ["new@people.test"], "subject": "Order", "text": "x"}
    refused = server.http.post("/v1/messages", json=body)
    assert refused.status_code == 429, refused.text
    assert int(refused.headers["Retry-After"]) > 0
    assert "the database cannot write" in refused.json()["detail"]
    with pytest.raises(smtplib.SMTPResponseException) as sender:
        server.submit(b"From: shop@shop.test\r\nSubject: x\r\n\r\nx\r\n", "shop@shop.test", ["new@people.test"])
    assert sender.value.smtp_code == 451, sender.value
    assert b"the database cannot write" in sender.value.smtp_error
