"""What a person sets of a domain while its DNS is looked at, which takes seconds, is neither lost nor undone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mailfleet.engine.dns_publish import Diff
from mailfleet.engine.domain_options import DomainOptions
from mailfleet.engine.domain_views import DomainSettings
from mailfleet.engine.domains import Domains
from mailfleet.engine.rotation import Rotation
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.mail.dkim import RSA
from mailfleet.policy.dns_checks import Check
from mailfleet.policy.dns_plan import NOTHING, Existing, Wanted
from mailfleet.store import dns as dns_rows
from mailfleet.store import sending
from mailfleet.store.database import Database, Tx
from mailfleet.store.dns import OwnRecord
from mailfleet.store.sending import DkimKey
from tests.engine.plant import DOMAIN, HOST, NOW_MS, OWNER, Plant, signing_key


class Dns:
    """What there is in the DNS, and what is put there. ``meanwhile`` is done once, before it has answered."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.put: list[str] = []
        self.own: list[str] = []

    async def existing(self, *_: object) -> Existing:
        return NOTHING

    async def all(self, *_: object) -> list[Check]:
        if self.meanwhile is not None:
            done, self.meanwhile = self.meanwhile, None
            await done()
        return [Check("dmarc", "ok", "v=DMARC1; p=quarantine", "", "")]

    async def diff(self, wanted: list[Wanted], own: list[OwnRecord], **how: object) -> Diff:
        self.put += [one.value for one in wanted]
        self.own += [one.value for one in own]
        return Diff((), ())

    async def publish(self, *_: object) -> list[object]:
        return []

    async def seen(self, *_: object) -> list[object]:
        return []


@pytest.fixture
def dns() -> Dns:
    return Dns()


class Slow:
    """A database whose answers take their time. ``meanwhile`` is done once, after the first."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.write = database.write

    async def read(self, work: Callable[[Tx], Any]) -> Any:
        found = await self._database.read(work)
        if self.meanwhile is not None:
            done, self.meanwhile = self.meanwhile, None
            await done()
        return found


@pytest.fixture
def domains(plant: Plant, dns: Dns) -> Domains:
    return domains_of(plant, plant.database, dns)


def domains_of(plant: Plant, database: Any, there: Any) -> Domains:
    return Domains(
        database, there, there, there, plant.dmarc,
        defaults=SourceDefaults(HOST, private=True), clock=plant.clock, ids=plant.ids, time_scale=1,
    )  # fmt: skip


def options_of(plant: Plant) -> DomainOptions:
    async def none(domain: str) -> tuple[list[str], str]:
        return [], ""

    return DomainOptions(plant.database, none, HOST)


async def set_to(plant: Plant, **values: Any) -> None:
    await options_of(plant).set(OWNER, DOMAIN, DomainSettings(**values))


async def test_a_policy_that_is_taken_back_is_not_published_any_more(plant: Plant, dns: Dns, domains: Domains) -> None:
    await set_to(plant, dmarc_policy="reject", dmarc_rollout="auto")
    assert await domains.run_due() == 1
    assert [value.split(";")[1] for value in dns.put] == [" p=reject"], "as it is to follow"
    await set_to(plant, dmarc_policy="reject", dmarc_rollout="auto", rotate_days=90)
    dns.put.clear()
    dns.meanwhile = lambda: set_to(plant, dmarc_policy="none")
    assert await domains.run_due() == 1
    assert dns.put == []


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
async def test_what_is_set_during_a_check_is_checked_at_once(
    plant: Plant, dns: Dns, domains: Domains, again: bool
) -> None:
    assert await domains.run_due() == 1
    if again:
        await set_to(plant, rotate_days=30)
    else:
        plant.clock.skip(86_400)
    dns.meanwhile = lambda: set_to(plant, rotate_days=90)
    assert await domains.run_due() == 1
    assert await domains.run_due() == 1, "what was set meanwhile may make other checks"
    assert await domains.run_due() == 0
    (kept,) = await plant.database.read(sending.all_domains)
    assert kept.rotate_days == 90


async def test_of_a_domain_that_is_removed_during_a_check_nothing_is_kept(
    plant: Plant, dns: Dns, domains: Domains
) -> None:
    dns.meanwhile = lambda: plant.manager.remove_domain(OWNER, DOMAIN)
    assert await domains.run_due() == 1
    assert await plant.database.read(lambda tx: dns_rows.standing(tx, DOMAIN)) == {}
    assert await domains.run_due() == 0


@pytest.mark.parametrize("keys_only", [True, False])
async def test_a_key_that_is_published_meanwhile_is_not_taken_out(plant: Plant, dns: Dns, keys_only: bool) -> None:
    slow = Slow(plant.database)
    domains = domains_of(plant, slow, dns)
    (domain,) = await plant.database.read(sending.all_domains)
    record = signing_key(RSA, 1).public_record()
    key = DkimKey(plant.ids.next(), domain.id, "r2", RSA, b"", record, 0, NOW_MS, "next", NOW_MS)
    own = OwnRecord(domain.id, f"r2._domainkey.{DOMAIN}", "TXT", record, NOW_MS)

    def work(tx: Tx) -> None:
        sending.add_key(tx, key)
        dns_rows.put_records(tx, [own])

    slow.meanwhile = lambda: plant.database.write(work)
    if keys_only:
        await domains.publish_keys(domain)
    else:
        await domains.publish(OWNER, DOMAIN, adopt=False, dry_run=False)
    assert set(dns.own) <= set(dns.put), "what is ours and not wanted goes"
    assert len(await plant.database.read(lambda tx: sending.keys(tx, domain.id))) == 2


async def test_a_schedule_that_ends_while_other_domains_have_their_turn_begins_nothing(plant: Plant) -> None:
    slow: Any = Slow(plant.database)
    nothing: Any = None
    rotation = Rotation(
        slow, plant.box, plant.catalog, nothing, nothing,
        hostname=HOST, clock=plant.clock, ids=plant.ids, time_scale=1,
    )  # fmt: skip
    await set_to(plant, rotate_days=1)
    plant.clock.skip(2 * 86_400)
    slow.meanwhile = lambda: set_to(plant, rotate_days=0)
    await rotation.run()
    (domain,) = await plant.database.read(sending.all_domains)
    (key,) = await plant.database.read(lambda tx: sending.keys(tx, domain.id))
    assert (domain.rotate_days, key.stage) == (0, "active")
