"""Mail with a time to leave stays until then, through a restart, and leaves then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx

from tests.behaviours.server import Server


def after(delay_s: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=delay_s)).isoformat()


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_a_campaign_starts_at_its_time(sandbox: Server) -> None:
    when = after(6)
    campaign = sandbox.campaign([f"ok-at{number}@gmail.com" for number in range(50)], send_at=when)
    name = campaign["campaign"]
    assert (campaign["state"], campaign["pending"]) == ("scheduled", 50)
    sandbox.wait_delivery(sandbox.message("ok-now@gmail.com"))  # the lane is open, and yet
    sandbox.restart()
    early = sandbox.events(campaign=name, kind="delivered")
    view = sandbox.wait_campaign(name)
    assert (view["state"], view["delivered"]) == ("finished", 50)
    delivered = sandbox.events(campaign=name, kind="delivered")
    assert all(moment(event["at"]) >= moment(when) for event in early + delivered)
    kinds = [event["kind"] for event in sandbox.events(campaign=name)]
    assert kinds.index("campaign_started") < kinds.index("delivered")
    assert [event["kind"] for event in sandbox.events(campaign=name) if event["delivery"] is None] == [
        "campaign_created",
        "campaign_started",
        "campaign_finished",
    ]
    assert view["seconds"] <= max(moment(event["at"]) for event in delivered) - moment(when) + 1
    assert all(message.at_ms / 1000 >= moment(when) for message in sandbox.inbox() if "-at" in message.recipient)


def test_a_pause_before_its_time_ends_in_waiting_again(sandbox: Server) -> None:
    when = after(8)
    name = sandbox.campaign(["ok-paused@gmail.com"], send_at=when)["campaign"]
    assert sandbox.post(f"/v1/campaigns/{name}/pause")["state"] == "paused"
    assert sandbox.post(f"/v1/campaigns/{name}/resume")["state"] == "scheduled"
    assert sandbox.wait_campaign(name)["delivered"] == 1
    (delivered,) = sandbox.events(campaign=name, kind="delivered")
    assert moment(delivered["at"]) >= moment(when)
    assert len(sandbox.events(campaign=name, kind="campaign_started")) == 1


def test_a_message_waits_for_its_time(sandbox: Server) -> None:
    when = after(6)
    delivery = sandbox.message("ok-later-today@outlook.com", send_at=when)
    assert sandbox.get(f"/v1/deliveries/{delivery}")["delivery"]["state"] == "queued"
    story = sandbox.wait_delivery(delivery)
    assert story["delivery"]["state"] == "delivered"
    assert moment(story["events"][-1]["at"]) >= moment(when)


def test_a_time_that_is_over_means_now(sandbox: Server) -> None:
    name = sandbox.campaign(["ok-past@gmail.com"], send_at=after(-3600))["campaign"]
    view = sandbox.wait_campaign(name)
    assert view["delivered"] == 1


def test_a_scheduled_campaign_can_be_cancelled_and_a_far_time_is_refused(sandbox: Server) -> None:
    name = sandbox.campaign(["ok-never@gmail.com"], send_at=after(3600))["campaign"]
    sandbox.post(f"/v1/campaigns/{name}/cancel")
    assert sandbox.wait_campaign(name)["cancelled"] == 1
    body = {"from": "news@shop.example", "subject": "x", "text": "x", "recipients": ["ok@gmail.com"]}
    refused: httpx.Response = sandbox.http.post("/v1/campaigns", json={**body, "send_at": after(100 * 86400)})
    assert refused.status_code == 422
    assert refused.json()["where"] == "send_at"
