"""A round over many domains on a real Knot, where the servers of one never answer and the row of another is broken."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailfleet.engine.dns_plans import PlanWriter
from mailfleet.engine.domain_checks import DomainChecker
from mailfleet.engine.domains import AT_ONCE, Domains
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.policy_fetch import PolicyFetcher
from mailfleet.net.resolver import Resolver
from mailfleet.net.server_turns import ServerTurns
from mailfleet.net.tls_client import verified_context
from mailfleet.store import dns as dns_rows
from mailfleet.store import sending
from mailfleet.store.database import Tx
from tests.engine.plant import DOMAIN, HOST, Plant
from tests.peers.knot import Knot

MAIN, HOLE = "127.0.87.1", "127.0.87.2"
SILENT, BROKEN = "a-silent.test", "b-broken.test"
GOOD = [f"good{n}.test" for n in range(AT_ONCE + 2)]
ZONE = ["@ MX 10 mail", "mail A 127.0.0.9", '_dmarc TXT "v=DMARC1; p=none"']

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    """It knows where the servers of each zone are; those of one are a socket that nobody reads."""
    zones = dict.fromkeys([*GOOD, BROKEN, SILENT], ZONE)
    made = Knot(tmp_path / "knot", zones, addresses=(MAIN,), elsewhere={SILENT: HOLE})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind((HOLE, made.port))
        yield made
    made.close()


def looking(plant: Plant, knot: Knot, timeout_s: float) -> Domains:
    authoritative = Authoritative(
        DnsQuerier([knot.address], 10, plant.clock),
        timeout_s=timeout_s, port=knot.port, loopback_only=True, turns=ServerTurns.of_rounds(plant.clock),
    )  # fmt: skip
    fetcher = PolicyFetcher(
        Resolver([knot.address], 10, plant.clock), verified_context(""), port=9, ipv6=False, loopback_only=True
    )
    publisher: Any = None  # nothing is published
    defaults = SourceDefaults(HOST, private=True)
    return Domains(
        plant.database, DomainChecker(authoritative, None, fetcher, defaults=defaults), publisher,
        PlanWriter(authoritative, {}, 1), plant.dmarc,
        defaults=defaults, clock=plant.clock, ids=plant.ids, time_scale=1,
    )  # fmt: skip


async def due(plant: Plant) -> None:
    """The silent and the broken one first, then all others."""

    def prepare(tx: Tx) -> None:
        for place, name in enumerate([SILENT, BROKEN, *GOOD]):
            found = sending.by_name(tx, name)
            assert found is not None
            policy = "nonsense" if name == BROKEN else "none"
            sending.update(tx, found._replace(dmarc_policy=policy))
            tx.run("UPDATE sending_domain SET next_check_ms = ? WHERE id = ?", (place, found.id))
        own = sending.by_name(tx, DOMAIN)
        assert own is not None
        sending.remove(tx, own.id)

    for name in [SILENT, BROKEN, *GOOD]:
        await plant.add_domain(name)
    await plant.database.write(prepare)


async def booked(plant: Plant) -> set[str]:
    """Domains of which something is known, once their next time is set."""
    rows = await plant.rows(
        "SELECT DISTINCT name FROM sending_domain WHERE next_check_ms > 1000 AND name IN (SELECT subject FROM domain_check)"
    )
    return {name for (name,) in rows}


async def test_one_that_waits_holds_up_nobody_and_ends_at_once(plant: Plant, knot: Knot) -> None:
    await due(plant)
    under_way = asyncio.create_task(looking(plant, knot, 60).run_due())
    while await booked(plant) != set(GOOD):
        assert not under_way.done()
        await asyncio.sleep(0.02)
    under_way.cancel()
    async with asyncio.timeout(30):  # the stop of a server waits for no answer
        await asyncio.gather(under_way, return_exceptions=True)
    assert under_way.cancelled()
    assert await booked(plant) == set(GOOD)


async def test_each_is_booked_whatever_becomes_of_the_others(plant: Plant, knot: Knot) -> None:
    await due(plant)
    assert await looking(plant, knot, 2).run_due() == len(GOOD) + 2
    assert await booked(plant) == {*GOOD, SILENT}
    standing = await plant.database.read(lambda tx: dns_rows.standing(tx, SILENT))
    assert standing["return-path-mx"].check.state == "unknown"
    assert "no answer in time" in standing["return-path-mx"].check.found
    standing = await plant.database.read(lambda tx: dns_rows.standing(tx, GOOD[-1]))
    assert standing["replies"].check.state == "ok"
    broken = await plant.database.read(lambda tx: sending.by_name(tx, BROKEN))
    assert broken is not None
    assert broken.next_check_ms > plant.clock.now_ms(), "it is looked at later"
    assert broken.dmarc_policy == "nonsense"
    assert await looking(plant, knot, 2).run_due() == 0
