"""Which mail host gets the mail: MX order, the next host when one fails, null MX, no MX at all (RFC 5321 5.1, RFC 7505)."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

import pytest

from tests.behaviours.live import Live, attempts_of
from tests.behaviours.network import Network
from tests.behaviours.peer import Peer
from tests.behaviours.server import wait_until

DOMAINS = (f"site{number}.test" for number in count())


def got(peer: Peer) -> list[str]:
    return [re.sub(r"(?i)^RCPT TO:<(.*?)>.*", r"\1", message.rcpt) for message in peer.messages]


def delivered_by(story: dict[str, Any]) -> str:
    assert story["delivery"]["state"] == "delivered", story
    return str(attempts_of(story)[-1]["ip"])


def test_the_lowest_preference_gets_the_mail(live: Live, network: Network) -> None:
    domain, (third, first, second) = next(DOMAINS), [network.peer() for _ in range(3)]
    network.mail_domain(domain, (30, third.host), (10, first.host), (20, second.host))
    for number in range(5):
        assert delivered_by(live.to(f"ann{number}@{domain}")) == first.host
    assert sorted(got(first)) == [f"ann{number}@{domain}" for number in range(5)]
    assert not second.sessions
    assert not third.sessions


DEAD = {
    "nobody listens": None,
    "421 instead of a greeting": "421 4.3.2 shutting down",
    "450 instead of a greeting": "450 4.3.2 not now",
    "554 instead of a greeting": "554 5.3.2 no mail here",
}


@pytest.mark.parametrize("how", DEAD)
def test_the_next_host_takes_over_from_one_that_fails(live: Live, network: Network, how: str) -> None:
    domain, well, never = next(DOMAINS), network.peer(), network.peer()
    greeting = DEAD[how]
    dead = network.address() if greeting is None else network.peer(greeting=greeting).host
    network.mail_domain(domain, (20, well.host), (10, dead), (30, never.host))
    story = live.to(f"ann@{domain}")
    assert delivered_by(story) == well.host
    assert story["delivery"]["attempts"] == 1  # within one attempt
    assert got(well) == [f"ann@{domain}"]
    assert not never.sessions


def test_421_to_ehlo_leads_to_the_next_host(live: Live, network: Network) -> None:
    domain, well = next(DOMAINS), network.peer()
    busy = network.peer(answer=lambda verb, line: "421 4.3.2 too busy" if verb == "EHLO" else None)
    network.mail_domain(domain, (10, busy.host), (20, well.host))
    assert delivered_by(live.to(f"ann@{domain}")) == well.host
    assert busy.sessions


def test_a_host_without_an_address_is_passed_over(live: Live, network: Network) -> None:
    domain, well = next(DOMAINS), network.peer()
    network.publish(domain, "MX", f"5 nowhere.{domain}.", f"10 mx.{domain}.")
    network.publish(f"mx.{domain}", "A", well.host)
    assert delivered_by(live.to(f"ann@{domain}")) == well.host


def test_every_address_of_a_host_is_tried(live: Live, network: Network) -> None:
    domain, well = next(DOMAINS), network.peer()
    network.publish(domain, "MX", f"10 mx.{domain}.")
    network.publish(f"mx.{domain}", "A", network.address(), well.host, network.address())
    assert delivered_by(live.to(f"ann@{domain}")) == well.host


def test_hosts_of_one_preference_share_the_mail(live: Live, network: Network) -> None:
    domain, twins = next(DOMAINS), [network.peer(), network.peer()]
    network.mail_domain(domain, (10, twins[0].host), (10, twins[1].host))
    # Each connection is a throw of a coin: many of them, so that both sides show
    live.http.patch("/v1/sources/default", json={"limits": {"messages_per_connection": 4}}).raise_for_status()
    campaign = live.campaign([f"ann{number}@{domain}" for number in range(200)], **{"from": "news@shop.test"})
    assert live.wait_campaign(campaign["campaign"])["delivered"] == 200
    assert all(peer.messages for peer in twins)
    assert sum(len(peer.messages) for peer in twins) == 200


def test_a_host_that_comes_back_gets_the_mail(live: Live, network: Network) -> None:
    domain = next(DOMAINS)
    refusals = iter(["421 4.3.2 later"] * 3)
    peer = network.peer(answer=lambda verb, line: next(refusals, None) if verb == "MAIL" else None)
    network.mail_domain(domain, (10, peer.host))
    story = live.to(f"ann@{domain}")
    assert [event["kind"] for event in story["events"]] == ["accepted", *["deferred"] * 3, "delivered"]
    assert attempts_of(story)[0]["reply"] == "421 4.3.2 later"


def test_the_answer_of_a_host_that_was_reached_stands(live: Live, network: Network) -> None:
    domain, backup = next(DOMAINS), network.peer()
    answers = iter(["451 4.7.1 greylisted, come back"])
    first = network.peer(answer=lambda verb, line: next(answers, None) if verb == "RCPT" else None)
    network.mail_domain(domain, (10, first.host), (20, backup.host))
    story = live.to(f"ann@{domain}")
    assert delivered_by(story) == first.host
    assert not backup.sessions  # RFC 5321 5.1: the host was reached, this is its answer


def test_null_mx_bounces_at_once(live: Live, network: Network) -> None:
    domain = next(DOMAINS)
    network.publish(domain, "MX", "0 .")
    network.publish(domain, "A", network.peer().host)
    story = live.to(f"ann@{domain}")
    assert story["delivery"]["state"] == "bounced"
    assert story["delivery"]["attempts"] == 1
    assert "null MX" in story["delivery"]["reason"]


def test_without_mx_the_domain_itself_is_the_host(live: Live, network: Network) -> None:
    domain, peer = next(DOMAINS), network.peer()
    network.publish(domain, "A", peer.host)
    story = live.to(f"ann@{domain}")
    assert delivered_by(story) == peer.host
    assert attempts_of(story)[0]["mx"] == domain


def test_a_domain_that_does_not_exist_bounces(live: Live) -> None:
    story = live.to("ann@nowhere-at-all.test")
    assert story["delivery"]["state"] == "bounced"
    assert "does not exist" in story["delivery"]["reason"]


def test_an_address_literal_is_its_own_host(live: Live, network: Network) -> None:
    peer = network.peer()
    assert delivered_by(live.to(f"ann@[{peer.host}]")) == peer.host


def test_dns_that_does_not_answer_is_asked_again(live: Live, network: Network) -> None:
    domain, peer = next(DOMAINS), network.peer()
    network.mail_domain(domain, (10, peer.host))
    network.zone.servfail.add(f"{domain}.")
    delivery = live.message(f"ann@{domain}", **{"from": "shop@shop.test"})
    wait_until(lambda: live.get(f"/v1/deliveries/{delivery}")["delivery"]["attempts"] > 0)
    assert live.get(f"/v1/deliveries/{delivery}")["delivery"]["bounce_class"] == "dns"
    network.zone.servfail.clear()
    assert delivered_by(live.wait_delivery(delivery)) == peer.host


def test_a_host_outside_this_machine_is_never_connected_to(live: Live, network: Network) -> None:
    domain = next(DOMAINS)
    network.mail_domain(domain, (10, "192.0.2.1"))
    delivery = live.message(f"ann@{domain}", **{"from": "shop@shop.test"})
    tried = wait_until(lambda: attempts_of(live.get(f"/v1/deliveries/{delivery}")))
    assert tried[0]["phase"] == "connect"
    assert "limited to loopback" in tried[0]["detail"]
