"""DKIM keys change without a gap: the next one is published and seen everywhere before it signs, the old one stays until mail is old.

Each step is one transaction, worked out from what is stored and what the DNS shows, so a crash between any two is gone on from.

    (none) -> next -> active -> old -> gone
                      active -> leaked -> revoked -> gone
                       after a leak, old -> revoked
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson
import structlog

from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import ConflictError
from mailfleet.base.ids import IdGenerator
from mailfleet.base.secretbox import SecretBox
from mailfleet.engine.catalog import KEYS_FRESH_S, Catalog, key_label
from mailfleet.engine.dns_publish import DnsPublisher, Zones
from mailfleet.engine.domain_facts import own_domain
from mailfleet.engine.domain_views import KeysView, KeyView
from mailfleet.engine.domains import Domains
from mailfleet.engine.requests import Actor
from mailfleet.mail.dkim import SigningKey
from mailfleet.mail.dkim_record import parse_record
from mailfleet.policy.dns_plan import Facts, Wanted, plan
from mailfleet.policy.lifecycle import EventKind
from mailfleet.store import dns as dns_rows
from mailfleet.store import sending
from mailfleet.store.database import Database, Tx
from mailfleet.store.events import EventRow, append
from mailfleet.store.sending import DkimKey, SendingDomain

log = structlog.get_logger()

KEEP_OLD_MS = 8 * 86_400_000  # receivers retry and hold mail for days; a signature is looked at when it is read
TAKEN_UP_MS = 2 * KEYS_FRESH_S * 1000  # by then no process signs with a key that another has taken the place of
REFUSED_WAIT_S = 30.0  # before a zone that refuses, or what is left in it, is looked at again
OLD_KEY_MS = 400 * 86_400_000  # M3AAWG: change keys at least every six months; much later is worth a word
MIN_BITS = 2048
DAY_MS = 86_400_000
SUFFIXES = "abcdefghijklmnopqrstuvwxyz"


class Rotation:
    """For one process. The ``jobs`` role calls ``run``."""

    def __init__(
        self,
        database: Database,
        box: SecretBox,
        catalog: Catalog,
        domains: Domains,
        publisher: DnsPublisher,
        *,
        hostname: str,
        clock: Clock,
        ids: IdGenerator,
        time_scale: float,
    ) -> None:
        self._database, self._box, self._catalog, self._domains = database, box, catalog, domains
        self._publisher, self._hostname, self._clock, self._ids = publisher, hostname, clock, ids
        self._time_scale = time_scale
        self._rests: dict[int, float] = {}  # domain -> until when, where its zone could not be put right

    async def keys(self, actor: Actor, name: str) -> KeysView:
        """The keys of a domain with what is to be said of them. Raises ``NotFoundError``."""

        def find(tx: Tx) -> tuple[SendingDomain, list[DkimKey]]:
            domain = own_domain(tx, actor, name)
            return domain, sending.keys(tx, domain.id)

        domain, keys = await self._database.read(find)
        now_ms = self._clock.now_ms()
        made = [_view(one, now_ms, self._goes_ms(one)) for one in keys]
        return KeysView(domain=domain.name, rotate_days=domain.rotate_days, keys=made)

    async def rotate(self, actor: Actor, name: str, *, at_once: bool) -> KeysView:
        """Begin: make the next key of each algorithm and publish it. ``at_once``, after a leak: the old one goes as soon as the
        new one is seen and signs; that may be one that was on its way already.

        Raises ``NotFoundError`` and ``ConflictError`` (one is under way, or the zone cannot be written: it goes on when it can)."""
        domain = await self._database.read(lambda tx: own_domain(tx, actor, name))
        await self._begin(domain, by=actor.name or "a person", at_once=at_once)
        await self.advance(domain)
        return await self.keys(actor, name)

    async def run(self) -> None:
        """Begin what the schedule says, and go on with what is under way."""
        for domain in await self._database.read(sending.all_domains):
            if self._clock.monotonic_s() < self._rests.get(domain.id, 0):
                continue
            try:
                await self._go_on(domain)
            except ConflictError as error:
                log.warning("a key cannot go on", domain=domain.name, reason=str(error))
                self._rest(domain)

    async def _go_on(self, listed: SendingDomain) -> None:
        domain = await self._database.read(lambda tx: sending.by_name(tx, listed.name))
        if domain is None or domain.id != listed.id:
            return  # removed since the run began
        keys = await self._keys(domain)
        if self._is_due(domain, keys):
            await self._begin(domain, by="the schedule", at_once=False)
            keys = await self._keys(domain)
        if any(one.stage != "active" for one in keys):
            await self.advance(domain)
        if await self._database.read(lambda tx: _left_over(tx, domain)):  # by a crash, or a zone that refused
            self._rest(domain)
            await self._domains.publish_keys(domain)

    def _rest(self, domain: SendingDomain) -> None:
        self._rests[domain.id] = self._clock.monotonic_s() + REFUSED_WAIT_S / self._time_scale

    async def advance(self, domain: SendingDomain) -> None:
        """Every step that can be made now."""
        keys = await self._keys(domain)
        upcoming = [one for one in keys if one.stage == "next"]
        if upcoming:
            await self._domains.publish_keys(domain)
            if await self._publisher.seen(self._wanted(domain, upcoming), 0):
                return  # not everywhere yet
            await self._switch(domain, upcoming)
        await self._retire(domain)

    async def _begin(self, domain: SendingDomain, *, by: str, at_once: bool) -> None:
        keys = await self._keys(domain)
        begun = any(one.stage == "next" for one in keys)
        made = [] if begun else await self._made(domain, keys)
        under_way = ConflictError(
            f"a new key of {domain.name} is on its way already", where="domain", mend="wait until it signs"
        )

        def work(tx: Tx) -> None:
            sending.held(tx, domain.name)
            now = sending.keys(tx, domain.id)
            if any(one.stage == "next" for one in now):
                if not (at_once and self._leak(tx, domain)):
                    raise under_way
                return
            if not (made and now) or {one.selector for one in now} & {one.selector for one in made}:
                raise under_way  # and over by now, since somebody else began it
            for one in made:
                sending.add_key(tx, one)
                self._tell(tx, domain, one.selector, f"made, by {by}")
            if at_once:
                self._leak(tx, domain)

        await self._database.write(work)
        self._catalog.forget_identity(domain.name)

    async def _made(self, domain: SendingDomain, keys: Sequence[DkimKey]) -> list[DkimKey]:
        """The next key of each algorithm."""
        now_ms, taken = self._clock.now_ms(), {one.selector for one in keys}
        made = []
        for algorithm in dict.fromkeys(one.algorithm for one in keys if one.stage in ("active", "leaked")):
            selector = _selector(now_ms, taken)
            taken.add(selector)
            key = await asyncio.to_thread(SigningKey.generate, algorithm)  # up to seconds of arithmetic
            sealed, record = self._box.seal(key.to_pem(), key_label(domain.name, selector)), key.public_record()
            number = self._ids.next()
            made.append(DkimKey(number, domain.id, selector, algorithm, sealed, record, 0, now_ms, "next", now_ms))
        return made

    def _leak(self, tx: Tx, domain: SendingDomain) -> bool:
        """The keys that sign are to go as soon as others do, and those before them at once: nobody knows which it was that leaked.

        False where all of that is known already."""
        stages = {
            "active": ("leaked", "leaked: it goes as soon as another signs"),
            "old": ("revoked", "leaked: it goes at once"),
        }
        found = [one for one in sending.keys(tx, domain.id) if one.stage in stages]
        for one in found:
            stage, words = stages[one.stage]
            sending.set_stage(tx, one.id, stage, self._clock.now_ms())
            self._tell(tx, domain, one.selector, words)
        return bool(found)

    async def _switch(self, domain: SendingDomain, upcoming: Sequence[DkimKey]) -> None:
        """The next keys sign; those they follow are kept."""
        now_ms = self._clock.now_ms()

        def work(tx: Tx) -> None:
            sending.held(tx, domain.name)
            keys = sending.keys(tx, domain.id)
            ready = [one for one in keys if one.stage == "next" and one.id in {seen.id for seen in upcoming}]
            if not ready:
                return  # another process was first
            for one in keys:
                if one.stage == "active":
                    sending.set_stage(tx, one.id, "old", now_ms)
                    self._tell(tx, domain, one.selector, "kept for mail under way")
                elif one.stage == "leaked":
                    sending.set_stage(tx, one.id, "revoked", now_ms)
            for one in ready:
                sending.set_stage(tx, one.id, "active", now_ms)
                self._tell(tx, domain, one.selector, "signs")
            sending.look_soon(tx, domain.id)

        await self._database.write(work)
        self._catalog.forget_identity(domain.name)

    async def _retire(self, domain: SendingDomain) -> None:
        """Old keys go when mail signed with them is old; leaked ones as soon as every process signs with another. First from here,
        then from the DNS."""
        now_ms = self._clock.now_ms()

        def work(tx: Tx) -> bool:
            found = [(one, self._goes_ms(one)) for one in sending.keys(tx, domain.id)]
            gone = [one for one, at_ms in found if at_ms is not None and now_ms >= at_ms]
            for one in gone:
                sending.remove_key(tx, one.id)
                self._tell(tx, domain, one.selector, "gone")
            if gone:
                sending.look_soon(tx, domain.id)
            return bool(gone)

        if await self._database.write(work):
            await self._domains.publish_keys(domain)

    def _goes_ms(self, key: DkimKey) -> int | None:
        """When a key that signs no more is taken out of the DNS; None while it may sign."""
        stay_ms = {"old": KEEP_OLD_MS / self._time_scale, "revoked": TAKEN_UP_MS}.get(key.stage)
        return None if stay_ms is None else round(key.since_ms + stay_ms)

    async def _keys(self, domain: SendingDomain) -> list[DkimKey]:
        return await self._database.read(lambda tx: sending.keys(tx, domain.id))

    def _wanted(self, domain: SendingDomain, keys: Sequence[DkimKey]) -> list[Wanted]:
        known = plan(_only_keys(domain, keys, self._hostname))
        return [one for one in known if one.check.startswith("dkim:")]

    def _is_due(self, domain: SendingDomain, keys: Sequence[DkimKey]) -> bool:
        if not domain.rotate_days or any(one.stage == "next" for one in keys):
            return False
        since_ms = [one.since_ms or one.created_ms for one in keys if one.stage == "active"]
        age_ms = self._clock.now_ms() - min(since_ms, default=self._clock.now_ms())
        return age_ms >= domain.rotate_days * DAY_MS / self._time_scale

    def _tell(self, tx: Tx, domain: SendingDomain, selector: str, what: str) -> None:
        data = orjson.dumps({"domain": domain.name, "selector": selector, "change": what}).decode()
        append(tx, [EventRow(self._clock.now_ms(), domain.tenant_id, EventKind.KEY_CHANGED, 0, 0, data)])


def _left_over(tx: Tx, domain: SendingDomain) -> bool:
    """Whether we may still have the record of a key that is gone in a zone that we write to."""
    known = {one.public_record for one in sending.keys(tx, domain.id)}
    zones = Zones(dns_rows.targets(tx))
    return any(
        "._domainkey." in one.name and one.value not in known and zones.of(one.name) is not None
        for one in dns_rows.own_records(tx, domain.id)
    )


def _only_keys(domain: SendingDomain, keys: Sequence[DkimKey], hostname: str) -> Facts:
    return Facts(
        domain.name, domain.return_path_host, hostname, tuple((one.selector, one.public_record) for one in keys)
    )


def _selector(now_ms: int, taken: set[str]) -> str:
    """By month, with a letter where the month has had one. One that is gone is not used again: resolvers may remember its key."""
    stem = f"mf{rfc3339(now_ms)[:7].replace('-', '')}"
    names = [
        stem,
        *(f"{stem}{letter}" for letter in SUFFIXES if letter != "e"),
        *(f"{stem}{n}" for n in range(100, 1000)),
    ]
    later = max((place for place, name in enumerate(names) if name in taken), default=-1) + 1
    return next(name for name in (*names[later:], *names) if name not in taken)


def _view(key: DkimKey, now_ms: int, goes_ms: int | None) -> KeyView:
    bits = parse_record(key.public_record).bits
    warning = ""
    if key.algorithm.startswith("rsa") and bits < MIN_BITS:
        warning = f"{bits} bits are too few: change it (mailfleet domain rotate)"
    elif key.stage == "active" and now_ms - key.created_ms > OLD_KEY_MS:
        warning = "it signs for more than a year: change it (mailfleet domain rotate)"
    return KeyView(
        selector=key.selector,
        algorithm=key.algorithm,
        bits=bits,
        stage=key.stage,
        since=rfc3339(key.since_ms or key.created_ms),
        made=rfc3339(key.created_ms),
        goes="" if goes_ms is None else rfc3339(goes_ms),
        warning=warning,
    )
