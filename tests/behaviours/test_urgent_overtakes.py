"""A password reset in the middle of a campaign through the same lane is there before the campaign is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.behaviours.server import Server, wait_until

RECIPIENTS = 2000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("urgent"), {"delivery": {"connections_per_site": 1}}) as started:
        yield started


def test_urgent_mail_overtakes_bulk(server: Server) -> None:
    bulk = server.campaign([f"ok{number}@gmail.com" for number in range(RECIPIENTS)])["campaign"]
    wait_until(lambda: server.get(f"/v1/campaigns/{bulk}")["delivered"] >= 50)
    urgent = server.message("ok-reset@gmail.com", subject="Reset your password")
    story = server.wait_delivery(urgent)
    assert story["delivery"]["state"] == "delivered"
    assert server.wait_campaign(bulk)["delivered"] == RECIPIENTS

    order = [(event["kind"], event["delivery"]) for event in server.events()]
    accepted, delivered = order.index(("accepted", urgent)), order.index(("delivered", urgent))
    waited_for = sum(kind == "delivered" for kind, _ in order[accepted:delivered])
    behind = sum(kind == "delivered" for kind, _ in order[delivered:])
    # What was on the wire or in the same settlement goes first; what only waits does not
    assert waited_for < behind
    assert behind > RECIPIENTS / 4


def test_a_campaign_does_not_wait_for_a_larger_one(server: Server) -> None:
    large = server.campaign([f"ok-large{number}@gmail.com" for number in range(RECIPIENTS)])["campaign"]
    wait_until(lambda: server.get(f"/v1/campaigns/{large}")["delivered"] >= 50)
    small = server.campaign([f"ok-small{number}@gmail.com" for number in range(20)])["campaign"]
    assert server.wait_campaign(small)["delivered"] == 20
    server.wait_campaign(large)
    order = [(event["kind"], event["campaign"]) for event in server.events()]
    assert order.index(("campaign_finished", small)) < order.index(("campaign_finished", large))
