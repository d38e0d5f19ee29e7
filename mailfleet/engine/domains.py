"""The DNS of sending domains: planned, published, checked, kept right. What is signed with which key is in ``engine.rotation``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import orjson
import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError, ConflictError
from mailfleet.base.ids import IdGenerator
from mailfleet.engine import check_book
from mailfleet.engine.dmarc_reports import DmarcReports
from mailfleet.engine.dns_plans import PlanWriter, hold_to, published
from mailfleet.engine.dns_publish import DnsPublisher, Zones
from mailfleet.engine.domain_checks import DomainChecker
from mailfleet.engine.domain_facts import facts, own_domain, sources
from mailfleet.engine.domain_views import ChecksView, PastCheckView, PlanView, PublishView
from mailfleet.engine.requests import Actor
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.mail.address import domain_to_ascii
from mailfleet.mail.dmarc import Policy
from mailfleet.policy import dns_checks
from mailfleet.policy.caa import NOBODY, Issuer
from mailfleet.policy.dmarc_rollout import POLICY, Advice
from mailfleet.policy.dns_checks import Check, Kept
from mailfleet.policy.dns_plan import Facts, Wanted, never_sends, plan
from mailfleet.policy.lifecycle import EventKind
from mailfleet.store import dns as dns_rows
from mailfleet.store import sending
from mailfleet.store.database import Database, Tx
from mailfleet.store.dns import OwnRecord, Past
from mailfleet.store.egress import Egress
from mailfleet.store.events import EventRow, append
from mailfleet.store.sending import SendingDomain

log = structlog.get_logger()

SEEN_WITHIN_S = 20.0
AT_ONCE = 16  # domains of a round: one that waits for its servers holds up few, and all of them fit into what a resolver is asked


class _Look(NamedTuple):
    """What was found. ``stage``: the DMARC policy that the DNS has; None where that is not known."""

    kept: dict[str, Kept]
    stage: Policy | None
    advice: Advice | None


class _Known(NamedTuple):
    """What there is to publish, what we have published, and where we may: of one moment, or a key that came between is taken out."""

    facts: Facts
    own: list[OwnRecord]
    zones: Zones


class Domains:
    """For one process."""

    def __init__(
        self,
        database: Database,
        checker: DomainChecker,
        publisher: DnsPublisher,
        writer: PlanWriter,
        reports: DmarcReports,
        *,
        defaults: SourceDefaults,
        clock: Clock,
        ids: IdGenerator,
        time_scale: float,
        authority: Issuer = NOBODY,
    ) -> None:
        self._database, self._checker, self._publisher = database, checker, publisher
        self._writer, self._reports, self._defaults, self._authority = writer, reports, defaults, authority
        self._clock, self._ids, self._time_scale = clock, ids, time_scale
        self._following = asyncio.Lock()

    # Plan

    async def plan(self, actor: Actor, name: str, provider: str = "", *, looks: bool = True) -> PlanView:
        """``looks``: with what others have in the DNS now taken into account; ``provider``: with what its form wants.

        Raises ``NotFoundError`` and ``InputError`` (no such provider).
        """
        domain, known, _ = await self._facts(actor, name)
        if not looks:
            return PlanView(domain=domain.name, **await self._writer.answer(plan(known), provider))
        own = await self._database.read(lambda tx: dns_rows.own_records(tx, domain.id))
        records = plan(known, await self._checker.existing(known, own))
        return PlanView(domain=domain.name, **await self._writer.answer(records, provider))

    async def plan_never_sends(self, name: str, provider: str = "") -> PlanView:
        """For a domain that sends and receives nothing. Raises ``InputError``."""
        domain = domain_to_ascii(name.strip())
        return PlanView(domain=domain, **await self._writer.answer(never_sends(domain), provider))

    # Checks

    async def check(self, actor: Actor, name: str) -> ChecksView:
        """Look now. Raises ``NotFoundError``."""
        domain, known, found = await self._facts(actor, name)
        look = await self._look(domain, known, found, calm=False)
        return _checks_view(domain.name, look.kept)

    async def standing(self, actor: Actor, name: str) -> ChecksView:
        """As it was found last; empty where nobody has looked yet. Raises ``NotFoundError``."""

        def find(tx: Tx) -> tuple[str, dict[str, Kept]]:
            domain = own_domain(tx, actor, name)
            return domain.name, dns_rows.standing(tx, domain.name)

        return _checks_view(*await self._database.read(find))

    async def history(self, actor: Actor, name: str, limit: int) -> list[PastCheckView]:
        """What has changed, newest first. Raises ``NotFoundError``."""

        rows = await self._database.read(lambda tx: dns_rows.past(tx, own_domain(tx, actor, name).name, limit))
        return check_book.past_views(rows)

    async def run_due(self) -> int:
        """Check the domains whose time has come, some of them at once; returns how many that were. Raises ``BusyError``."""
        now_ms = self._clock.now_ms()
        due = await self._database.read(lambda tx: sending.due(tx, now_ms))
        names, busy = iter([one.name for one in due]), []

        async def work() -> None:
            for name in names:
                try:
                    await self._check_due(name)
                except BusyError as error:  # of the database: the rest waits as well
                    busy.append(error)
                if busy:
                    return

        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(due))):
                group.create_task(work())
        if busy:
            raise busy[0]
        return len(due)

    async def _check_due(self, name: str) -> None:
        """One of a round, as it is set by now. Raises ``BusyError``; anything else must not keep the others from their turn."""

        def find(tx: Tx) -> tuple[SendingDomain, Facts, list[Egress]] | None:
            domain = sending.by_name(tx, name)
            return None if domain is None else (domain, *self._read(tx, domain))

        def later(tx: Tx) -> None:
            domain = found[0] if found is not None else sending.by_name(tx, name)
            if domain is not None:
                wait_ms = round(check_book.HURRY_MS / self._time_scale)
                sending.looked(tx, domain, self._clock.now_ms() + wait_ms)

        found = None
        try:
            found = await self._database.read(find)
            if found is not None:
                await self._follow(found[0], await self._look(*found, calm=True))
        except BusyError:
            raise
        except Exception:
            log.exception("a domain cannot be checked", domain=name)
            await self._database.write(later)

    async def _look(self, domain: SendingDomain, known: Facts, found: list[Egress], *, calm: bool) -> _Look:
        """``calm``: a change for the worse counts when it is seen again; a person who asks sees what is there now."""
        own = await self._database.read(lambda tx: dns_rows.own_records(tx, domain.id))
        checks = await self._checker.all(known, found, own)
        stage = dns_checks.policy_found(checks)
        advice = await self._reports.advice(domain, stage) if stage is not None else None
        checks += [advice.check()] if advice is not None else []
        now_ms = self._clock.now_ms()

        def work(tx: Tx) -> dict[str, Kept]:
            current = sending.held(tx, domain.name)
            if current is None or current.id != domain.id:
                return {}  # it was removed meanwhile
            after = check_book.enter(
                tx, self._ids, domain.name, checks, now_ms, calm=calm, tell=partial(_tell, tx, domain, now_ms)
            )
            sending.looked(tx, domain, now_ms + round(check_book.wait_ms(after) / self._time_scale))
            return after

        return _Look(await self._database.write(work), stage, advice)

    async def _follow(self, domain: SendingDomain, look: _Look) -> None:
        """Where the policy is to follow what reports show: go on or back, and see that the DNS has it."""
        if domain.dmarc_rollout != "auto" or look.stage is None:
            return
        if look.advice is not None and look.advice.to is not None:
            advice, stage = look.advice, look.stage
            changed = await self._database.write(lambda tx: self._go_to(tx, domain, stage, advice))
            if changed is not None:
                domain = changed
                log.info(
                    "a DMARC policy changes", domain=domain.name, before=stage, now=advice.to, reason=advice.meaning
                )
        if domain.dmarc_policy == look.stage:
            return
        record = f"_dmarc.{domain.name}"
        try:
            async with self._following:  # many domains may lie in one zone, and its provider counts the questions
                known = await self._database.read(lambda tx: self._followed(tx, domain))
                if known is None:
                    return
                done = await self._put(domain, known, adopt=False, dry_run=False, only=lambda name: name == record)
        except ConflictError as error:
            log.warning("a DMARC policy cannot be published", domain=domain.name, reason=error.what)
            return
        if done.by_hand or done.conflicts:
            log.warning("a DMARC policy must be published by hand", domain=domain.name, record=record)

    def _followed(self, tx: Tx, domain: SendingDomain) -> _Known | None:
        """As things are now; None where somebody has set another policy meanwhile, or that it follows no more."""
        current = sending.by_name(tx, domain.name)
        return self._known(tx, current) if current is not None and _same_way(current, domain) else None

    def _go_to(self, tx: Tx, domain: SendingDomain, stage: Policy, advice: Advice) -> SendingDomain | None:
        """None where somebody else has changed it, or it is so already."""
        current, policy, now_ms = sending.held(tx, domain.name), advice.to, self._clock.now_ms()
        if current is None or policy is None or domain.dmarc_policy == policy or not _same_way(current, domain):
            return None
        changed = current._replace(dmarc_policy=policy)
        sending.update(tx, changed)
        sending.look_soon(tx, domain.id)
        past = Past(self._ids.next(), domain.name, POLICY, stage, policy, advice.found, advice.meaning, now_ms)
        dns_rows.add_past(tx, past)
        data = {"domain": domain.name, "check": POLICY, "before": stage, "state": policy, "meaning": advice.meaning}
        append(tx, [EventRow(now_ms, domain.tenant_id, EventKind.DOMAIN_CHANGED, 0, 0, orjson.dumps(data).decode())])
        return changed

    # Publishing

    async def publish(self, actor: Actor, name: str, *, adopt: bool, dry_run: bool, shown: str = "") -> PublishView:
        """Put the plan into the DNS where we may. ``shown``: the mark of changes that somebody saw, if no others are to be made.

        Raises ``NotFoundError`` and ``ConflictError`` (a server refuses; the changes are others than those that were shown).
        """
        domain, known = await self._find(actor, name)
        return await self._put(domain, known, adopt=adopt, dry_run=dry_run, shown=shown)

    async def publish_keys(self, domain: SendingDomain) -> None:
        """The same for the DKIM records alone: what a person has not published otherwise is not forced on them."""
        known = await self._database.read(lambda tx: self._known(tx, domain))
        await self._put(domain, known, adopt=False, dry_run=False, only=lambda name: "._domainkey." in name)

    async def _put(
        self,
        domain: SendingDomain,
        known: _Known,
        *,
        adopt: bool,
        dry_run: bool,
        only: Callable[[str], bool] = lambda name: True,
        shown: str = "",
    ) -> PublishView:
        zones = known.zones
        existing = await self._checker.existing(known.facts, known.own)
        wanted = [one for one in plan(known.facts, existing) if only(one.name)]
        own = [one for one in known.own if only(one.name)]
        diff = await self._publisher.diff(wanted, own, adopt=adopt)
        by_hand = [one for one in diff.changes if zones.of(one.name) is None]
        hold_to(shown, diff, by_hand)
        missing: list[Wanted] = []
        if not dry_run:
            by_hand = await self._publisher.publish(domain.id, diff, zones)
            added = {(one.name, one.type) for one in diff.changes if one.action == "add" and one not in by_hand}
            missing = await self._publisher.seen(
                [one for one in wanted if (one.name, one.type) in added], SEEN_WITHIN_S
            )
        return PublishView(domain=domain.name, **published(diff, by_hand, missing, applied=not dry_run))

    async def remove(self, actor: Actor, name: str) -> PublishView:
        """Take everything of ours out of the DNS again; for a domain that is to be removed. Raises as ``publish``."""
        domain, known = await self._find(actor, name)
        diff = await self._publisher.diff([], known.own, adopt=False)
        by_hand = await self._publisher.publish(domain.id, diff, known.zones)
        return PublishView(domain=domain.name, **published(diff, by_hand, [], applied=True))

    # Inside

    async def _find(self, actor: Actor, name: str) -> tuple[SendingDomain, _Known]:
        def find(tx: Tx) -> tuple[SendingDomain, _Known]:
            domain = own_domain(tx, actor, name)
            return domain, self._known(tx, domain)

        return await self._database.read(find)

    def _known(self, tx: Tx, domain: SendingDomain) -> _Known:
        return _Known(self._read(tx, domain)[0], dns_rows.own_records(tx, domain.id), Zones(dns_rows.targets(tx)))

    async def _facts(self, actor: Actor, name: str) -> tuple[SendingDomain, Facts, list[Egress]]:
        def find(tx: Tx) -> tuple[SendingDomain, Facts, list[Egress]]:
            domain = own_domain(tx, actor, name)
            return domain, *self._read(tx, domain)

        return await self._database.read(find)

    def _read(self, tx: Tx, domain: SendingDomain) -> tuple[Facts, list[Egress]]:
        keys = sending.keys(tx, domain.id)
        return facts(tx, domain, keys, self._defaults, self._authority), sources(tx, domain.tenant_id)


def _same_way(one: SendingDomain, other: SendingDomain) -> bool:
    return (one.id, one.dmarc_policy, one.dmarc_rollout) == (other.id, other.dmarc_policy, other.dmarc_rollout)


def _tell(tx: Tx, domain: SendingDomain, now_ms: int, check: Check, before: str) -> None:
    data = orjson.dumps({"domain": domain.name, **check_book.event_data(check, before)}).decode()
    append(tx, [EventRow(now_ms, domain.tenant_id, EventKind.DOMAIN_CHANGED, 0, 0, data)])


def _checks_view(domain: str, kept: dict[str, Kept]) -> ChecksView:
    not_ready = dns_checks.ready_for_bulk([one.check for one in kept.values()])
    return ChecksView(
        domain=domain,
        state=check_book.worst(kept),
        ready_for_bulk=not not_ready,
        why_not=[f"{one.name}: {one.meaning}" for one in not_ready],
        checks=check_book.check_views(kept),
    )
