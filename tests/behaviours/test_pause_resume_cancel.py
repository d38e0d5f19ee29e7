"""A campaign is paused, resumed and cancelled while it runs, and each time nothing moves but what must."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.behaviours.server import Server, wait_until

RECIPIENTS = 1200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # One connection a site: a campaign takes long enough to be met in the middle
    settings = {"delivery": {"connections_per_site": 1}}
    with Server(tmp_path_factory.mktemp("steered"), settings) as started:
        yield started


def people(word: str) -> list[str]:
    return [f"ok-{word}{number}@gmail.com" for number in range(RECIPIENTS)]


def in_the_middle(server: Server, campaign: str, more: int = 50) -> None:
    before = server.get(f"/v1/campaigns/{campaign}")["delivered"]
    wait_until(lambda: server.get(f"/v1/campaigns/{campaign}")["delivered"] >= before + more)


def at_rest(server: Server, campaign: str) -> dict[str, Any]:
    """The counts once the attempts under way have ended."""
    wait_until(lambda: not server.get(f"/v1/campaigns/{campaign}")["leased"])
    found: dict[str, Any] = server.get(f"/v1/campaigns/{campaign}")
    return found


def test_paused_means_that_nothing_leaves_and_resumed_that_all_does(server: Server) -> None:
    campaign = server.campaign(people("paused"))["campaign"]
    in_the_middle(server, campaign)
    answer = server.post(f"/v1/campaigns/{campaign}/pause", {"reason": "a typo in the subject"})
    assert (answer["state"], answer["pause_reason"]) == ("paused", "a typo in the subject")
    rest = at_rest(server, campaign)
    assert 50 <= rest["delivered"] < RECIPIENTS
    accepted = server.report()["totals"]["accepted"]
    # Another message passes through the same lane: the lane is alive, the campaign stands
    server.wait_delivery(server.message("ok-meanwhile@gmail.com"))
    assert server.report()["totals"]["accepted"] == accepted + 1
    assert server.get(f"/v1/campaigns/{campaign}")["delivered"] == rest["delivered"]
    shown = Counter(row["state"] for row in server.deliveries(campaign))
    assert shown == {"delivered": rest["delivered"], "paused": RECIPIENTS - rest["delivered"]}
    assert server.post(f"/v1/campaigns/{campaign}/pause")["state"] == "paused"

    assert server.post(f"/v1/campaigns/{campaign}/resume")["state"] == "sending"
    view = server.wait_campaign(campaign)
    assert (view["state"], view["delivered"], view["pause_reason"]) == ("finished", RECIPIENTS, "")
    kinds = Counter(event["kind"] for event in server.events(campaign=campaign))
    assert kinds["campaign_paused"] == kinds["campaign_resumed"] == kinds["campaign_finished"] == 1
    assert kinds["delivered"] == RECIPIENTS
    assert server.report()["totals"]["repeats"] == 0


def test_a_pause_outlives_a_restart(server: Server) -> None:
    campaign = server.campaign(people("restarted"))["campaign"]
    in_the_middle(server, campaign)
    server.post(f"/v1/campaigns/{campaign}/pause", {"reason": "night"})
    server.restart()
    rest = at_rest(server, campaign)
    assert rest["state"] == "paused"
    server.wait_delivery(server.message("ok-morning@gmail.com"))
    assert at_rest(server, campaign)["delivered"] == rest["delivered"]
    server.post(f"/v1/campaigns/{campaign}/resume")
    assert server.wait_campaign(campaign)["delivered"] == RECIPIENTS
    assert server.report()["totals"]["repeats"] == 0


@pytest.mark.parametrize("paused_before", [False, True])
def test_cancelled_is_for_good(server: Server, paused_before: bool) -> None:
    campaign = server.campaign(people(f"cancelled{paused_before:d}-"))["campaign"]
    in_the_middle(server, campaign)
    if paused_before:
        server.post(f"/v1/campaigns/{campaign}/pause")
    assert server.post(f"/v1/campaigns/{campaign}/cancel")["state"] == "cancelled"
    view = server.wait_campaign(campaign)
    assert view["state"] == "cancelled"
    assert 50 <= view["delivered"] < RECIPIENTS
    assert view["delivered"] + view["cancelled"] == RECIPIENTS
    kinds = Counter(event["kind"] for event in server.events(campaign=campaign))
    assert (kinds["delivered"], kinds["cancelled"]) == (view["delivered"], view["cancelled"])
    copies = sum(one.recipient.startswith(f"ok-cancelled{paused_before:d}-") for one in server.inbox())
    assert copies == view["delivered"]
    refused: httpx.Response = server.http.post(f"/v1/campaigns/{campaign}/resume")
    assert refused.status_code == 409
    assert "cancelled" in refused.json()["detail"]


def test_watching_a_cancelled_campaign_ends_with_a_code_of_its_own(server: Server) -> None:
    campaign = server.campaign(people("watched"))["campaign"]
    in_the_middle(server, campaign)
    server.post(f"/v1/campaigns/{campaign}/pause")  # it would be over before a program has started
    assert server.cli("campaign", "cancel", campaign).code == 0
    ran = server.cli("campaign", "watch", campaign, "--json")
    assert ran.code == 4
    assert ran.last["cancelled"] > 0
    assert ran.last["delivered"] + ran.last["cancelled"] == RECIPIENTS
