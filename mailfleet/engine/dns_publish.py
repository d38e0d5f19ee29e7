"""Putting a plan into the DNS: what would change is worked out first, only records of ours are touched, and the rest is refused.

A record is ours when we put it there, or when a person said that we may adopt what stands in its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from mailfleet.base.clock import Clock
from mailfleet.base.errors import ConflictError
from mailfleet.engine.domain_checks import heard
from mailfleet.mail.address import is_within
from mailfleet.mail.dmarc import is_dmarc
from mailfleet.mail.spf_record import is_spf
from mailfleet.net.authoritative import Asked, Authoritative
from mailfleet.net.dns_update import Change, DnsUpdateError, Guard, ZoneWriter
from mailfleet.policy import dns_checks
from mailfleet.policy.dns_plan import Wanted
from mailfleet.store import dns as dns_rows
from mailfleet.store.database import Database, Tx
from mailfleet.store.dns import OwnRecord, Target

LOOK_EVERY_S = 0.5
_SETS = frozenset({"A", "AAAA", "CAA", "TLSA"})  # several at a name go well together
_BESIDE = ("A", "AAAA", "MX", "TXT", "CAA", "SRV", "TLSA", "HTTPS", "SVCB", "SSHFP", "NAPTR")  # where an alias is to be
_HOSTS = ("MX", "CNAME", "PTR", "NS")
Place = tuple[str, str]  # a name and a type


class Conflict(NamedTuple):
    """Something of others stands where a record of ours should be. ``wanted``: the exact text that would do."""

    name: str
    type: str
    there: str
    wanted: str
    why: str


class Diff(NamedTuple):
    """What would change. ``unknown``: names that no server answers for, where nothing is touched."""

    changes: tuple[Change, ...]
    conflicts: tuple[Conflict, ...]
    unknown: tuple[str, ...] = ()
    guards: tuple[Guard, ...] = ()  # what must still be there when it is made
    gone: tuple[Change, ...] = ()  # records of ours that are not there any more, nor wanted


class Zones(NamedTuple):
    """How zones are written to: the one that a name is in, or None where it must be done by hand."""

    targets: Sequence[Target]

    def of(self, name: str) -> Target | None:
        """The target of the closest zone above a name."""
        above = [one for one in self.targets if is_within(name, one.zone)]
        return max(above, key=lambda one: len(one.zone), default=None)


class DnsPublisher:
    """For one process. ``writer_of`` makes what writes to a target; ``ttl_s`` of what it publishes."""

    def __init__(
        self,
        database: Database,
        authoritative: Authoritative,
        writer_of: Callable[[Target], ZoneWriter],
        clock: Clock,
        *,
        ttl_s: int,
    ) -> None:
        self._database, self._dns, self._writer_of = database, authoritative, writer_of
        self._clock, self._ttl_s = clock, ttl_s

    async def diff(self, wanted: Sequence[Wanted], own: Sequence[OwnRecord], *, adopt: bool) -> Diff:
        """Against what the authoritative servers have now. ``adopt``: what stands in the place of ours may be replaced."""
        asked = await self._asked(wanted, own)
        ours = {(one.name, one.type, one.value) for one in own}
        changes: list[Change] = []
        conflicts: list[Conflict] = []
        aliases = {name for (name, kind), one in asked.items() if kind == "CNAME" and one.records}
        unknown = [name for (name, _), one in asked.items() if not one.answers and name not in aliases]
        for one in wanted:
            there, beside = _there(asked[one.name, one.type]), _beside(one, asked)
            if beside:
                some, conflict = _in_place(one, there or {}, beside, ours, adopt=adopt)
            elif there is not None:
                some, conflict = _for_one(one, there, ours, adopt=adopt)
            else:
                continue
            changes += some
            conflicts += [conflict] if conflict else []
        bare = {one.name for one in changes if one.action == "remove" and one.type == "CNAME"}
        changes += [_added(one) for one in wanted if one.name in bare and one.type != "CNAME"]  # what the alias led to
        planned = {(one.name, one.type, one.value) for one in wanted}
        gone: list[Change] = []
        for name, kind, value in sorted(ours - planned):
            there = _there(asked[name, kind]) or {}
            seen = value if kind in ("TXT", "CAA") else value.removesuffix(".").lower()
            if seen in there:
                changes.append(Change("remove", name, kind, value, there[seen]))
            elif asked[name, kind].all_answer:
                gone.append(Change("remove", name, kind, value))
        removals = dict.fromkeys((one.name, one.type) for one in changes if one.action == "remove")
        guards = [Guard(*place, tuple((_there(asked[place]) or {}).values())) for place in removals]
        return Diff(tuple(dict.fromkeys(changes)), tuple(conflicts), tuple(unknown), tuple(guards), tuple(gone))

    async def _asked(self, wanted: Sequence[Wanted], own: Sequence[OwnRecord]) -> dict[Place, Asked]:
        """What is at the places of all of them, and what is there of the kinds that cannot stand beside what is wanted."""
        places = dict.fromkeys([*((one.name, one.type) for one in wanted), *((one.name, one.type) for one in own)])
        places |= dict.fromkeys((one.name, "CNAME") for one in wanted)
        found = dict(zip(places, await asyncio.gather(*(self._dns.ask(*one) for one in places)), strict=True))
        names = [one.name for one in wanted if one.type == "CNAME" and _has_others(found[one.name, "CNAME"])]
        more = [(name, kind) for name in names for kind in _BESIDE]
        return found | dict(zip(more, await asyncio.gather(*(self._dns.ask(*one) for one in more)), strict=True))

    async def publish(self, domain_id: int, diff: Diff, zones: Zones) -> list[Change]:
        """Make the changes; returns those that must be made by hand, since nobody told how their zone is written to.

        Raises ``ConflictError``: the zone at fault is as it was, or the message says what is not, and calling again goes on.
        """
        await self._forget(domain_id, diff.gone)
        by_zone: dict[str, list[Change]] = {}
        by_hand: list[Change] = []
        targets = {}
        for change in diff.changes:
            target = zones.of(change.name)
            if target is None:
                by_hand.append(change)
                continue
            targets[target.zone] = target
            by_zone.setdefault(target.zone, []).append(change)
        for zone, some in by_zone.items():
            await self._remember(domain_id, some)
            gone = [one for one in some if one.action == "remove"]
            try:
                names = {one.name for one in some}
                guards = [one for one in diff.guards if one.name in names]
                await self._writer_of(targets[zone]).apply(some, self._ttl_s, guards)
            except DnsUpdateError as error:
                mend = (
                    f"mend it there or in mailfleet dns, and publish again: what was done in other zones stays ({zone})"
                )
                raise ConflictError(str(error), where=zone, mend=mend) from None
            await self._forget(domain_id, gone)
        return by_hand

    async def seen(self, wanted: Iterable[Wanted], within_s: float) -> list[Wanted]:
        """Wait until every authoritative server has all of it; returns what is still missing when time is up."""
        missing = list(wanted)
        until_s = self._clock.monotonic_s() + within_s
        while True:
            missing = [one for one in missing if not await self._is_there(one)]
            if not missing or self._clock.monotonic_s() >= until_s:
                return missing
            await self._clock.sleep(LOOK_EVERY_S)

    async def _is_there(self, wanted: Wanted) -> bool:
        asked = await self._dns.ask(wanted.name, wanted.type)
        return dns_checks.published(wanted, heard(asked), zone=asked.zone).state in ("ok", "warning")

    async def _remember(self, domain_id: int, changes: Sequence[Change]) -> None:
        """Before they are made: a crash between the two leaves a row too many, never a record that nobody owns."""
        now_ms = self._clock.now_ms()
        rows = [OwnRecord(domain_id, one.name, one.type, one.value, now_ms) for one in changes if one.action == "add"]
        await self._database.write(lambda tx: dns_rows.put_records(tx, rows))

    async def _forget(self, domain_id: int, changes: Sequence[Change]) -> None:
        def forget(tx: Tx) -> None:
            for one in changes:
                dns_rows.forget_record(tx, domain_id, one.name, one.type, one.value)

        if changes:
            await self._database.write(forget)


def _there(asked: Asked) -> dict[str, str] | None:
    """All that any server has, with the form that it has there; None where none answers."""
    if not asked.answers:
        return None
    return {text: raw for one in asked.answers for text, raw in zip(one.records, one.raw, strict=True)}


def _for_one(
    one: Wanted, there: dict[str, str], ours: set[tuple[str, str, str]], *, adopt: bool
) -> tuple[list[Change], Conflict | None]:
    value = _as_read(one)
    rivals = sorted(text for text in there if text != value and _rivals(one, text))
    foreign = [text for text in rivals if (one.name, one.type, _stored(one.type, text)) not in ours]
    removals = [Change("remove", one.name, one.type, _stored(one.type, text), there[text]) for text in rivals]
    if value in there and not foreign:
        return removals, None
    if foreign and one.manner == "leave":
        return [], None
    if foreign and not adopt:
        why = "a record of others is there"
        if one.manner == "merge":
            why = "a record of others is there: ours would be merged into it"
        return [], Conflict(one.name, one.type, " | ".join(foreign), one.value, why)
    return [*removals, *([] if value in there else [_added(one)])], None


def _has_others(alias: Asked) -> bool:
    """Whether a name has something, and nowhere an alias."""
    return not alias.records and any(one.outcome == "none" for one in alias.answers)


def _beside(one: Wanted, asked: dict[Place, Asked]) -> dict[tuple[str, str], str]:
    """What is there and cannot stand beside it (RFC 1034 3.6.2): ``(type, value)``, with the form that it has there."""
    kinds = ("CNAME",) if one.type != "CNAME" else _BESIDE
    found = [(kind, asked[one.name, kind]) for kind in kinds if (one.name, kind) in asked]
    return {(kind, text): raw for kind, place in found for text, raw in (_there(place) or {}).items()}


def _in_place(
    one: Wanted,
    there: dict[str, str],
    beside: dict[tuple[str, str], str],
    ours: set[tuple[str, str, str]],
    *,
    adopt: bool,
) -> tuple[list[Change], Conflict | None]:
    """Where an alias takes the place of other records, or they its place. ``there``: what the alias leads to."""
    removals = [
        Change("remove", one.name, kind, _stored(kind, text), raw) for (kind, text), raw in sorted(beside.items())
    ]
    foreign = [change for change in removals if (one.name, change.type, change.value) not in ours]
    if foreign:
        if _as_read(one) in there or (one.manner == "leave" and any(_rivals(one, text) for text in there)):
            return [], None
        why = "an alias (CNAME) stands alone, and records of others are there"
        if one.type != "CNAME":
            why = "an alias (CNAME) of others is there, and nothing can stand beside one"
        if one.manner != "own":
            why += ": publish it where that leads, or take the alias away"
        if one.manner != "own" or not adopt:
            texts = " | ".join(f"{change.type} {change.rdata}" for change in foreign)
            return [], Conflict(one.name, one.type, texts, one.value, why)
    return [*removals, _added(one)], None


def _added(one: Wanted) -> Change:
    return Change("add", one.name, one.type, one.value)


def _as_read(one: Wanted) -> str:
    """Its value in the form in which answers are read."""
    if one.type in ("TXT", "CAA") or one.value == "0 .":
        return one.value
    return one.value.lower().removesuffix(".")


def _rivals(one: Wanted, text: str) -> bool:
    """Whether a record cannot stand beside ours."""
    if one.type in _SETS:
        return False
    if one.type != "TXT" or one.check.startswith("dkim:"):
        return True
    if one.value.startswith("v=spf1"):
        return is_spf(text)
    if is_dmarc(one.value):
        return is_dmarc(text)
    return dns_checks.version_of(one.value) == dns_checks.version_of(text) != ""


def _stored(kind: str, text: str) -> str:
    """A record as it is kept: host names with their final dot."""
    return f"{text}." if kind in _HOSTS and not text.endswith(".") else text
