"""The nightly mail is made once for each day, tells each change once, and is not sent where there is nothing to tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest

from mailfleet.base.ids import TenantId
from mailfleet.config.digest import DigestSettings
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.digest import Digests
from mailfleet.engine.requests import Actor
from mailfleet.mail.content import CompiledContent
from mailfleet.policy.dns_checks import Check, Kept
from mailfleet.store import dns as dns_rows
from mailfleet.store import sending, suppressions
from mailfleet.store.database import Database, Tx
from tests.engine.plant import DOMAIN, HOST, NOW_MS, OWNER, Plant

T = TypeVar("T")
DAY_S = 86_400
TO = "ops@elsewhere.example"


class CrashError(Exception):
    """The process died."""


class Dying:
    """A database whose process dies in the middle of its ``nth`` write from now on, or right after its commit."""

    def __init__(self, database: Database, *, committed: bool) -> None:
        self._database, self._committed = database, committed

    async def read(self, work: Callable[[Tx], T]) -> T:
        return await self._database.read(work)

    async def write(self, work: Callable[[Tx], T]) -> T:
        def die(tx: Tx) -> T:
            work(tx)
            raise CrashError

        await self._database.write(work if self._committed else die)
        raise CrashError


def digests_of(plant: Plant, database: object = None, **values: str) -> Digests:
    place: Database = database or plant.database  # type: ignore[assignment]  # Dying does what is needed
    settings = DigestSettings.model_validate({"to": TO, "at": "06:00"} | values)
    certificates = Certificates(
        plant.database, plant.box, None, hostname=HOST, next_key_ms=1, clock=plant.clock, time_scale=1
    )
    return Digests(
        place, certificates, settings, plant.retry,
        hostname=HOST, clock=plant.clock, ids=plant.ids, time_scale=1,
    )  # fmt: skip


async def stands(plant: Plant, state: str, before: str = "", name: str = "dmarc", domain: str = DOMAIN) -> None:
    """A check of the domain, as ``Domains`` keeps it."""
    now_ms = plant.clock.now_ms()
    check = Check(name, state, "found", "expected", f"it is {state}", "do this")  # type: ignore[arg-type]  # a state

    def work(tx: Tx) -> None:
        kept = dns_rows.standing(tx, domain)
        dns_rows.put_standing(tx, domain, kept | {name: Kept(check, now_ms, now_ms)})
        dns_rows.add_past(tx, dns_rows.Past(plant.ids.next(), domain, name, before, state, "", "", now_ms))

    await plant.database.write(work)


async def mailed(plant: Plant) -> list[str]:
    """The subjects of what was queued for TO."""
    rows = await plant.rows(
        "SELECT c.body FROM delivery d JOIN content c ON c.id = d.content_id WHERE d.address = ? ORDER BY d.id", TO
    )
    filled = [
        CompiledContent.from_bytes(body).fill({}, recipient=None, message_id="<a@b>", date_ms=NOW_MS)  # type: ignore[arg-type]  # To is fixed
        for (body,) in rows
    ]
    lines = [line for one in filled for line in one.header.decode().replace("\r\n ", " ").split("\r\n")]
    assert sum(line == "Auto-Submitted: auto-generated" for line in lines) == len(filled)
    return [line.partition(": ")[2] for line in lines if line.startswith("Subject: ")]


async def test_no_mail_while_all_is_well(plant: Plant) -> None:
    await stands(plant, "ok")
    await stands(plant, "warning", name="spf-from")
    digests = digests_of(plant)
    for _ in range(3):
        assert not await digests.run_due()
        plant.clock.skip(DAY_S)
    assert await mailed(plant) == []


async def test_once_a_day_and_each_change_once(plant: Plant) -> None:
    await stands(plant, "ok")
    digests = digests_of(plant)
    await digests.run_due()
    await stands(plant, "failed", "ok")
    assert not await digests_of(plant).run_due(), "this day's is made"
    plant.clock.skip(DAY_S)
    assert await digests.run_due()
    assert not await digests_of(plant).run_due(), "a process that comes up again"
    plant.clock.skip(DAY_S)
    view = await digests.view(OWNER)
    assert "was ok" not in view.text
    assert "  failed since" in view.text
    assert await digests.run_due(), "it is still wrong"
    await stands(plant, "ok", "failed")
    plant.clock.skip(DAY_S)
    assert await digests.run_due()
    plant.clock.skip(DAY_S)
    assert not await digests.run_due()
    begin = f"Mailfleet at {HOST}: "
    assert await mailed(plant) == [f"{begin}1 check fails", f"{begin}1 check fails", f"{begin}1 right again"]


@pytest.mark.parametrize("committed", [False, True])
async def test_a_crash_neither_loses_it_nor_sends_it_twice(plant: Plant, committed: bool) -> None:
    await stands(plant, "failed", "ok")
    with pytest.raises(CrashError):
        await digests_of(plant, Dying(plant.database, committed=committed)).run_due()
    assert len(await mailed(plant)) == int(committed)
    assert await digests_of(plant).run_due() is not committed
    assert len(await mailed(plant)) == 1


async def test_days_begin_at_the_time_that_is_set(plant: Plant) -> None:
    """NOW_MS is midnight UTC."""
    await stands(plant, "failed", "ok")
    digests = digests_of(plant)
    assert (await digests.view(OWNER)).next == "2026-01-01T00:00:00.000Z", "the first comes at once"
    assert await digests.run_due()
    assert (await digests.view(OWNER)).next == "2026-01-01T06:00:00.000Z"
    plant.clock.skip(6 * 3600 - 1)
    assert not await digests.run_due()
    plant.clock.skip(1)
    assert await digests.run_due()
    plant.clock.skip(-3600)
    assert not await digests.run_due(), "a clock that is set back over the hour repeats nothing"
    plant.clock.skip(3600 + DAY_S - 1)
    assert not await digests.run_due()
    plant.clock.skip(-30 * DAY_S)
    assert await digests.run_due(), "a clock that was a month ahead keeps nothing back"


async def test_whom_it_is_from(plant: Plant) -> None:
    await stands(plant, "failed", "ok")
    assert (await digests_of(plant).view(OWNER)).sender == f"mailfleet@{DOMAIN}"
    foreign = digests_of(plant, **{"from": "ops@other.example"})
    assert "other.example is not a sending domain" in (await foreign.view(OWNER)).problem
    assert not await foreign.run_due()
    assert await mailed(plant) == []
    below = digests_of(plant, **{"from": f"dns@ops.{DOMAIN}"})
    assert await below.run_due(), "what could not be sent stays due"
    ((info,),) = await plant.rows("SELECT info FROM content")
    assert f"dns@ops.{DOMAIN}" in info


async def test_without_a_sending_domain_there_is_nothing_to_tell(plant: Plant) -> None:
    domain = (await plant.database.read(sending.all_domains))[0]
    await plant.database.write(lambda tx: sending.remove(tx, domain.id))
    assert not await digests_of(plant).run_due()
    assert "mailfleet domain add" in (await digests_of(plant).view(OWNER)).problem


async def test_who_is_not_mailed_is_not_mailed(plant: Plant) -> None:
    await stands(plant, "failed", "ok")
    row = suppressions.Suppression(plant.ids.next(), 1, TO, "", "hard bounce", "550", "bounce", NOW_MS)
    await plant.database.write(lambda tx: suppressions.add(tx, row))
    await digests_of(plant).run_due()
    assert await plant.states() == {TO: "suppressed"}


async def test_keys_and_tenants(plant: Plant) -> None:
    await plant.add_domain("tenant.example", tenant_id=2)
    await stands(plant, "failed", "ok", domain="tenant.example")
    (key,) = await plant.database.read(lambda tx: sending.keys(tx, sending.by_name(tx, DOMAIN).id))  # type: ignore[union-attr]  # it is there
    await plant.database.write(lambda tx: sending.set_stage(tx, key.id, "old", NOW_MS - 1000))
    everything = await digests_of(plant).view(OWNER)
    assert "tenant.example" in everything.text
    assert f"{DOMAIN}  r1\n  signs no more since 2025-12-31 23:59 UTC" in everything.text
    theirs = await digests_of(plant).view(Actor(TenantId(2)))
    assert "tenant.example  dmarc" in theirs.text
    assert f"{DOMAIN}  r1" not in theirs.text
