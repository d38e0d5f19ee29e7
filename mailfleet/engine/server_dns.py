"""The DNS of the install itself: planned, published, checked, and kept in step with the key that it shows.

Keys are named in the DNS (TLSA) before they are shown and while they are: a next key is published as soon as it waits, the
certificates exchange it when every name server names it, and the old one goes when nobody can remember it any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import orjson
import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError, ConflictError, NotFoundError
from mailfleet.base.ids import IdGenerator
from mailfleet.engine import check_book
from mailfleet.engine.certificate_views import HostKeys
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.dns_plans import PlanWriter, hold_to, published
from mailfleet.engine.dns_publish import DnsPublisher, Zones
from mailfleet.engine.domain_facts import with_account
from mailfleet.engine.domain_views import PastCheckView, ServerChecksView, ServerPlanView, ServerPublishView
from mailfleet.engine.domains import SEEN_WITHIN_S
from mailfleet.engine.requests import Actor
from mailfleet.engine.server_checks import ServerChecker
from mailfleet.engine.server_facts import Install, senders
from mailfleet.net.tls_keys import read_first
from mailfleet.policy.dns_checks import Check, Kept
from mailfleet.policy.dns_plan import Wanted
from mailfleet.policy.lifecycle import EventKind
from mailfleet.policy.server_plan import ServerExisting, ServerFacts, ServerPlan, plan, tlsa_value
from mailfleet.store import dns as dns_rows
from mailfleet.store.database import Database, Tx
from mailfleet.store.dns import SERVER, SERVER_SUBJECT, OwnRecord
from mailfleet.store.events import EventRow, append
from mailfleet.store.tenants import DEFAULT_TENANT

log = structlog.get_logger()

TEND_S = 60.0
_NO_KEY = {
    "managed": "the key of the certificate cannot be opened: see the log",
    "waiting": "there is no certificate yet",
    "makeshift": "the certificate is a makeshift, whose key is not meant to last: set acme.directory or import one",
    "file": "the certificate cannot be read",
}


class _Now(NamedTuple):
    """What is known at one moment."""

    facts: ServerFacts
    keys: HostKeys
    own: list[OwnRecord]
    zones: Zones
    existing: ServerExisting
    planned: ServerPlan


class ServerDns:
    """For one process. ``next_key_ms``: how long resolvers may remember records of ours."""

    def __init__(
        self,
        database: Database,
        checker: ServerChecker,
        publisher: DnsPublisher,
        writer: PlanWriter,
        certificates: Certificates,
        install: Install,
        *,
        next_key_ms: int,
        clock: Clock,
        ids: IdGenerator,
        time_scale: float,
    ) -> None:
        self._database, self._checker, self._publisher, self._writer = database, checker, publisher, writer
        self._certificates, self._install, self._next_key_ms = certificates, install, next_key_ms
        self._clock, self._ids, self._time_scale = clock, ids, time_scale
        self._tend_s = self._check_s = 0.0  # when each is due, by the monotonic clock

    # For people

    async def plan(self, actor: Actor, provider: str = "") -> ServerPlanView:
        """With what is in the DNS now taken into account; ``provider``: with what its form wants.

        Raises ``NotFoundError`` and ``InputError`` (no such provider).
        """
        _own_server(actor)
        planned = (await self._now()).planned
        answer = await self._writer.answer(planned.records, provider)
        return ServerPlanView(hostname=self._install.hostname, notes=planned.notes, **answer)

    async def publish(
        self, actor: Actor, *, adopt: bool, dry_run: bool, also: str = "", shown: str = ""
    ) -> ServerPublishView:
        """Put the plan into the DNS where we may. ``also``: a certificate (PEM) that will be shown later, whose key is named too;
        ``shown``: the mark of changes that somebody saw, if no others are to be made.

        Raises ``NotFoundError``, ``InputError`` and ``ConflictError`` (a server refuses; the changes are others than those shown).
        """
        _own_server(actor)
        now = await self._now(also=(read_first(also).digest,) if also else ())
        own = [one for one in now.own if not self._may_be_shown(one, now)]
        diff = await self._publisher.diff(now.planned.records, own, adopt=adopt)
        by_hand = [one for one in diff.changes if now.zones.of(one.name) is None]
        hold_to(shown, diff, by_hand)
        missing: list[Wanted] = []
        if not dry_run:
            by_hand = await self._publisher.publish(SERVER, diff, now.zones)
            added = {(one.name, one.type) for one in diff.changes if one.action == "add" and one not in by_hand}
            wanted = [one for one in now.planned.records if (one.name, one.type) in added]
            missing = await self._publisher.seen(wanted, SEEN_WITHIN_S)
        answer = published(diff, by_hand, missing, applied=not dry_run)
        return ServerPublishView(hostname=self._install.hostname, notes=now.planned.notes, **answer)

    async def check(self, actor: Actor) -> ServerChecksView:
        """Look now. Raises ``NotFoundError``."""
        _own_server(actor)
        return self._checks_view(await self._look(calm=False))

    async def standing(self, actor: Actor) -> ServerChecksView:
        """As it was found last; empty where nobody has looked yet. Raises ``NotFoundError``."""
        _own_server(actor)
        return self._checks_view(await self._database.read(lambda tx: dns_rows.standing(tx, SERVER_SUBJECT)))

    async def history(self, actor: Actor, limit: int) -> list[PastCheckView]:
        """What has changed, newest first. Raises ``NotFoundError``."""
        _own_server(actor)
        return check_book.past_views(await self._database.read(lambda tx: dns_rows.past(tx, SERVER_SUBJECT, limit)))

    # Periodic

    async def run(self) -> None:
        """Keep the records of keys in step, and check what is due."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._tend_s:
            self._tend_s = now_s + min(TEND_S, self._next_key_ms / 2000)
            try:
                await self._tend_keys()
            except ConflictError as error:
                log.warning("records of keys cannot be published", reason=str(error))
        if now_s >= self._check_s:
            self._check_s = now_s + check_book.HURRY_MS / 1000 / self._time_scale
            try:
                kept = await self._look(calm=True)
            except BusyError:
                raise
            except Exception:  # what keeps this one from being looked at must not keep the rest of the work from it
                log.exception("the server's DNS cannot be checked")
                return
            self._check_s = now_s + check_book.wait_ms(kept) / 1000 / self._time_scale

    async def _tend_keys(self) -> None:
        """Publish the record of a next key where those of the key in use are, and take out old ones, where we may write."""
        host, now_ms = self._install.hostname, self._clock.now_ms()
        own, zones = await self._database.read(_own)
        named = [one for one in own if one.type == "TLSA" and zones.of(one.name) is not None]
        if not named:
            return
        keys = await self._certificates.keys_of(host)
        values = {tlsa_value(digest) for digest in (keys.shown, keys.next) if digest}
        old = [one for one in named if self._is_old(one, keys) and now_ms >= keys.changed_ms + self._next_key_ms]
        there = {(one.name, one.value) for one in named}
        if not old and all((one.name, value) in there for one in named for value in values):
            return
        now = await self._now()
        places = {one.name for one in named}
        wanted = [one for one in now.planned.records if one.type == "TLSA" and one.name in places]
        if not wanted:
            return  # whether that is meant is for a person to say
        gone = [one for one in old if not self._may_be_shown(one, now)]
        kept = [one for one in named if one.value in {other.value for other in wanted}]
        await self._publisher.publish(SERVER, await self._publisher.diff(wanted, [*kept, *gone], adopt=False), zones)

    @staticmethod
    def _is_old(one: OwnRecord, keys: HostKeys) -> bool:
        """Named before the key in use was, and of another. What was named later is of a certificate that is to come."""
        return one.value not in (tlsa_value(keys.shown), tlsa_value(keys.next)) and one.created_ms < keys.changed_ms

    def _may_be_shown(self, one: OwnRecord, now: _Now) -> bool:
        """Whether a record of ours names a key that is shown yet, or was a moment ago by what resolvers remember."""
        if (
            one.type != "TLSA"
            or one.value in {tlsa_value(digest) for digest in now.facts.keys}
            or not self._install.tlsa
        ):
            return False
        shown = {tlsa_value(digest) for digest in now.existing.shown.values()}
        return one.value in shown or self._clock.now_ms() < now.keys.changed_ms + self._next_key_ms

    # Inside

    async def _now(self, also: Sequence[str] = ()) -> _Now:
        install = self._install
        (own, zones), found, authority = await self._database.read(
            lambda tx: (_own(tx), senders(tx, install.defaults), with_account(tx, install.authority))
        )
        # Later: what was put there for a key that came between is not among ours, and so is not taken out
        keys = await self._certificates.keys_of(install.hostname)
        digests = tuple(dict.fromkeys(one for one in (keys.shown, keys.next, *also) if one))
        why = "" if keys.shown else _NO_KEY[keys.source]
        if not install.tlsa:
            digests, why = (), "dns.tlsa is off"
        elif not keys.shown:
            digests = ()
        facts = ServerFacts(
            install.hostname,
            tuple(found),
            authority,
            tuple(dict.fromkeys(one.number for one in install.ports)),
            digests,
            why,
        )
        existing = await self._checker.existing(facts, own)
        planned = plan(facts, existing)
        if keys.source == "file" and digests:
            planned.notes.append(
                "the certificate is another program's: have it keep the key when it renews (certbot: --reuse-key), or"
                " tell the DNS of the next one first: mailfleet server publish --also CHAIN"
            )
        return _Now(facts, keys, own, zones, existing, planned)

    async def _look(self, *, calm: bool) -> dict[str, Kept]:
        now = await self._now()
        now_ms = self._clock.now_ms()
        checks = await self._checker.all(now.facts, now.existing, now.planned, now.keys, now_ms)

        def work(tx: Tx) -> dict[str, Kept]:
            tell = partial(_tell, tx, self._install.hostname, now_ms)
            return check_book.enter(tx, self._ids, SERVER_SUBJECT, checks, now_ms, calm=calm, tell=tell)

        return await self._database.write(work)

    def _checks_view(self, kept: dict[str, Kept]) -> ServerChecksView:
        return ServerChecksView(
            hostname=self._install.hostname, state=check_book.worst(kept), checks=check_book.check_views(kept)
        )


def _own(tx: Tx) -> tuple[list[OwnRecord], Zones]:
    return dns_rows.own_records(tx, SERVER), Zones(dns_rows.targets(tx))


def _own_server(actor: Actor) -> None:
    if actor.tenant_id != DEFAULT_TENANT:
        raise NotFoundError("the server is not yours", where="server", mend="ask whoever runs it")


def _tell(tx: Tx, hostname: str, now_ms: int, check: Check, before: str) -> None:
    data = orjson.dumps({"server": hostname, **check_book.event_data(check, before)}).decode()
    append(tx, [EventRow(now_ms, DEFAULT_TENANT, EventKind.SERVER_CHANGED, 0, 0, data)])
