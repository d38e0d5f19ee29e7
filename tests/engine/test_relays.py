"""Relays that are changed while mail leaves by them."""

from __future__ import annotations

from dataclasses import replace

from mailfleet.engine.fleet import Fleet
from mailfleet.engine.fleet_views import MemberView
from tests.engine.plant import LIMITS, LITERAL, OWNER, Plant, Works, running, until
from tests.engine.test_lane import Host
from tests.net.scripted_peer import scripted


async def test_mail_goes_to_the_host_that_a_relay_has_now(plant: Plant) -> None:
    fleet = Fleet(plant.database, plant.box, plant.clock)
    await fleet.add_relay(OWNER, "up", {"host": "127.0.0.1", "tls": "none"})
    await fleet.set_pool(OWNER, "default", [MemberView(name="up", weight=1)], None, new=False)
    before, after = Host(), Host()
    works = Works(plant, limits=replace(LIMITS, messages_per_connection=1))

    async def sent(number: int) -> None:
        await plant.send(f"u{number}@{LITERAL}")
        await plant.locate_all()
        await until(lambda: len(before.got) + len(after.got) == number)
        await works.settler.drained()

    async with scripted(before, "127.0.0.1") as old, scripted(after, "127.0.0.2") as new:
        works.port = old.port
        async with running(works, schedule=True):
            await sent(1)
            works.port = new.port  # at which the other host listens
            await fleet.change(OWNER, "relay", "up", {"host": "127.0.0.2"})
            lanes = works.scheduler.lanes
            await until(lambda: any(one.host == "127.0.0.2" for one in lanes.ways.egresses.values()))
            await sent(2)
        again = Works(plant, new.port)
        async with running(again, schedule=True):
            works = again
            await sent(3)
    assert (len(before.got), len(after.got)) == (1, 2)
