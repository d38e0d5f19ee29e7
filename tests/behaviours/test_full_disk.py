"""A full disk: new mail is put off with words and a time, what is queued goes on, and afterwards all is as before."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.behaviours.server import Server, wait_until


def submit(server: Server) -> None:
    told = server.connection
    host, _, port = told["smtp"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.login(told["smtp_user"], told["smtp_password"])
        client.sendmail("ok-me@shop.example", ["ok-you@gmail.com"], b"From: me@shop.example\r\nSubject: x\r\n\r\nx\r\n")


def test_below_the_floor_of_free_disk_mail_is_put_off_never_refused(serve: Callable[..., Server]) -> None:
    server = serve().start()
    later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    waiting = server.campaign(["ok-queued@gmail.com", "grey-queued@small.example"], send_at=later)["campaign"]
    server.post(f"/v1/campaigns/{waiting}/pause", {"reason": "the disk is filling up"})
    server.stop()
    server.change("server", "min_free_disk_mb", 1_000_000_000)
    server.start()

    body = {"from": "shop@shop.example", "to": ["ok-new@gmail.com"], "subject": "Order", "text": "Thank you"}
    refused = server.http.post("/v1/messages", json=body)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.headers["Content-Type"].startswith("application/problem+json")
    assert "MB of disk are free" in refused.json()["detail"]
    people = {"from": "news@shop.example", "subject": "x", "text": "x", "recipients": ["ok-new@gmail.com"]}
    assert server.http.post("/v1/campaigns", json=people).status_code == 429
    with pytest.raises(smtplib.SMTPSenderRefused) as sender:
        submit(server)
    assert sender.value.smtp_code == 451
    assert b"4.3.1" in sender.value.smtp_error
    ready = server.http.get("/health/ready")
    assert ready.status_code == 503
    assert "disk" in ready.text
    assert server.healthy()
    # What was promised is kept: it can be looked at and steered
    assert server.get(f"/v1/campaigns/{waiting}")["queued"] == 2
    assert server.post(f"/v1/campaigns/{waiting}/resume")["state"] == "scheduled"

    server.stop()
    server.change("server", "min_free_disk_mb", 1)
    server.start()
    assert server.http.get("/health/ready").status_code == 200
    server.wait_delivery(server.message("ok-new@gmail.com"))
    submit(server)
    wait_until(lambda: {one.recipient for one in server.inbox()} == {"ok-new@gmail.com", "ok-you@gmail.com"})
    assert server.get(f"/v1/campaigns/{waiting}")["queued"] == 2
