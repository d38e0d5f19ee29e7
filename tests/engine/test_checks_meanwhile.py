"""What a person sets of a domain while its DNS is looked at, which takes seconds, is neither lost nor undone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mailfleet.engine.dns_publish import Diff
from mailfleet.engine.domain_options import DomainOptions
from mailfleet.engine.domain_views import DomainSettings
from mailfleet.engine.domains import Domains
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.policy.dns_checks import Check
from mailfleet.policy.dns_plan import NOTHING, Existing, Wanted
from mailfleet.store import dns as dns_rows
from mailfleet.store import sending
from tests.engine.plant import DOMAIN, HOST, OWNER, Plant


class Dns:
    """What there is in the DNS, and what is put there. ``meanwhile`` is done once, before it has answered."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self.put: list[str] = []

    async def existing(self, *_: object) -> Existing:
        return NOTHING

    async def all(self, *_: object) -> list[Check]:
        if self.meanwhile is not None:
            done, self.meanwhile = self.meanwhile, None
            await done()
        return [Check("dmarc", "ok", "v=DMARC1; p=quarantine", "", "")]

    async def diff(self, wanted: list[Wanted], *_: object, **how: object) -> Diff:
        self.put += [one.value for one in wanted]
        return Diff((), ())

    async def publish(self, *_: object) -> list[object]:
        return []

    async def seen(self, *_: object) -> list[object]:
        return []


@pytest.fixture
def dns() -> Dns:
    return Dns()


@pytest.fixture
def domains(plant: Plant, dns: Dns) -> Domains:
    there: Any = dns
    return Domains(
        plant.database, there, there, there, plant.dmarc,
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
