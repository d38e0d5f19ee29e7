"""From where a domain's mail comes, for all the world: the addresses of its sources, or the names that lead to them."""

from __future__ import annotations

import pytest

from mailfleet.engine.domain_facts import facts
from mailfleet.engine.fleet import Fleet
from mailfleet.engine.fleet_views import MemberView
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.policy.dns_plan import Facts
from mailfleet.store import egress, sending
from mailfleet.store.database import Tx
from tests.engine.plant import DOMAIN, NOW_MS, OWNER, Plant

MAIL, OUT = "mail.us.example", "out.us.example"
PUBLIC, OTHER, SIX, INSIDE = "8.8.8.8", "8.8.4.4", "2606:4700::1", "10.0.0.7"


async def found(plant: Plant, defaults: SourceDefaults) -> Facts:
    def work(tx: Tx) -> Facts:
        domain = sending.by_name(tx, DOMAIN)
        assert domain is not None
        return facts(tx, domain, (), defaults)

    return await plant.database.read(work)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_where_mail_comes_from(plant: Plant) -> None:
    fleet = Fleet(plant.database, plant.box, plant.clock)
    await fleet.add_source(OWNER, "public", {"address": PUBLIC})
    await fleet.add_source(OWNER, "inside", {"address": INSIDE, "ehlo_name": "EIP1.us.example"})
    await fleet.add_source(OWNER, "also-inside", {"address": "10.0.0.8"})
    await plant.database.write(lambda tx: egress.ensure_default(tx, NOW_MS))
    await fleet.add_source(OWNER, "aside", {"address": "8.8.8.9"})  # in no pool

    async def of(*names: str, defaults: SourceDefaults) -> tuple[tuple[str, ...], tuple[str, ...]]:
        members = [MemberView(name=one, weight=1) for one in names]
        await fleet.set_pool(OWNER, "default", members=members, overflow=None, new=False)
        got = await found(plant, defaults)
        return got.addresses, got.names

    none, named = SourceDefaults(MAIL), SourceDefaults(MAIL, OUT)
    assert await of("public", defaults=none) == ((PUBLIC,), ())
    assert await of("public", "default", defaults=none) == ((PUBLIC,), (MAIL,))
    assert await of("inside", "also-inside", "default", defaults=named) == ((), ("eip1.us.example", OUT))
    assert await of("inside", defaults=named._replace(private=True)) == ((INSIDE,), ())
    both = named._replace(addresses=(OTHER, SIX))
    assert await of("public", "default", defaults=both) == ((OTHER, PUBLIC, SIX), ())
    assert await of("default", defaults=named._replace(addresses=(OTHER,))) == ((OTHER,), (OUT,)), (
        "IPv6 is the system's"
    )
    assert await of("default", defaults=named._replace(addresses=("10.1.1.1",))) == ((), (OUT,))
