"""A change of keys survives a crash at every write to the database and to the zone: real store, real Knot, real signatures."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import dkim
import pytest

from mailfleet.engine.catalog import KEYS_FRESH_S, Catalog
from mailfleet.engine.dns_plans import PlanWriter
from mailfleet.engine.dns_publish import DnsPublisher
from mailfleet.engine.dns_zones import DnsZones, zone_label
from mailfleet.engine.domain_checks import DomainChecker
from mailfleet.engine.domains import Domains
from mailfleet.engine.rotation import KEEP_OLD_MS, REFUSED_WAIT_S, TAKEN_UP_MS, Rotation
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.mail.dkim import ED25519, sign
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.dns_update import DynamicUpdate, Guard
from mailfleet.store import dns as dns_rows
from mailfleet.store import sending
from mailfleet.store.database import Database, Tx
from mailfleet.store.sending import DkimKey, SendingDomain
from tests.engine.plant import HOST, NOW_MS, OWNER, Plant, signing_key
from tests.peers.knot import KEY, SECRET, Knot

T = TypeVar("T")
NAME = "rotated.test"
OTHERS = [f'{NAME}. 1 TXT "what others have"', f"www.{NAME}. 1 A 127.0.0.8"]
MESSAGE = b"From: a@rotated.test\r\nTo: b@elsewhere.test\r\nSubject: hi\r\n\r\nhello\r\n"


class CrashError(Exception):
    """The process died."""


class Deadline:
    """Counts writes of all kinds, and ends the process at one of them: before it is done, or after."""

    def __init__(self, at: int = 0, *, after: bool = False) -> None:
        self.at, self.after, self.count = at, after, 0

    def begin(self) -> bool:
        """Whether the process dies after this write. Raises ``CrashError`` where it dies before."""
        self.count += 1
        if self.count == self.at and not self.after:
            raise CrashError
        return self.count == self.at


class DyingDatabase:
    """The real one, until its time has come."""

    def __init__(self, database: Database, deadline: Deadline) -> None:
        self._database, self._deadline = database, deadline

    async def read(self, work: Callable[[Tx], T]) -> T:
        return await self._database.read(work)

    async def write(self, work: Callable[[Tx], T]) -> T:
        dies = self._deadline.begin()
        found = await self._database.write(work)
        if dies:
            raise CrashError
        return found


class DyingUpdate(DynamicUpdate):
    """The real one, until its time has come."""

    deadline = Deadline()

    async def apply(self, changes: Any, ttl_s: int, guards: Sequence[Guard] = ()) -> None:
        dies = self.deadline.begin()
        await super().apply(changes, ttl_s, guards)
        if dies:
            raise CrashError


class World:
    """A domain with one key, its zone, and as many processes after each other as there are crashes."""

    def __init__(self, plant: Plant, knot: Knot) -> None:
        self.plant, self.knot = plant, knot

    async def begin(self, rotate_days: int = 30) -> None:
        """As a person leaves it: one key that signs, published, and perhaps a schedule."""
        key, number = signing_key(ED25519), self.plant.ids.next()
        sealed = self.plant.box.seal(key.to_pem(), f"dkim:{NAME}:first")
        first = DkimKey(self.plant.ids.next(), number, "first", ED25519, sealed, key.public_record(), 1, NOW_MS)
        domain = SendingDomain(number, 1, NAME, f"bounce.{NAME}", NOW_MS, rotate_days=rotate_days)
        assert await self.plant.database.write(lambda tx: sending.add(tx, domain, [first]))
        _, domains, _ = self.process(Deadline())
        await self.write_with(SECRET)
        await domains.publish_keys(await self.domain())
        assert len(self.zone()) == 1

    async def write_with(self, secret: str) -> None:
        """From now on the zone is written to with this secret."""
        plant = self.plant
        zones = DnsZones(plant.database, plant.box, self._writer_of(Deadline()), plant.clock, plant.ids)
        if await plant.database.read(dns_rows.targets):
            await zones.remove(NAME)
        await zones.add_dynamic(
            OWNER, NAME, server=self.knot.address, key_name=KEY, secret=secret, algorithm="hmac-sha256"
        )

    async def domain(self) -> SendingDomain:
        found = await self.plant.database.read(lambda tx: sending.by_name(tx, NAME))
        assert found is not None
        return found

    async def keys(self) -> list[DkimKey]:
        domain = await self.domain()
        return await self.plant.database.read(lambda tx: sending.keys(tx, domain.id))

    def _writer_of(self, deadline: Deadline) -> Callable[[dns_rows.Target], DynamicUpdate]:
        def update_of(target: dns_rows.Target) -> DynamicUpdate:
            host, _, port = target.server.rpartition(":")
            assert target.sealed_secret is not None
            secret = self.plant.box.open(target.sealed_secret, zone_label(target.zone)).decode()
            made = DyingUpdate(target.zone, (host, int(port)), key_name=KEY, secret=secret, loopback_only=True)
            made.deadline = deadline
            return made

        return update_of

    def process(self, deadline: Deadline) -> tuple[Rotation, Domains, Catalog]:
        """What one process has; nothing is handed from one to the next."""
        plant: Any = self.plant
        database: Any = DyingDatabase(plant.database, deadline)
        authoritative = Authoritative(
            DnsQuerier([self.knot.address], 10, plant.clock), timeout_s=10, port=self.knot.port, loopback_only=True
        )

        publisher = DnsPublisher(database, authoritative, self._writer_of(deadline), plant.clock, ttl_s=1)
        common = {"clock": plant.clock, "ids": plant.ids, "time_scale": 1}
        defaults = SourceDefaults(HOST, private=True)
        checker: Any = DomainChecker(authoritative, None, None, defaults=defaults)  # type: ignore[arg-type]  # nothing is fetched
        writer = PlanWriter(authoritative, {}, 1)
        domains = Domains(database, checker, publisher, writer, plant.dmarc, defaults=defaults, **common)
        catalog = Catalog(database, plant.box, plant.clock)
        return Rotation(database, plant.box, catalog, domains, publisher, hostname=HOST, **common), domains, catalog

    def zone(self) -> dict[str, str]:
        """The DKIM records that the zone holds: ``{name: value}``."""
        found = [line.split(None, 3) for line in self.knot.everything(NAME)]
        return {name: value.replace('" "', "").strip('"') for name, _, _, value in found if "._domainkey." in name}

    async def check_signatures(self, catalog: Catalog) -> None:
        """What is signed now, by a process that looks now or looked a moment ago, passes with what the zone holds now."""
        identity = await catalog.identity(NAME)
        assert identity is not None
        assert identity.signers
        zone = self.zone()
        for signer in identity.signers:
            header, _, body = MESSAGE.partition(b"\r\n\r\n")
            signed = sign(header + b"\r\n", body, [signer], now_ms=NOW_MS) + MESSAGE
            assert dkim.verify(signed, dnsfunc=lambda name, timeout=5: zone.get(name.decode(), "").encode()), zone


async def rotate_through(world: World, deadline: Deadline, *, leaked: bool = False) -> int:
    """One change of keys until nothing is under way; its first process ends at the deadline. How many writes that took."""
    # Of a delivery process, which never dies here, and learns of new keys when it looks again
    writer = Catalog(world.plant.database, world.plant.box, world.plant.clock)
    world.plant.clock.skip(31 * 86_400)
    await world.check_signatures(writer)
    before = {one.selector for one in await world.keys()}
    rotation, _, _ = world.process(deadline)
    for _ in range(20):
        keys = await world.keys()
        try:
            if leaked and {one.selector for one in keys} == before:
                await rotation.rotate(OWNER, NAME, at_once=True)
            await rotation.run()
        except CrashError:
            rotation, _, _ = world.process(Deadline())
        await world.check_signatures(writer)
        keys = await world.keys()
        if {one.stage for one in keys} == {"active"} and not before & {one.selector for one in keys}:
            break
        world.plant.clock.skip(KEYS_FRESH_S / 2)
        if any(one.stage == "old" for one in keys):
            world.plant.clock.skip(KEEP_OLD_MS / 2000)
    rotation, _, catalog = world.process(Deadline())
    await rotation.run()  # one that comes up later finds nothing to do but what was left undone
    await world.check_signatures(catalog)
    return deadline.count


async def assert_clean(world: World) -> None:
    """The zone holds one record for each key that signs, and we know of no other."""
    keys = await world.keys()
    assert [one.stage for one in keys] == ["active"]
    assert world.zone() == {f"{one.selector}._domainkey.{NAME}.": one.public_record for one in keys}
    rows = await world.plant.rows("SELECT name, value FROM dns_record")
    assert rows == [(f"{one.selector}._domainkey.{NAME}", one.public_record) for one in keys]
    assert [
        line for line in world.knot.everything(NAME) if "_domainkey" not in line and " A 127.0.0.1" not in line
    ] == [*sorted(OTHERS)]


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    made = Knot(tmp_path / "knot", {NAME: OTHERS}, secret=SECRET)
    yield made
    made.close()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("leaked", [False, True], ids=["by schedule", "leaked"])
async def test_a_crash_at_every_write(plant: Plant, knot: Knot, leaked: bool) -> None:
    world = World(plant, knot)
    await world.begin(rotate_days=0 if leaked else 30)
    undisturbed = await rotate_through(world, Deadline(), leaked=leaked)
    await assert_clean(world)
    assert undisturbed >= 7, "made, remembered, put there, switched, retired, taken out, forgotten"
    for at in range(1, undisturbed + 1):
        for after in (False, True):
            await rotate_through(world, Deadline(at, after=after), leaked=leaked)
            await assert_clean(world)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_zone_that_refuses_holds_the_change_up_and_nothing_else(plant: Plant, knot: Knot) -> None:
    world = World(plant, knot)
    await world.begin()
    rotation, _, catalog = world.process(Deadline())
    await world.write_with(base64.b64encode(b"another secret").decode())
    plant.clock.skip(31 * 86_400)
    await rotation.run()
    assert [one.stage for one in await world.keys()] == ["active", "next"]
    assert len(world.zone()) == 1
    await world.check_signatures(catalog)

    await world.write_with(SECRET)
    plant.clock.skip(REFUSED_WAIT_S)
    await rotation.run()
    assert [one.stage for one in await world.keys()] == ["old", "active"]
    await world.check_signatures(catalog)

    await world.write_with(base64.b64encode(b"another secret").decode())
    plant.clock.skip(KEEP_OLD_MS / 1000)
    await rotation.run()
    assert len(world.zone()) == 2, "the old key is gone here, and its record is still there"
    await world.write_with(SECRET)
    plant.clock.skip(REFUSED_WAIT_S)
    await rotation.run()
    await assert_clean(world)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_leak_is_heard_while_the_schedule_makes_a_key(
    plant: Plant, knot: Knot, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(plant, knot)
    await world.begin()
    plant.clock.skip(31 * 86_400)
    (by_hand, _, _), (by_schedule, _, _) = (world.process(Deadline()) for _ in range(2))
    domain, made = await world.domain(), by_hand._made

    async def slowly(*values: Any) -> list[DkimKey]:
        found = await made(*values)
        await by_schedule._begin(domain, by="the schedule", at_once=False)
        return found

    monkeypatch.setattr(by_hand, "_made", slowly)
    await by_hand._begin(domain, by="a person", at_once=True)
    assert [one.stage for one in await world.keys()] == ["leaked", "next"]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_selector_is_not_used_again(plant: Plant, knot: Knot) -> None:
    """Within one month, where the one before has gone already."""
    world = World(plant, knot)
    await world.begin(rotate_days=0)
    seen = ["first"]
    for _ in range(3):
        rotation, _, _ = world.process(Deadline())
        await rotation.rotate(OWNER, NAME, at_once=True)
        plant.clock.skip(TAKEN_UP_MS / 1000)
        await rotation.run()
        (key,) = await world.keys()
        assert key.selector not in seen
        seen.append(key.selector)
