"""The DNS of sending domains: planned, published, checked, kept right. What is signed with which key is in ``engine.rotation``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import orjson
import structlog

from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import BusyError, ConflictError, InputError, NotFoundError
from mailfleet.base.ids import IdGenerator
from mailfleet.base.secretbox import SecretBox
from mailfleet.engine.dns_publish import Diff, DnsPublisher, Zones
from mailfleet.engine.domain_checks import DomainChecker
from mailfleet.engine.domain_facts import facts, own_domain, sources
from mailfleet.engine.domain_views import (
    ChangeView,
    ChecksView,
    CheckView,
    ConflictView,
    PastCheckView,
    PlannedRecord,
    PlanView,
    PublishView,
    ZoneView,
)
from mailfleet.engine.requests import Actor
from mailfleet.mail.address import domain_to_ascii
from mailfleet.net.dns_update import ALGORITHMS, Change, DynamicUpdate
from mailfleet.policy import dns_checks
from mailfleet.policy.dns_checks import Kept
from mailfleet.policy.dns_plan import Facts, Wanted, never_sends, plan, rdata_text, zone_text
from mailfleet.policy.lifecycle import EventKind
from mailfleet.store import dns as dns_rows
from mailfleet.store import sending
from mailfleet.store.database import Database, Tx
from mailfleet.store.dns import OwnRecord, Past, Target
from mailfleet.store.egress import Egress
from mailfleet.store.events import EventRow, append
from mailfleet.store.sending import SendingDomain

log = structlog.get_logger()

SEEN_WITHIN_S = 20.0
CHECK_EVERY_MS = 6 * 3_600_000
HURRY_MS = 15 * 60_000  # while something is not right
_ZONE = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_WORST = ("ok", "warning", "unknown", "failed")


class Domains:
    """For one process. ``update_of`` makes what writes to a zone."""

    def __init__(
        self,
        database: Database,
        box: SecretBox,
        checker: DomainChecker,
        publisher: DnsPublisher,
        update_of: Callable[[Target], DynamicUpdate],
        *,
        hostname: str,
        ttl_s: int,
        clock: Clock,
        ids: IdGenerator,
        time_scale: float,
        authority: str = "",
    ) -> None:
        self._database, self._box, self._checker, self._publisher = database, box, checker, publisher
        self._update_of, self._hostname, self._ttl_s, self._authority = update_of, hostname, ttl_s, authority
        self._clock, self._ids, self._time_scale = clock, ids, time_scale

    # Plan

    async def plan(self, actor: Actor, name: str, *, looks: bool = True) -> PlanView:
        """``looks``: with what others have in the DNS now taken into account. Raises ``NotFoundError``."""
        domain, known, _ = await self._facts(actor, name)
        if not looks:
            return self._plan_view(domain.name, plan(known))
        own = await self._database.read(lambda tx: dns_rows.own_records(tx, domain.id))
        return self._plan_view(domain.name, plan(known, await self._checker.existing(known, _values(own))))

    async def plan_never_sends(self, name: str) -> PlanView:
        """For a domain that sends and receives nothing. Raises ``InputError``."""
        domain = domain_to_ascii(name.strip())
        return self._plan_view(domain, never_sends(domain))

    # Checks

    async def check(self, actor: Actor, name: str) -> ChecksView:
        """Look now. Raises ``NotFoundError``."""
        domain, known, found = await self._facts(actor, name)
        return _checks_view(domain.name, await self._look(domain, known, found, calm=False))

    async def standing(self, actor: Actor, name: str) -> ChecksView:
        """As it was found last; empty where nobody has looked yet. Raises ``NotFoundError``."""

        def find(tx: Tx) -> tuple[str, dict[str, Kept]]:
            domain = own_domain(tx, actor, name)
            return domain.name, dns_rows.standing(tx, domain.name)

        return _checks_view(*await self._database.read(find))

    async def history(self, actor: Actor, name: str, limit: int) -> list[PastCheckView]:
        """What has changed, newest first. Raises ``NotFoundError``."""

        def find(tx: Tx) -> list[Past]:
            return dns_rows.past(tx, own_domain(tx, actor, name).name, limit)

        return [
            PastCheckView(
                at=rfc3339(one.at_ms),
                name=one.name,
                before=one.before,
                state=one.state,
                found=one.found,
                meaning=one.meaning,
            )
            for one in await self._database.read(find)
        ]

    async def run_due(self) -> int:
        """Check the domains whose time has come; returns how many that were."""
        now_ms = self._clock.now_ms()
        due = await self._database.read(lambda tx: sending.due(tx, now_ms))
        for domain in due:
            try:
                known, found = await self._database.read(lambda tx, one=domain: self._read(tx, one))  # type: ignore[misc]  # bound at once
                await self._look(domain, known, found, calm=True)
            except BusyError:
                raise
            except Exception:  # one that cannot be looked at must not keep the others from it
                log.exception("a domain cannot be checked", domain=domain.name)
                later = domain._replace(next_check_ms=now_ms + round(HURRY_MS / self._time_scale))
                await self._database.write(lambda tx, one=later: sending.update(tx, one))  # type: ignore[misc]  # bound at once
        return len(due)

    async def _look(self, domain: SendingDomain, known: Facts, found: list[Egress], *, calm: bool) -> dict[str, Kept]:
        """``calm``: a change for the worse counts when it is seen again; a person who asks sees what is there now."""
        own = await self._database.read(lambda tx: dns_rows.own_records(tx, domain.id))
        checks = await self._checker.all(known, found, _values(own))
        now_ms = self._clock.now_ms()

        def work(tx: Tx) -> dict[str, Kept]:
            before = dns_rows.standing(tx, domain.name)
            after = {}
            for one in checks:
                was = before.get(one.name)
                after[one.name] = kept = dns_checks.settle(was, one, now_ms, calm=calm)
                self._tell(tx, domain, was, kept, now_ms)
            dns_rows.put_standing(tx, domain.name, after)
            bad = any(one.check.state in ("failed", "unknown") or one.doubt for one in after.values())
            wait_ms = round((HURRY_MS if bad else CHECK_EVERY_MS) / self._time_scale)
            current = sending.by_name(tx, domain.name)
            if current is not None:
                sending.update(tx, current._replace(next_check_ms=now_ms + wait_ms))
            return after

        return await self._database.write(work)

    def _tell(self, tx: Tx, domain: SendingDomain, was: Kept | None, now: Kept, now_ms: int) -> None:
        """A change of state is history, and an event."""
        before = "" if was is None else was.check.state
        if before == now.check.state:
            return
        check = now.check
        row = Past(self._ids.next(), domain.name, check.name, before, check.state, check.found, check.meaning, now_ms)
        dns_rows.add_past(tx, row)
        if before:
            data = {
                "domain": domain.name, "check": check.name, "before": before, "state": check.state,
                "found": check.found, "meaning": check.meaning, "next_step": check.next_step,
            }  # fmt: skip
            text = orjson.dumps(data).decode()
            append(tx, [EventRow(now_ms, domain.tenant_id, EventKind.DOMAIN_CHANGED, 0, 0, text)])

    # Publishing

    async def publish(self, actor: Actor, name: str, *, adopt: bool, dry_run: bool) -> PublishView:
        """Put the plan into the DNS where we may. Raises ``NotFoundError`` and ``ConflictError`` (a server refuses)."""
        domain, known, _ = await self._facts(actor, name)
        return await self._put(domain, known, adopt=adopt, dry_run=dry_run)

    async def publish_keys(self, domain: SendingDomain) -> None:
        """The same for the DKIM records alone: what a person has not published otherwise is not forced on them."""
        known, _ = await self._database.read(lambda tx: self._read(tx, domain))
        await self._put(domain, known, adopt=False, dry_run=False, only=lambda name: "._domainkey." in name)

    async def _put(
        self,
        domain: SendingDomain,
        known: Facts,
        *,
        adopt: bool,
        dry_run: bool,
        only: Callable[[str], bool] = lambda name: True,
    ) -> PublishView:
        own, zones = await self._own(domain)
        existing = await self._checker.existing(known, _values(own))
        wanted = [one for one in plan(known, existing) if only(one.name)]
        own = [one for one in own if only(one.name)]
        diff = await self._publisher.diff(wanted, own, adopt=adopt)
        by_hand = [one for one in diff.changes if zones.of(one.name) is None]
        missing: list[Wanted] = []
        if not dry_run:
            by_hand = await self._publisher.publish(domain.id, diff, zones)
            added = {(one.name, one.type) for one in diff.changes if one.action == "add" and one not in by_hand}
            missing = await self._publisher.seen(
                [one for one in wanted if (one.name, one.type) in added], SEEN_WITHIN_S
            )
        return _publish_view(domain.name, diff, by_hand, missing, applied=not dry_run)

    async def remove(self, actor: Actor, name: str) -> PublishView:
        """Take everything of ours out of the DNS again; for a domain that is to be removed. Raises as ``publish``."""
        domain = await self._database.read(lambda tx: own_domain(tx, actor, name))
        own, zones = await self._own(domain)
        diff = await self._publisher.diff([], own, adopt=False)
        by_hand = await self._publisher.publish(domain.id, diff, zones)
        return _publish_view(domain.name, diff, by_hand, [], applied=True)

    # Zones

    async def add_zone(
        self, actor: Actor, zone: str, *, server: str, key_name: str, secret: str, algorithm: str
    ) -> ZoneView:
        """How a zone is written to: by dynamic update. Raises ``InputError`` and ``ConflictError``."""
        name = domain_to_ascii(zone.strip().rstrip("."))
        if not _ZONE.fullmatch(name):
            raise InputError(f"{zone!r} is no zone", where="zone", mend="give a domain name")
        if algorithm not in ALGORITHMS:
            raise InputError(f"{algorithm!r} is not known", where="algorithm", mend=f"one of {', '.join(ALGORITHMS)}")
        sealed = self._box.seal(secret.encode(), zone_label(name)) if secret else None
        target = Target(
            self._ids.next(),
            actor.tenant_id,
            name,
            "rfc2136",
            server,
            key_name,
            algorithm,
            sealed,
            self._clock.now_ms(),
        )
        self._update_of(target)  # says what is wrong with it
        if not await self._database.write(lambda tx: dns_rows.add_target(tx, target)):
            raise ConflictError(f"{name} is there already", where="zone", mend=f"mailfleet dns remove {name}")
        return _zone_view(target)

    async def zones(self, actor: Actor) -> list[ZoneView]:
        """All of them, without secrets."""
        return [_zone_view(one) for one in await self._database.read(dns_rows.targets)]

    async def remove_zone(self, actor: Actor, zone: str) -> None:
        """Write there no more. Raises ``NotFoundError``."""
        name = domain_to_ascii(zone.strip().rstrip("."))
        if not await self._database.write(lambda tx: dns_rows.remove_target(tx, name)):
            raise NotFoundError(f"there is no zone {zone!r}", where="zone", mend="see: mailfleet dns list")

    # Inside

    async def _own(self, domain: SendingDomain) -> tuple[list[OwnRecord], Zones]:
        """What we have put into the DNS for a domain, and where we may."""
        return await self._database.read(lambda tx: (dns_rows.own_records(tx, domain.id), Zones(dns_rows.targets(tx))))

    async def _facts(self, actor: Actor, name: str) -> tuple[SendingDomain, Facts, list[Egress]]:
        def find(tx: Tx) -> tuple[SendingDomain, Facts, list[Egress]]:
            domain = own_domain(tx, actor, name)
            return domain, *self._read(tx, domain)

        return await self._database.read(find)

    def _read(self, tx: Tx, domain: SendingDomain) -> tuple[Facts, list[Egress]]:
        keys = sending.keys(tx, domain.id)
        return facts(tx, domain, keys, self._hostname, self._authority), sources(tx, domain.tenant_id)

    def _plan_view(self, domain: str, records: list[Wanted]) -> PlanView:
        return PlanView(
            domain=domain,
            records=[
                PlannedRecord(
                    **one._asdict(), line=f"{one.name}. {self._ttl_s} IN {one.type} {rdata_text(one.type, one.value)}"
                )
                for one in records
            ],
            zone=zone_text(records, self._ttl_s),
        )


def _values(own: Sequence[OwnRecord]) -> set[str]:
    return {one.value for one in own}


def zone_label(zone: str) -> str:
    """What the secret of a zone is sealed under."""
    return f"dns:{zone}"


def _checks_view(domain: str, kept: dict[str, Kept]) -> ChecksView:
    checks = [one.check for one in kept.values()]
    states = [one.state for one in checks]
    not_ready = dns_checks.ready_for_bulk(checks)
    return ChecksView(
        domain=domain,
        state=max(states, key=_WORST.index, default="unknown"),
        ready_for_bulk=not not_ready,
        why_not=[f"{one.name}: {one.meaning}" for one in not_ready],
        checks=[
            CheckView(
                name=one.check.name,
                state=one.check.state,
                found=one.check.found,
                expected=one.check.expected,
                servers=list(one.check.servers),
                meaning=one.check.meaning,
                next_step=one.check.next_step,
                since=rfc3339(one.since_ms),
                seen=rfc3339(one.seen_ms),
            )
            for one in kept.values()
        ],
    )


def _publish_view(
    domain: str, diff: Diff, by_hand: list[Change], missing: list[Wanted], *, applied: bool
) -> PublishView:
    return PublishView(
        domain=domain,
        applied=applied,
        changes=[_change_view(one) for one in diff.changes if one not in by_hand],
        by_hand=[_change_view(one) for one in by_hand],
        conflicts=[ConflictView(**one._asdict()) for one in diff.conflicts],
        unknown=list(dict.fromkeys(diff.unknown)),
        missing=[f"{one.name} {one.type}" for one in missing],
    )


def _change_view(one: Change) -> ChangeView:
    return ChangeView(action=one.action, name=one.name, type=one.type, value=one.value)


def _zone_view(target: Target) -> ZoneView:
    return ZoneView(
        zone=target.zone, kind=target.kind, server=target.server, key_name=target.key_name, algorithm=target.algorithm
    )
