"""Who bounced hard is not mailed again, by no way in, and everybody can see why."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage

from tests.behaviours.server import Server, wait_until

GONE = "unknown-ann@gmail.com"
THERE = "ok-bob@gmail.com"


def test_the_next_campaign_refuses_who_bounced_hard(sandbox: Server) -> None:
    first = sandbox.wait_campaign(sandbox.campaign([GONE, THERE, "full1@outlook.com"])["campaign"])
    assert (first["delivered"], first["bounced"], first["suppressed"]) == (1, 2, 0)
    (entry,) = [one for one in sandbox.pages("/v1/suppressions") if one["address"] == GONE]
    assert entry["reason"] == "hard-bounce"
    assert entry["stream"] is None
    assert "does not exist" in entry["evidence"]
    assert not [one for one in sandbox.pages("/v1/suppressions") if one["address"].startswith("full")]

    tries = len(sandbox.outcomes())
    campaign = sandbox.campaign([GONE.upper(), THERE])
    assert (campaign["recipients"], campaign["suppressed"]) == (2, 1)
    second = sandbox.wait_campaign(campaign["campaign"])
    assert (second["delivered"], second["bounced"], second["suppressed"]) == (1, 0, 1)
    (refused,) = [row for row in sandbox.deliveries(campaign["campaign"]) if row["state"] == "suppressed"]
    assert refused["recipient"].casefold() == GONE
    assert refused["reason"].startswith("hard-bounce: 550")
    assert refused["attempts"] == 0
    (told,) = sandbox.events(campaign=campaign["campaign"], kind="suppressed")
    assert told["data"]["reason"] == refused["reason"]
    assert len(sandbox.outcomes()) == tries + 1

    single = sandbox.post(
        "/v1/messages", {"from": "shop@shop.example", "to": [GONE], "subject": "Order", "text": "Thank you"}
    )
    assert [one["state"] for one in single["deliveries"]] == ["suppressed"]
    assert "hard-bounce" in single["deliveries"][0]["reason"]

    trace = sandbox.cli("trace", GONE)
    assert trace.code == 0
    assert trace.out.count("suppressed") >= 2


def test_submitted_mail_to_who_bounced_is_answered_with_a_dsn_or_told(sandbox: Server) -> None:
    sandbox.wait_campaign(sandbox.campaign(["unknown-carl@gmail.com"])["campaign"])
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ok-me@shop.example", "unknown-carl@gmail.com", "Hello"
    message.set_content("text")
    told = sandbox.connection
    host, _, port = told["smtp"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.login(told["smtp_user"], told["smtp_password"])
        client.send_message(message)
    (newest, *_) = sandbox.get("/v1/trace", what="unknown-carl@gmail.com")["items"]
    assert newest["delivery"]["state"] == "suppressed"


def test_a_lifted_suppression_lets_mail_through_again(sandbox: Server) -> None:
    address = "ok-dora@gmail.com"
    sandbox.post("/v1/suppressions", {"address": address, "reason": "asked on the phone"})
    campaign = sandbox.campaign([address])["campaign"]
    assert sandbox.wait_campaign(campaign)["suppressed"] == 1
    assert sandbox.cli("suppression", "remove", address).code == 0
    campaign = sandbox.campaign([address])["campaign"]
    assert sandbox.wait_campaign(campaign)["delivered"] == 1


def test_a_suppression_that_comes_while_mail_waits_stops_it(sandbox: Server) -> None:
    address = "ok-erna@outlook.com"
    campaign = sandbox.campaign([address, "ok-frida@outlook.com"], send_at="2000-01-01T00:00:00Z")["campaign"]
    sandbox.wait_campaign(campaign)
    paused = sandbox.campaign([address, "ok-frida@outlook.com"], send_at=_soon())["campaign"]
    sandbox.post("/v1/suppressions", {"address": address, "reason": "complained by letter"})
    view = sandbox.wait_campaign(paused)
    assert (view["delivered"], view["suppressed"]) == (1, 1)
    row = wait_until(lambda: [one for one in sandbox.deliveries(paused) if one["state"] == "suppressed"])[0]
    assert "complained by letter" in row["reason"]


def _soon() -> str:
    from datetime import UTC, datetime, timedelta

    return (datetime.now(UTC) + timedelta(seconds=8)).isoformat()
