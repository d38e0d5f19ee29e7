"""Names of addresses, asked of a real DNS server on loopback: none counts that does not lead back."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import AsyncIterator

import pytest

from mailfleet.base.clock import SystemClock
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.reverse_names import ReverseNames
from tests.net.zone_server import ZoneServer

HOSTS = {
    "192.0.2.1": ("Mail.Shop.Example.",),
    "192.0.2.2": ("google.com.",),  # says whoever has the address
    "192.0.2.3": ("nowhere.example.", "mail.shop.example.", "many.example."),
    "2001:db8::25": ("six.example.",),
    "192.0.2.9": ("mute.example.",),
}
ZONE = """
$TTL 300
@ IN SOA ns.example. hostmaster.example. 1 7200 600 86400 90
@ IN NS ns.example.
mail.shop.example. IN A 192.0.2.7
mail.shop.example. IN A 192.0.2.1
google.com. IN A 198.51.100.1
many.example. IN A 192.0.2.3
six.example. IN AAAA 2001:db8:0::25
mute.example. IN A 192.0.2.9
""" + "".join(
    f"{ipaddress.ip_address(address).reverse_pointer}. IN PTR {name}\n"
    for address, names in HOSTS.items()
    for name in names
)


@pytest.fixture
async def zone() -> AsyncIterator[ZoneServer]:
    async with ZoneServer(".", ZONE).run() as server:
        yield server


async def test_a_name_counts_when_it_leads_back(zone: ZoneServer) -> None:
    names = ReverseNames(DnsQuerier([f"127.0.0.1:{zone.port}"], 2.0, SystemClock()))
    asked = [*HOSTS, "192.0.2.200", "192.0.2.1"]
    random.shuffle(asked)
    assert await names.of(asked, 10) == {
        "192.0.2.1": "mail.shop.example",
        "192.0.2.3": "many.example",
        "2001:db8::25": "six.example",
        "192.0.2.9": "mute.example",
    }
    before = sum(zone.asked.values())
    await names.of(asked, 10)
    assert sum(zone.asked.values()) == before, "it is remembered"
    assert await names.of([], 10) == {}


async def test_who_is_slow_holds_up_nobody(zone: ZoneServer) -> None:
    zone.silent.add("mute.example.")
    names = ReverseNames(DnsQuerier([f"127.0.0.1:{zone.port}"], 30.0, SystemClock()))
    async with asyncio.timeout(25):
        assert await names.of(HOSTS, 1.5) == {
            "192.0.2.1": "mail.shop.example",
            "192.0.2.3": "many.example",
            "2001:db8::25": "six.example",
        }
