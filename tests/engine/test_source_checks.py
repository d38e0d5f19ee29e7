"""Whether a source's EHLO name and its address lead to each other, on a real Knot, behind a translated address too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet.engine.domain_checks import DomainChecker
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.policy_fetch import PolicyFetcher
from mailfleet.net.resolver import Resolver
from mailfleet.net.tls_client import verified_context
from mailfleet.policy.dns_checks import Check
from tests.engine.plant import Plant
from tests.peers.knot import Knot

MAIN = "127.0.93.1"
EHLO, PUBLIC, OTHER = "out.shop.test", "8.8.7.7", "8.8.7.8"
REVERSE = "7.8.8.in-addr.arpa"
FORWARD, BACK = [f"out A {PUBLIC}"], [f"7 PTR {EHLO}."]


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    made = Knot(tmp_path / "knot", {"shop.test": [], REVERSE: []}, addresses=(MAIN,))
    yield made
    made.close()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_name_and_address_lead_to_each_other(plant: Plant, knot: Knot) -> None:
    dns = Authoritative(DnsQuerier([knot.address], 10, plant.clock), timeout_s=10, port=knot.port, loopback_only=True)
    fetcher = PolicyFetcher(
        Resolver([knot.address], 10, plant.clock), verified_context(""), port=9, ipv6=False, loopback_only=True
    )
    checker = DomainChecker(dns, None, fetcher, defaults=SourceDefaults("mail.shop.test"))

    async def look(address: str, forward: list[str], back: list[str]) -> list[Check]:
        knot.replace("shop.test", forward)
        knot.replace(REVERSE, back)
        plant.clock.skip(4000)  # past what resolvers remember
        found = await checker.source("s1", EHLO, address)
        assert [one.name for one in found] == ["host:s1", "ptr:s1"]
        return found

    async def states(address: str, forward: list[str], back: list[str]) -> tuple[str, str]:
        host, pointer = await look(address, forward, back)
        return host.state, pointer.state

    for address in (PUBLIC, ""):  # its own, and one that only the world sees
        assert await states(address, FORWARD, BACK) == ("ok", "ok")
        assert await states(address, FORWARD, []) == ("ok", "failed")
        assert await states(address, FORWARD, ["7 PTR x.isp.test."]) == ("ok", "failed")
    two = [*FORWARD, f"out A {OTHER}"]
    assert await states("", two, BACK) == ("ok", "failed"), "each address needs its name"
    assert await states("", two, [*BACK, f"8 PTR {EHLO}."]) == ("ok", "ok")
    assert await states("", [*FORWARD, "out A 10.0.0.7"], BACK) == ("ok", "ok"), "nobody asks for that of the other"

    step = f"publish the address that the world sees at {EHLO} (A, AAAA)"
    host, pointer = await look("", [], BACK)
    assert (host.state, pointer.state) == ("failed", "unknown")
    assert pointer.next_step == step
    host, pointer = await look("", ["out A 10.0.0.7"], BACK)
    assert (host.state, host.found, host.next_step, pointer.state) == ("warning", "10.0.0.7", step, "unknown")
