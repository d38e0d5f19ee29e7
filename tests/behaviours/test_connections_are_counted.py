"""Two delivery processes, many sources, and what each mail host saw at once from each address: never one connection too many."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailfleet.store.sqlite import open_connection
from tests.behaviours.live import Live
from tests.behaviours.network import Network
from tests.behaviours.peer import Peer
from tests.behaviours.server import wait_until

SOURCES = 8
SITES = [f"site{number}.test" for number in range(6)]
PROVIDERS = """
[[provider]]
name = "many-houses"
label = "One provider, a mail host for each customer"
mx_suffixes = ["houses.test"]
mx_matches = [["mx0.houses.test"]]
connections = 3
provider_connections = {connections}
provider_rate = "{rate}"
"""


@pytest.fixture
def live_with(network: Network, tmp_path: Path) -> Iterator[Callable[[str], Live]]:
    """A server with two delivery processes whose own providers file holds the text; the sending domain is shop.test."""
    with contextlib.ExitStack() as closing:

        def start(providers: str) -> Live:
            file = tmp_path / "own-providers.toml"
            file.write_text(providers, "utf-8")
            delivery = {"workers": 2, "idle_connection_s": 2, "providers_file": str(file)}
            live = Live(tmp_path / "live", network, {"delivery": delivery})
            closing.enter_context(live)
            live.add_domain("shop.test")
            return live

        yield start


def sources(live: Live, count: int, limits: dict[str, object]) -> list[str]:
    """So many of them in the default pool; their addresses."""
    made = []
    for number in range(1, count + 1):
        body = {"name": f"s{number}", "address": f"127.0.78.{number}", "limits": limits}
        live.post("/v1/sources", body)
        made.append(body)
    members = [{"name": one["name"], "weight": 1} for one in made]
    live.http.patch("/v1/pools/default", json={"members": members}).raise_for_status()
    return [str(one["address"]) for one in made]


def customers(network: Network, count: int) -> tuple[Peer, list[str]]:
    """Domains of one provider, each with an MX of its own, all at one address."""
    peer = network.peer()
    domains = [f"customer{number}.{peer.host.replace('.', '-')}.test" for number in range(count)]
    for number, domain in enumerate(domains):
        host = f"mx{number}-{peer.host.replace('.', '-')}.houses.test"
        network.publish(domain, "MX", f"10 {host}.")
        network.publish(host, "A", peer.host)
    return peer, domains


def test_eight_sources_and_six_sites(live_with: Callable[[str], Live], network: Network) -> None:
    """One of the sites is shared by both processes, as it is when one cannot keep up."""
    live = live_with("")
    addresses = sources(live, SOURCES, {"connections": 2, "messages_per_connection": 7})
    peers = [network.peer() for _ in SITES]
    for domain, peer in zip(SITES, peers, strict=True):
        network.mail_domain(domain, (10, peer.host))
    for domain in SITES:
        assert live.to(f"first@{domain}")["delivery"]["state"] == "delivered"
    connection = open_connection(live.data / "mailfleet.db")
    connection.execute("UPDATE site SET shares = 2 WHERE id = (SELECT min(id) FROM site WHERE kind = 'mx')")
    connection.close()
    live.replace_delivery()  # they begin with their part
    wait_until(lambda: not any(peer.open_now for peer in peers), what=live.output)
    for peer in peers:
        peer.most_by_client.clear()
    people = [f"u{number}@{domain}" for number in range(250) for domain in SITES]
    view = live.wait_campaign(live.campaign(people, **{"from": "news@shop.test"})["campaign"])
    assert view["delivered"] == len(people)
    for domain, peer in zip(SITES, peers, strict=True):
        assert set(peer.most_by_client) == set(addresses), domain
        assert max(peer.most_by_client.values()) <= 2, f"{domain}: {peer.most_by_client}"
        sent = [sum(command.startswith("DATA") for command in session.commands) for session in peer.sessions]
        assert max(sent) <= 7, f"{domain}: {Counter(sent)}"


@pytest.mark.parametrize("most", [5, 1])
def test_a_provider_with_many_sites_has_one_limit(
    live_with: Callable[[str], Live], network: Network, most: int
) -> None:
    """Thirty customers of one provider: it sees one sender, and its limit holds for them all."""
    live = live_with(PROVIDERS.format(connections=most, rate="1000/s"))
    addresses = sources(live, 2, {})
    peer, domains = customers(network, 30)
    people = [f"u{number}@{domain}" for number in range(20) for domain in domains]
    view = live.wait_campaign(live.campaign(people, **{"from": "news@shop.test"})["campaign"], 120)
    assert view["delivered"] == len(people)
    assert set(peer.most_by_client) == set(addresses)
    assert max(peer.most_by_client.values()) == most, peer.most_by_client


def test_a_provider_with_many_sites_has_one_rate(live_with: Callable[[str], Live], network: Network) -> None:
    """Time runs 3,600 times as fast here: 40 an hour are 40 a second."""
    live = live_with(PROVIDERS.format(connections=9, rate="40/h"))
    sources(live, 1, {})
    peer, domains = customers(network, 20)
    people = [f"u{number}@{domain}" for number in range(10) for domain in domains]
    view = live.wait_campaign(live.campaign(people, **{"from": "news@shop.test"})["campaign"], 120)
    assert view["delivered"] == len(people)
    instants = [one.at_s for one in peer.messages]
    for first in instants:
        assert sum(first <= at_s < first + 1 for at_s in instants) <= 40
