"""Locating against a real name server: every kind of answer becomes a site, and the slow ones hold up nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mailfleet.base.gauges import Gauges
from mailfleet.config.metrics import CATALOGUE
from mailfleet.engine.counts import DeliveryCounts
from mailfleet.engine.descriptors import Descriptors
from mailfleet.engine.locate import AGAIN_AFTER_FAILURE_S, Locator, site_key
from mailfleet.net.resolver import MailHosts, MxHost, Resolver
from tests.engine.plant import Plant, until
from tests.net.zone_server import ZoneServer

ZONE = """
$TTL 300
@ SOA ns.test. me.test. 1 2 3 4 60
  NS ns.test.
one MX 10 mx.test.
two MX 5 mx.test.
three MX 5 mx.test.
three MX 7 mx2.test.
bare A 127.0.0.1
null MX 0 .
text TXT "no mail here"
broken MX 10 mx.test.
silent MX 10 mx.test.
mx A 127.0.0.1
mx2 A 127.0.0.2
"""


@pytest.fixture
async def zone() -> AsyncIterator[ZoneServer]:
    server = ZoneServer("test.", ZONE)
    server.servfail.add("broken.test.")
    server.silent.add("silent.test.")
    async with server.run():
        yield server


def locator(plant: Plant, zone: ZoneServer, *, slot: int = 0, slots: int = 1, patience_s: float = 10) -> Locator:
    return Locator(
        plant.database,
        Resolver([f"127.0.0.1:{zone.port}"], patience_s, plant.clock),
        lambda hosts: "gmail" if "mx2.test" in hosts else None,
        slot=slot,
        slots=slots,
        clock=plant.clock,
        time_scale=1,
        descriptors=Descriptors(plant.clock),
        counts=DeliveryCounts(Gauges(CATALOGUE)),
    )


async def sites_of(plant: Plant) -> dict[str, tuple[str, str, str]]:
    """``domain -> (site key, kind, provider)``."""
    found = await plant.rows(
        "SELECT d.name, s.key, s.kind, s.provider FROM mail_domain d JOIN site s ON s.id = d.site_id ORDER BY d.name"
    )
    return {name: (key, kind, provider) for name, key, kind, provider in found}


async def located(plant: Plant, one: Locator, count: int) -> None:
    """Run until that many domains have a site."""
    task = asyncio.create_task(one.run())

    async def enough() -> bool:
        return len(await sites_of(plant)) >= count

    await until(enough)
    await until(lambda: not one._running)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await one.stop()


async def test_every_answer_is_a_site(plant: Plant, zone: ZoneServer) -> None:
    names = ["one", "two", "three", "bare", "null", "text", "gone", "broken"]
    await plant.upload(*(f"a@{name}.test" for name in names), "a@[127.0.0.1]")
    await located(plant, locator(plant, zone), 9)
    assert await sites_of(plant) == {
        "one.test": ("0:mx.test", "mx", ""),
        "two.test": ("0:mx.test", "mx", ""),
        "three.test": ("0:mx.test,1:mx2.test", "mx", "gmail"),
        "bare.test": ("0:bare.test", "implicit", ""),
        "null.test": ("null-mx", "null-mx", ""),
        "text.test": ("no-mail-host", "no-mail-host", ""),
        "gone.test": ("no-such-domain", "no-such-domain", ""),
        "broken.test": ("temporary:broken.test", "temporary", ""),
        "[127.0.0.1]": ("0:[127.0.0.1]", "implicit", ""),
    }
    moved = await plant.rows(
        "SELECT count(*) FROM delivery d JOIN mail_domain m ON m.id = d.domain_id WHERE d.site_id = m.site_id"
    )
    assert moved == [(9,)]


async def test_a_silent_name_server_holds_up_no_other_domain(plant: Plant, zone: ZoneServer) -> None:
    await plant.upload("a@silent.test", "a@one.test")
    one = locator(plant, zone)
    task = asyncio.create_task(one.run())

    async def known() -> bool:
        return "one.test" in await sites_of(plant)

    await until(known)
    assert "silent.test" not in await sites_of(plant)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await one.stop()
    assert not one._running


async def test_a_failed_look_up_is_tried_again_in_time_and_moves_what_waits(plant: Plant, zone: ZoneServer) -> None:
    await plant.upload("a@broken.test")
    one = locator(plant, zone)
    await located(plant, one, 1)
    asked = zone.asked["broken.test.", "MX", "udp"]
    zone.servfail.clear()
    await located(plant, one, 1)
    assert zone.asked["broken.test.", "MX", "udp"] == asked, "not before its time"
    plant.clock.skip(AGAIN_AFTER_FAILURE_S + 1)
    task = asyncio.create_task(one.run())

    async def found() -> bool:
        return (await sites_of(plant))["broken.test"][1] == "mx"

    await until(found)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await one.stop()
    assert await plant.rows("SELECT count(*) FROM delivery d JOIN site s ON s.id = d.site_id WHERE s.kind = 'mx'") == [
        (1,)
    ]


async def test_a_domain_nobody_writes_to_is_left_alone(plant: Plant, zone: ZoneServer) -> None:
    await plant.upload("a@one.test")
    one = locator(plant, zone)
    await located(plant, one, 1)
    await plant.database.write(lambda tx: tx.run("UPDATE delivery SET state = 3"))
    asked = dict(zone.asked)
    plant.clock.skip(4000)

    async def resting() -> bool:
        return await plant.rows("SELECT next_locate_ms FROM mail_domain") == [(0,)]

    task = asyncio.create_task(one.run())
    await until(resting)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await one.stop()
    assert dict(zone.asked) == asked


async def test_slots_share_the_work(plant: Plant, zone: ZoneServer) -> None:
    await plant.upload("a@one.test", "a@two.test", "a@three.test", "a@null.test")
    await located(plant, locator(plant, zone, slot=0, slots=2), 2)
    assert len(await sites_of(plant)) == 2
    await located(plant, locator(plant, zone, slot=1, slots=2), 4)


async def test_a_look_up_that_crashes_does_not_spin(
    plant: Plant, zone: ZoneServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plant.upload("a@one.test", "a@two.test")
    one, asked = locator(plant, zone), []
    mail_hosts = one._resolver.mail_hosts

    async def crash(domain: str) -> MailHosts:
        asked.append(domain)
        if domain == "one.test":
            raise ZeroDivisionError("a bug")
        return await mail_hosts(domain)

    monkeypatch.setattr(one._resolver, "mail_hosts", crash)
    task = asyncio.create_task(one.run())

    async def known() -> bool:
        return "two.test" in await sites_of(plant)

    await until(known)
    await asyncio.sleep(0.2)
    assert asked.count("one.test") == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await one.stop()


def test_what_makes_two_domains_one_site() -> None:
    def mx(*hosts: tuple[int, str]) -> MailHosts:
        return MailHosts("mx", tuple(MxHost(*host) for host in hosts), ttl_s=60)

    assert site_key("a.test", mx((10, "x"), (20, "y"))) == site_key("b.test", mx((1, "x"), (9, "y")))
    assert site_key("a.test", mx((10, "x"), (10, "y"))) == site_key("b.test", mx((5, "y"), (5, "x")))
    assert site_key("a.test", mx((10, "x"), (20, "y"))) != site_key("a.test", mx((20, "x"), (10, "y")))
    assert site_key("a.test", mx((10, "x"), (10, "y"))) != site_key("a.test", mx((10, "x"), (20, "y")))
    assert site_key("a.test", MailHosts("null-mx")) == site_key("b.test", MailHosts("null-mx"))
    assert site_key("a.test", MailHosts("temporary")) != site_key("b.test", MailHosts("temporary"))
