"""Two processes change the same thing at the same moment on PostgreSQL: the second goes by what the first has made of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from mailfleet.base.errors import ConflictError
from mailfleet.config.warmup import load_plans
from mailfleet.engine import braking, check_book
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.domain_options import DomainOptions
from mailfleet.engine.domain_views import DomainSettings
from mailfleet.engine.fleet import Fleet
from mailfleet.engine.rotation import Rotation
from mailfleet.engine.steer import Steering
from mailfleet.engine.warming import forget_idle
from mailfleet.mail.dkim import RSA
from mailfleet.policy.brakes import Decision
from mailfleet.policy.dns_checks import Check, State
from mailfleet.store import brakes, certificates, dns, egress, sending, warmups
from mailfleet.store.database import Database, Tx
from mailfleet.store.warmups import Warmup
from tests.engine.plant import DOMAIN, HOST, NOW_MS, OWNER, Plant, signing_key
from tests.engine.test_certificates import Made
from tests.engine.test_ways_out import pool
from tests.mail.test_bimi import logo
from tests.store.fixtures import OpenDatabase

DAY_MS = 86_400_000
Meet = Callable[[Any, str, Awaitable[object], Callable[[], Awaitable[object]]], Awaitable[None]]


@pytest.fixture
def engine() -> str:
    return "postgres"


@pytest.fixture
def other(open_database: OpenDatabase) -> Iterator[Database]:
    """Of another process."""
    database = open_database()
    yield database
    database.close()


@pytest.fixture
def meet(monkeypatch: pytest.MonkeyPatch) -> Meet:
    """The second begins when the first, having read, calls a function of the store; it is over, or waits, when that goes on."""

    async def meet(module: Any, name: str, first: Awaitable[object], second: Callable[[], Awaitable[object]]) -> None:
        loop, real = asyncio.get_running_loop(), getattr(module, name)
        begun: list[Future[object]] = []

        async def run() -> object:
            return await second()

        def hooked(tx: Tx, *values: object) -> object:
            if not begun:
                begun.append(asyncio.run_coroutine_threadsafe(run(), loop))
                while not begun[0].done() and not tx.value("SELECT 1 FROM pg_locks WHERE NOT granted LIMIT 1"):
                    time.sleep(0.002)
            return real(tx, *values)

        monkeypatch.setattr(module, name, hooked)
        await first
        await asyncio.wrap_future(begun[0])

    return meet


async def domain_of(plant: Plant) -> sending.SendingDomain:
    (found,) = await plant.database.read(sending.all_domains)
    return found


async def test_a_source_that_is_retired_while_it_is_changed(plant: Plant, other: Database, meet: Meet) -> None:
    await pool(plant, {11: 1})
    one, two = (Fleet(database, plant.box, plant.clock) for database in (plant.database, other))
    await meet(
        egress, "update",
        one.change(OWNER, "source", "s11", {"ehlo_name": "out.shop.example"}),
        lambda: two.set_state(OWNER, "source", "s11", "retired", "sold"),
    )  # fmt: skip
    view = await one.egress(OWNER, "source", "s11")
    assert (view.state, view.ehlo_name) == ("retired", "out.shop.example")


async def test_settings_of_a_domain_and_its_logo(plant: Plant, other: Database, meet: Meet) -> None:
    async def none(domain: str) -> tuple[list[str], str]:
        return [], ""

    one, two = (DomainOptions(database, none, HOST) for database in (plant.database, other))
    wanted = DomainSettings(public_host=f"assets.{DOMAIN}")
    await one.set(OWNER, DOMAIN, wanted)
    await meet(
        sending, "update",
        one.set_logo(OWNER, DOMAIN, logo()),
        lambda: two.set(OWNER, DOMAIN, wanted.model_copy(update={"rotate_days": 90})),
    )  # fmt: skip
    kept = await domain_of(plant)
    assert (bool(kept.bimi_logo), kept.rotate_days) == (True, 90)


async def test_two_processes_that_hear_the_same_refusal(plant: Plant, other: Database, meet: Meet) -> None:
    decision = Decision("rest", 0, 60_000, 60_000, "blocked", "address-blocked", egress_id=11, provider="gmail")

    async def heard(database: Database) -> None:
        await database.write(lambda tx: braking.apply(tx, [decision], plant.ids, now_ms=NOW_MS, scale=1))

    await meet(brakes, "put", heard(plant.database), lambda: heard(other))
    assert len(await plant.database.read(brakes.in_force)) == 1, "one to lift"


async def test_a_brake_that_is_lifted_as_it_loosens(plant: Plant, other: Database, meet: Meet) -> None:
    steering = Steering(other, {}, frozenset(), clock=plant.clock, ids=plant.ids, time_scale=1)
    await pool(plant, {11: 1})
    made = await steering.put_brake(OWNER, action="rest", reason="", source="s11", for_s=60)
    later_ms = NOW_MS + 61_000
    await meet(
        brakes, "put",
        plant.database.write(lambda tx: braking.loosen_due(tx, later_ms)),
        lambda: steering.lift(OWNER, made.brake, "done"),
    )  # fmt: skip
    assert await plant.database.read(brakes.in_force) == []
    assert [kind for kind in await plant.kinds() if kind.startswith("brake")] == ["brake_on", "brake_on", "brake_off"]


async def test_a_warm_up_that_is_paused_as_it_begins_anew(plant: Plant, other: Database, meet: Meet) -> None:
    await pool(plant, {11: 1})
    day = NOW_MS // DAY_MS
    pair = Warmup(11, "gmail", "standard", "warm", 8, 12_500, day, 0, 0, 0, 0, "", NOW_MS)
    await plant.database.write(lambda tx: warmups.put(tx, pair))
    steering = Steering(other, load_plans(), frozenset({"gmail"}), clock=plant.clock, ids=plant.ids, time_scale=1)
    later_ms = NOW_MS + 90 * DAY_MS
    await meet(
        warmups, "put",
        plant.database.write(lambda tx: forget_idle(tx, load_plans(), later_ms, 1)),
        lambda: steering.set_warmup(OWNER, "s11", "paused", reason="by hand"),
    )  # fmt: skip
    (found,) = await plant.database.read(warmups.every)
    assert (found.state, found.reason) == ("paused", "by hand")


async def test_a_key_that_leaks_as_another_takes_its_place(plant: Plant, other: Database, meet: Meet) -> None:
    nothing: Any = None
    domain, key = await domain_of(plant), signing_key(RSA, 1)
    coming = sending.DkimKey(
        plant.ids.next(), domain.id, "r2", RSA, b"", key.public_record(), 0, NOW_MS, "next", NOW_MS
    )
    await plant.database.write(lambda tx: sending.add_key(tx, coming))
    one, two = (
        Rotation(
            database, plant.box, plant.catalog, nothing, nothing,
            hostname=HOST, clock=plant.clock, ids=plant.ids, time_scale=1,
        )
        for database in (plant.database, other)
    )  # fmt: skip
    with pytest.raises(ConflictError):  # it is not taken for done
        await meet(
            sending, "set_stage",
            one._switch(domain, [coming]),
            lambda: two._begin(domain, by="a person", at_once=True),
        )  # fmt: skip
    stages = [found.stage for found in await plant.database.read(lambda tx: sending.keys(tx, domain.id))]
    assert stages == ["old", "active"]


async def test_a_person_checks_what_is_checked_at_that_moment(plant: Plant, other: Database, meet: Meet) -> None:
    async def look(database: Database, state: State) -> None:
        checks = [Check("host", state, "", "", "")]
        await database.write(
            lambda tx: check_book.enter(tx, plant.ids, DOMAIN, checks, NOW_MS, calm=False, tell=lambda *_: None)
        )

    await look(plant.database, "ok")
    await meet(dns, "put_standing", look(plant.database, "failed"), lambda: look(other, "failed"))
    past = await plant.database.read(lambda tx: dns.past(tx, DOMAIN, 9))
    assert [one.state for one in past] == ["failed", "ok"], "it is told once"


async def test_a_certificate_that_is_asked_for_as_it_comes(plant: Plant, other: Database, meet: Meet) -> None:
    one, two = (
        Certificates(database, plant.box, Made(), hostname=HOST, next_key_ms=1, clock=plant.clock, time_scale=1)
        for database in (plant.database, other)
    )
    assert await one.run_due() == 1
    await one.renew(OWNER, HOST, new_key=False)
    before = await one.pairs()
    await meet(certificates, "put", two.renew(OWNER, HOST, new_key=False), one.run_due)
    assert await one.pairs() != before, "the new one is kept"
