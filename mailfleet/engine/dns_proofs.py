"""Proofs that an authority looks for in the DNS (RFC 8555 8.4): put where the alias of a host leads, and taken away from there.

Where each one is is kept with the records that we put into the DNS, before it is put there: aliases may change meanwhile, and a
process may die.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError, ConflictError, MailfleetError
from mailfleet.engine.dns_publish import Diff, DnsPublisher, Zones
from mailfleet.mail.address import is_within
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_update import Change
from mailfleet.policy.dns_plan import Wanted
from mailfleet.store import dns as dns_rows
from mailfleet.store.database import Database, Tx
from mailfleet.store.dns import OwnRecord

log = structlog.get_logger()

SEEN_WITHIN_S = 60.0
TIDY_EVERY_S = 300.0
_BY_HAND = "nobody says any more how its zone is written to: mailfleet dns add, or take it away by hand"


class DnsProofs:
    """For one process. ``dns`` says where aliases lead. Proofs of several orders may be at one name."""

    def __init__(self, database: Database, dns: Authoritative, publisher: DnsPublisher, clock: Clock) -> None:
        self._database, self._dns, self._publisher, self._clock = database, dns, publisher, clock
        self._needed: set[str] = set()  # values; no two orders have the same
        self._tidy_s = 0.0  # not before, by the monotonic clock
        self._told: dict[tuple[str, str], str] = {}  # why a record could not be taken away, by name and value

    async def put(self, host: str, value: str) -> None:
        """Put the proof of a host there, and wait until every name server has it. Raises ``ConflictError``.

        It stays until ``take_away``, whether this raises or not.
        """
        zones = Zones(await self._database.read(dns_rows.targets))
        place = await self._place(f"_acme-challenge.{host}", zones)
        self._needed.add(value)
        await self._publisher.publish(dns_rows.NOBODY, Diff((Change("add", place, "TXT", value),), ()), zones)
        record = Wanted("acme", place, "TXT", value, "a certificate authority looks here", "merge")
        if await self._publisher.seen([record], SEEN_WITHIN_S):
            raise ConflictError(f"{place} was published and is not seen on every name server", where="dns-01")

    async def take_away(self, values: Iterable[str]) -> None:
        """An order is over. What cannot be taken away now is tried again by ``tidy``, and the log says so."""
        self._needed.difference_update(values)
        await self._take_away_left()

    async def tidy(self) -> None:
        """Now and then: take away what no order needs any more, as after a crash."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._tidy_s:
            self._tidy_s = now_s + TIDY_EVERY_S
            await self._take_away_left()

    async def _take_away_left(self) -> None:
        """One by one: a server that does not answer, or a key that is gone, keeps no other zone from being tidied."""

        def find(tx: Tx) -> tuple[list[OwnRecord], Zones]:
            return dns_rows.own_records(tx, dns_rows.NOBODY), Zones(dns_rows.targets(tx))

        own, zones = await self._database.read(find)
        for one in own:
            if one.value in self._needed:
                continue
            change = Change("remove", one.name, one.type, one.value)
            try:
                by_hand = await self._publisher.publish(dns_rows.NOBODY, Diff((change,), ()), zones)
                why = _BY_HAND if by_hand else ""
            except BusyError:
                raise
            except MailfleetError as error:
                why = str(error)
            if why and why != self._told.get((one.name, one.value)):
                log.warning("a proof for a certificate is still in the DNS", name=one.name, value=one.value, reason=why)
                self._told[one.name, one.value] = why
            elif not why:
                self._told.pop((one.name, one.value), None)

    async def _place(self, name: str, zones: Zones) -> str:
        """Where the TXT record for a name belongs. Raises ``ConflictError``: it is not known, or not ours to write."""
        led = await self._dns.leads_to(name)
        alias = f"{name} is an alias (CNAME) of {led.name}"
        target = zones.of(led.name)
        # A name below one that is delegated is not in the zone above, whoever may write to that
        if target is None or (led.zone != target.zone and is_within(led.zone, target.zone)):
            mend = f"mailfleet dns add {await self._dns.zone_of(led.name)}"
            if led.name == name:
                what = f"nobody said how the zone of {name} is written to"
            else:
                what = f"{alias}, and nobody said how the zone of that is written to"
                mend += f", or take the alias at {name} away"
            raise ConflictError(f"{what}; {led.words}" if led.words else what, where="dns-01", mend=mend)
        if led.words:
            what = name if led.name == name else alias
            raise ConflictError(f"{what}: {led.words}", where="dns-01", mend="mend that; it is tried again by itself")
        return led.name
