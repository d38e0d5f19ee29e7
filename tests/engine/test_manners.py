"""Lanes beside a lane: what wants another manner of TLS has connections of its own, and no limit is kept to twice."""

from __future__ import annotations

from dataclasses import replace

from mailfleet.engine.ceiling import Ceiling, Ceilings
from mailfleet.engine.requests import EnvelopeRecipient, SubmittedMessage
from mailfleet.policy.rates import parse
from tests.engine.plant import LIMITS, LITERAL, OWNER, Plant, Works, running, until
from tests.engine.test_lane import Host
from tests.net.scripted_peer import scripted
from tests.store.rows import check_laws

OPTIONAL = [("TLS-Required", "No")]


def addresses(who: str, count: int) -> list[str]:
    return [f"{who}{number}@{LITERAL}" for number in range(count)]


async def test_connections_are_shared_with_the_lane_beside(plant: Plant) -> None:
    host = Host()
    limits = replace(LIMITS, connections=2, idle_connection_s=3600)
    async with scripted(host) as server, running(Works(plant, server.port, limits), schedule=True) as works:
        await plant.upload(*addresses("plain", 30))
        await plant.locate_all()
        await until(lambda: len(host.got) == 30)
        for start in range(0, 20, 10):  # idle connections make room, and work on both sides takes turns
            await plant.send(*addresses(f"optional{start}x", 10), headers=OPTIONAL)
            await plant.upload(*addresses(f"plain{start}x", 10))
            await plant.locate_all()
        await until(lambda: len(host.got) == 70)
        await works.settler.drained()
        lane, beside = works.scheduler.lanes.all
        assert (lane.manner, beside.manner) == ("", "any")
        lane.keep_to(replace(limits, connections=1))
        assert beside.limits.connections == 1
        await until(lambda: lane.open_connections + beside.open_connections <= 1)
    assert host.most_open <= 2
    assert set((await plant.states()).values()) == {"delivered"}
    await plant.database.read(check_laws)


async def test_without_tls_what_requires_it_bounces_and_nothing_else(plant: Plant) -> None:
    host = Host()
    async with scripted(host) as server, running(Works(plant, server.port), schedule=True) as works:
        await plant.send(*addresses("careful", 9), tls="require")
        await plant.send(*addresses("plain", 5))
        letter = b"From: a@shop.example\r\nTo: x\r\nSubject: s\r\n\r\nbody\r\n"
        recipient = EnvelopeRecipient(f"submitted@{LITERAL}")
        await plant.acceptor.submit(OWNER, SubmittedMessage("a@shop.example", [recipient], letter, requiretls=True))

        async def over() -> bool:
            await plant.locate_all()
            return (
                len(await plant.states()) == 16
                and "queued" not in (states := await plant.states()).values()
                and ("leased" not in states.values())
            )

        await until(over)
        await works.settler.drained()
    states = await plant.states()
    bounced = {address for address, state in states.items() if state == "bounced"}
    assert bounced == {*addresses("careful", 9), f"submitted@{LITERAL}"}
    events = [data for kind, data in await plant.events() if kind == "bounced"]
    assert {event["failure"] for event in events} == {"tls-unproven"}
    # The notification has nobody who could take it as it should go, and goes all the same.
    assert sorted(recipient for _, recipient in host.got) == sorted(["a@shop.example", *addresses("plain", 5)])
    (stored,) = await plant.rows("SELECT envelope FROM delivery WHERE address = 'a@shop.example'")
    assert stored == ('{"reverse_path":"","tls":"require"}',)
    await plant.database.read(check_laws)


class Member:
    """A lane that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def wake(self) -> None:
        self.told.append("wake")

    def make_room(self) -> None:
        self.told.append("room")


def test_a_connection_counts_under_every_ceiling_or_under_none() -> None:
    wide, narrow = Ceiling(lambda: 0.0), Ceiling(lambda: 0.0)
    wide.keep_to(3, parse("10/s"))
    narrow.keep_to(1, ())
    one, other = Member(), Member()
    over, only_wide = Ceilings(wide, narrow), Ceilings(wide)
    assert over.opens(one)
    assert not over.opens(other)
    assert one.told == ["room"]
    assert only_wide.opens(one)
    assert only_wide.opens(other), "the connection that was refused is not counted"
    assert not only_wide.opens(other)
    over.closed(one)
    assert "wake" in other.told
    assert over.rates == parse("10/s")
