"""Where mail for a domain goes, asked of a real DNS server on loopback."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from mailfleet.base.errors import ConfigError
from mailfleet.net.dns_query import DnsTemporary
from mailfleet.net.resolver import MxHost, Resolver
from tests.net.zone_server import ZoneServer

ZONE = """
$TTL 300
@ IN SOA ns hostmaster 1 7200 600 86400 90
@ IN NS ns
ns IN A 127.0.0.1
shop IN MX 20 mx2.shop
shop IN MX 10 MX1.shop
shop IN MX 10 mx3.shop
shop IN MX 30 mx1.shop
mx1.shop IN A 127.0.0.2
mx1.shop IN A 127.0.0.3
mx1.shop IN AAAA ::1
plain IN A 127.0.0.4
six IN AAAA ::1
empty IN TXT "nothing here"
null IN MX 0 .
half-null IN MX 0 .
half-null IN MX 10 mx1.shop
alias IN CNAME shop
dangling IN CNAME nowhere
brief 5 IN A 127.0.0.5
long 999999 IN A 127.0.0.6
broken IN A 127.0.0.7
mute IN A 127.0.0.8
large IN A 127.0.0.9
large IN MX 5 mx1.shop
"""


class TestClock:
    """A clock that moves when told."""

    __test__ = False

    def __init__(self) -> None:
        self.at_s = 1000.0

    def now_ms(self) -> int:
        return int(self.at_s * 1000)

    def monotonic_s(self) -> float:
        return self.at_s

    async def sleep(self, delay_s: float) -> None:
        self.at_s += delay_s


@pytest.fixture
async def zone() -> AsyncIterator[ZoneServer]:
    async with ZoneServer("example.test.", ZONE).run() as server:
        yield server


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def resolver(zone: ZoneServer, clock: TestClock) -> Resolver:
    return Resolver([f"127.0.0.1:{zone.port}"], 10, clock, random.Random(1))


async def test_mx_hosts_come_by_preference_each_name_once(resolver: Resolver) -> None:
    found = await resolver.mail_hosts("shop.example.test")
    assert found.kind == "mx"
    assert {host.name for host in found.hosts[:2]} == {"mx1.shop.example.test", "mx3.shop.example.test"}
    assert found.hosts[2] == MxHost(20, "mx2.shop.example.test")
    assert found.ttl_s == 300


async def test_hosts_of_equal_preference_take_turns_at_random(resolver: Resolver) -> None:
    first = {(await resolver.mail_hosts("shop.example.test")).hosts[0].name for _ in range(40)}
    assert first == {"mx1.shop.example.test", "mx3.shop.example.test"}


async def test_without_mx_the_domain_itself_is_the_host(resolver: Resolver) -> None:
    for name in ("plain.example.test", "six.example.test"):
        found = await resolver.mail_hosts(name)
        assert (found.kind, found.hosts) == ("implicit", (MxHost(0, name),))


async def test_a_null_mx_says_that_the_domain_takes_no_mail(resolver: Resolver) -> None:
    found = await resolver.mail_hosts("null.example.test")
    assert (found.kind, found.hosts) == ("null-mx", ())
    assert "takes no mail" in found.detail


async def test_a_root_mx_beside_others_is_passed_over(resolver: Resolver) -> None:
    found = await resolver.mail_hosts("half-null.example.test")
    assert (found.kind, found.hosts) == ("mx", (MxHost(10, "mx1.shop.example.test"),))


async def test_a_domain_that_is_not_there(resolver: Resolver) -> None:
    found = await resolver.mail_hosts("nowhere.example.test")
    assert (found.kind, found.ttl_s) == ("no-such-domain", 90)  # the SOA record's MINIMUM
    assert await resolver.addresses("nowhere.example.test", ipv6=True) == []


async def test_a_domain_with_neither_mx_nor_address(resolver: Resolver) -> None:
    assert (await resolver.mail_hosts("empty.example.test")).kind == "no-mail-host"


async def test_an_alias_is_followed(resolver: Resolver) -> None:
    found = await resolver.mail_hosts("alias.example.test")
    assert found.kind == "mx"
    assert len(found.hosts) == 3
    assert (await resolver.mail_hosts("dangling.example.test")).kind == "no-such-domain"


async def test_a_server_failure_is_temporary_and_never_becomes_an_implicit_mx(
    resolver: Resolver, zone: ZoneServer
) -> None:
    zone.servfail.add("broken.example.test.")
    found = await resolver.mail_hosts("broken.example.test")
    assert (found.kind, found.hosts) == ("temporary", ())
    assert "SERVFAIL" in found.detail
    with pytest.raises(DnsTemporary, match="SERVFAIL"):
        await resolver.addresses("broken.example.test", ipv6=True)


async def test_a_silent_server_is_temporary_and_named(zone: ZoneServer, clock: TestClock) -> None:
    zone.silent.add("mute.example.test.")
    found = await Resolver([f"127.0.0.1:{zone.port}"], 0.1, clock).mail_hosts("mute.example.test")
    assert found.kind == "temporary"
    assert "no server answered in time" in found.detail
    assert zone.asked["mute.example.test.", "MX", "udp"] >= 2


async def test_nobody_at_the_name_server_is_temporary(clock: TestClock) -> None:
    async with ZoneServer("example.test.", ZONE).run() as server:
        port = server.port
    assert (await Resolver([f"127.0.0.1:{port}"], 0.1, clock).mail_hosts("shop.example.test")).kind == "temporary"


async def test_an_answer_cut_short_is_asked_for_again_over_tcp(resolver: Resolver, zone: ZoneServer) -> None:
    zone.cut.add("large.example.test.")
    assert (await resolver.mail_hosts("large.example.test")).hosts == (MxHost(5, "mx1.shop.example.test"),)
    assert zone.asked["large.example.test.", "MX", "tcp"] == 1


async def test_addresses_of_both_families_ipv6_first(resolver: Resolver) -> None:
    both = await resolver.addresses("mx1.shop.example.test", ipv6=True)
    assert both[0] == "::1"
    assert sorted(both[1:]) == ["127.0.0.2", "127.0.0.3"]
    assert sorted(await resolver.addresses("mx1.shop.example.test", ipv6=False)) == ["127.0.0.2", "127.0.0.3"]


async def test_address_literals_need_no_dns(resolver: Resolver, zone: ZoneServer) -> None:
    assert (await resolver.mail_hosts("[127.0.0.1]")).hosts == (MxHost(0, "[127.0.0.1]"),)
    assert await resolver.addresses("[127.0.0.1]", ipv6=False) == ["127.0.0.1"]
    assert await resolver.addresses("[IPv6:::1]", ipv6=True) == ["::1"]
    assert await resolver.addresses("[IPv6:::1]", ipv6=False) == []
    assert not zone.asked


async def test_answers_are_kept_for_their_ttl_and_not_longer(
    resolver: Resolver, zone: ZoneServer, clock: TestClock
) -> None:
    question = ("shop.example.test.", "MX", "udp")
    await resolver.mail_hosts("shop.example.test")
    clock.at_s += 299
    assert (await resolver.mail_hosts("SHOP.example.test")).ttl_s == pytest.approx(1)
    assert zone.asked[question] == 1
    clock.at_s += 1
    await resolver.mail_hosts("shop.example.test")
    assert zone.asked[question] == 2


@pytest.mark.parametrize(("name", "kept_s"), [("brief", 30), ("long", 3600), ("nowhere", 90)])
async def test_the_time_kept_has_bounds(
    resolver: Resolver, zone: ZoneServer, clock: TestClock, name: str, kept_s: int
) -> None:
    question = (f"{name}.example.test.", "A", "udp")
    for step_s, asked in ((0, 1), (kept_s - 1, 1), (1, 2)):
        clock.at_s += step_s
        await resolver.addresses(f"{name}.example.test", ipv6=False)
        assert zone.asked[question] == asked


async def test_a_failure_is_kept_for_moments_only(resolver: Resolver, zone: ZoneServer, clock: TestClock) -> None:
    zone.servfail.add("shop.example.test.")
    assert (await resolver.mail_hosts("shop.example.test")).kind == "temporary"
    zone.servfail.clear()
    assert (await resolver.mail_hosts("shop.example.test")).kind == "temporary"
    clock.at_s += 10
    assert (await resolver.mail_hosts("shop.example.test")).kind == "mx"


async def test_the_same_question_at_the_same_time_is_asked_once(resolver: Resolver, zone: ZoneServer) -> None:
    found = await asyncio.gather(*(resolver.mail_hosts("shop.example.test") for _ in range(50)))
    assert {answer.kind for answer in found} == {"mx"}
    assert zone.asked["shop.example.test.", "MX", "udp"] == 1


async def test_one_who_stops_waiting_does_not_stop_the_others(resolver: Resolver) -> None:
    first = asyncio.create_task(resolver.mail_hosts("shop.example.test"))
    second = asyncio.create_task(resolver.mail_hosts("shop.example.test"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).kind == "mx"
    assert first.cancelled()


async def test_a_name_that_dns_cannot_carry_does_not_exist(resolver: Resolver) -> None:
    assert (await resolver.mail_hosts("a" * 64 + ".test")).kind == "no-such-domain"


@pytest.mark.parametrize("text", ["ns.example", "127.0.0.1:", "127.0.0.1:99999", "[::1", "1.2.3:53"])
def test_a_name_server_must_be_an_address(text: str, clock: TestClock) -> None:
    with pytest.raises(ConfigError, match=r"dns\.nameservers"):
        Resolver([text], 1, clock)


def test_name_servers_of_every_form(clock: TestClock) -> None:
    Resolver(["127.0.0.1", "127.0.0.1:5354", "::1", "[::1]:5354"], 1, clock)
