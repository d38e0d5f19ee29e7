"""Proofs for an authority in the DNS, on a real Knot: where they are put, and that they go again from there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet.base.errors import ConflictError
from mailfleet.engine.dns_proofs import TIDY_EVERY_S, DnsProofs
from mailfleet.engine.dns_publish import DnsPublisher
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.dns_update import DynamicUpdate
from mailfleet.store import dns as dns_rows
from mailfleet.store.database import Tx
from mailfleet.store.dns import NOBODY, Target
from tests.engine.plant import Plant
from tests.peers.knot import KEY, SECRET, Knot

SHOP = [
    "_acme-challenge.a CNAME one.proofs.test.",
    "_acme-challenge.b CNAME hop",
    "hop CNAME one.proofs.test.",
    "_acme-challenge.round CNAME _acme-challenge.round",
    "_acme-challenge.child CNAME x.child.proofs.test.",
    "_acme-challenge.gone CNAME x.nowhere.test.",
]
ZONES = {
    "test": ["shop NS ns.shop", "proofs NS ns.proofs"],
    "shop.test": SHOP,
    "proofs.test": ["child NS ns.child", "ns.child A 127.0.0.1"],
    "child.proofs.test": [],
}


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    made = Knot(tmp_path / "knot", ZONES, secret=SECRET)
    yield made
    made.close()


async def proofs_of(plant: Plant, knot: Knot, *, zones: tuple[str, ...] = ("shop.test", "proofs.test")) -> DnsProofs:
    """Of a process that has just begun. Each zone is written to at the server that its row names."""

    def add(tx: Tx) -> None:
        for number, zone in enumerate(zones, 1 + len(dns_rows.targets(tx))):
            dns_rows.add_target(tx, Target(number, 1, zone, "rfc2136", str(knot.port), KEY, "hmac-sha256", None, 0))

    await plant.database.write(add)
    querier = DnsQuerier([knot.address], 10, plant.clock)
    authoritative = Authoritative(querier, timeout_s=10, port=knot.port, loopback_only=True)

    def writer_of(target: Target) -> DynamicUpdate:
        where = ("127.0.0.1", int(target.server))
        return DynamicUpdate(target.zone, where, key_name=KEY, secret=SECRET, loopback_only=True)

    publisher = DnsPublisher(plant.database, authoritative, writer_of, plant.clock, ttl_s=1)
    return DnsProofs(plant.database, authoritative, publisher, plant.clock)


def texts(knot: Knot, zone: str) -> list[str]:
    return [line for line in knot.everything(zone) if " TXT " in line]


async def test_two_hosts_at_one_name_do_not_disturb_each_other(plant: Plant, knot: Knot) -> None:
    proofs, before = await proofs_of(plant, knot), knot.everything("shop.test")
    await asyncio.gather(proofs.put("a.shop.test", "first"), proofs.put("b.shop.test", "second"))
    assert texts(knot, "proofs.test") == [f'one.proofs.test. 1 TXT "{text}"' for text in ("first", "second")]
    await proofs.take_away(["first"])
    assert texts(knot, "proofs.test") == ['one.proofs.test. 1 TXT "second"']
    await proofs.take_away(["second"])
    assert texts(knot, "proofs.test") == []
    assert knot.everything("shop.test") == before


async def test_what_a_crash_left_goes_from_where_it_was_put(plant: Plant, knot: Knot) -> None:
    await (await proofs_of(plant, knot)).put("a.shop.test", "left")
    knot.replace("shop.test", ["_acme-challenge.a CNAME elsewhere"])
    await (await proofs_of(plant, knot, zones=())).tidy()
    assert texts(knot, "proofs.test") == []
    assert await plant.database.read(lambda tx: dns_rows.own_records(tx, NOBODY)) == []


async def test_a_zone_that_cannot_be_tidied_holds_up_no_other(plant: Plant, knot: Knot) -> None:
    proofs = await proofs_of(plant, knot)
    await proofs.put("a.shop.test", "left")
    await plant.database.write(lambda tx: dns_rows.remove_target(tx, "proofs.test"))
    await proofs.put("plain.shop.test", "other")
    await proofs.take_away(["left", "other"])
    assert texts(knot, "shop.test") == []
    assert texts(knot, "proofs.test") == ['one.proofs.test. 1 TXT "left"']
    await proofs_of(plant, knot, zones=("proofs.test",))
    await proofs.tidy()
    plant.clock.skip(TIDY_EVERY_S)
    await proofs.tidy()
    assert texts(knot, "proofs.test") == []


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("round", "dns-01: _acme-challenge.round.shop.test: too many aliases follow one another"),
        ("child", "of x.child.proofs.test, and nobody said how the zone of that is written to (mailfleet dns add child.proofs.test,"),
        ("gone", "of x.nowhere.test, and nobody said how the zone of that is written to (mailfleet dns add nowhere.test,"),
    ],
)  # fmt: skip
async def test_an_alias_that_leads_nowhere_is_told_at_once(plant: Plant, knot: Knot, host: str, words: str) -> None:
    proofs, before = await proofs_of(plant, knot), {zone: knot.everything(zone) for zone in ZONES}
    with pytest.raises(ConflictError) as caught:
        await proofs.put(f"{host}.shop.test", "nobody's")
    assert words in str(caught.value)
    assert {zone: knot.everything(zone) for zone in ZONES} == before
