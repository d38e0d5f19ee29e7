"""What the authoritative servers of a zone say, each by itself.

Recursive resolvers remember; whether a record is right is decided by those who serve it. Server names are found through the
resolver; then each of their addresses is asked without recursion, over UDP and over TCP where the answer is cut short. How many
questions a server gets at once is in ``net.server_turns``.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, NamedTuple

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from mailfleet.base.clock import SystemClock
from mailfleet.mail.address import is_within
from mailfleet.mail.dmarc import organizational_domain
from mailfleet.net.dns_query import DnsQuerier, DnsTemporary
from mailfleet.net.guard import ForbiddenDestinationError, check_destination
from mailfleet.net.server_turns import ServerTurns

_EDNS_PAYLOAD = 1232
_MAX_ALIASES = 8
_MAX_SERVERS = 12
NO_ANSWER = "no answer in time"
Outcome = Literal["found", "none", "missing", "lame", "failed", "silent"]


class Said(NamedTuple):
    """What one server answers. ``none``: the name is there without such a record; ``missing``: the name is not there.

    ``lame``: it does not serve the zone. ``failed``: SERVFAIL or a broken answer, in ``words``. ``over_tcp``: UDP was cut short.
    """

    server: str
    address: str
    outcome: Outcome
    records: tuple[str, ...] = ()
    words: str = ""
    over_tcp: bool = False
    raw: tuple[str, ...] = ()  # the records as a zone file has them, strings of TXT as they are divided
    at: str = ""  # the name that has them, behind aliases

    @property
    def answers(self) -> bool:
        """It says something about the name."""
        return self.outcome in ("found", "none", "missing")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the zone it belongs to (empty: none was found), and what each of its servers says. ``at``: behind aliases."""

    name: str
    kind: str
    zone: str
    said: tuple[Said, ...]
    at: str = ""
    words: str = ""

    @property
    def answers(self) -> tuple[Said, ...]:
        """Of those that say something."""
        return tuple(one for one in self.said if one.answers)

    @property
    def why(self) -> str:
        """Why nobody says anything."""
        return self.words or "; ".join(f"{one.server}: {one.words}" for one in self.said) or "no server answers"

    @property
    def all_answer(self) -> bool:
        """Every server says something."""
        return bool(self.said) and len(self.answers) == len(self.said)

    @property
    def records(self) -> tuple[str, ...]:
        """All that any server has, each once."""
        return tuple(dict.fromkeys(text for one in self.answers for text in one.records))

    @property
    def owner(self) -> str:
        """The name that has the records, behind all aliases; the last that was asked for where there are none."""
        return next((one.at for one in self.answers if one.at), self.at)

    @property
    def agreed(self) -> tuple[str, ...] | None:
        """The records, where all who answer have the same; None where nobody answers or they differ."""
        found = {frozenset(one.records): tuple(sorted(one.records)) for one in self.answers}
        return next(iter(found.values())) if len(found) == 1 else None


class Led(NamedTuple):
    """The name that aliases lead to, and its zone (empty: none was found). ``words``: why it may not be the last; else empty."""

    name: str
    zone: str
    words: str = ""


class NoTcpError(OSError):
    """A server cuts its answer short and does not take the connection by which the whole of it would come (RFC 7766 5)."""


class _Server(NamedTuple):
    name: str
    address: str


class Authoritative:
    """For one process. ``port`` is 53 except in test networks. ``turns``: of all who ask in this process."""

    def __init__(
        self,
        querier: DnsQuerier,
        *,
        timeout_s: float,
        port: int = 53,
        loopback_only: bool = False,
        turns: ServerTurns | None = None,
    ) -> None:
        self._querier, self._timeout_s, self._port = querier, timeout_s, port
        self._loopback_only = loopback_only
        self._turns = turns or ServerTurns(SystemClock())

    async def ask(self, name: str, kind: str) -> Asked:
        """Ask every server of the zone that ``name`` is in; a CNAME is followed into other zones. Never raises for what DNS does."""
        at, first_zone = name.lower().rstrip("."), ""
        for _ in range(_MAX_ALIASES):
            zone, servers, words = await self.servers_of(at)
            first_zone = first_zone or zone
            if not servers:
                if first_zone != zone or at != name.lower().rstrip("."):
                    words = f"it is an alias (CNAME) of {at}, where nobody answers: {words}"
                return Asked(name, kind, first_zone, (), at, words)
            said = await asyncio.gather(*(self._one(server, at, kind) for server in servers))
            alias = next((one.words for one in said if one.outcome == "none" and one.words.startswith("CNAME ")), "")
            if not alias:
                return Asked(name, kind, first_zone, tuple(said), at)
            at = alias.removeprefix("CNAME ").rstrip(".").lower()
        return Asked(name, kind, first_zone, (), at, "too many aliases follow one another")

    async def leads_to(self, name: str) -> Led:
        """Follow aliases, over zones, to the name that is none, be anything there or not. Never raises for what DNS does.

        Answers to questions of other types do not tell that name where it is not there (RFC 6604 3).
        """
        at = name.lower().rstrip(".")
        for _ in range(_MAX_ALIASES):
            asked = await self.ask(at, "CNAME")
            if not asked.answers:
                return Led(at, asked.zone, f"nobody who serves {at} says anything: {asked.why}")
            if asked.agreed is None:
                return Led(
                    at, asked.zone, f"the name servers of {asked.zone} do not agree on the alias (CNAME) at {at}"
                )
            if not asked.records:
                return Led(at, asked.zone)
            at = asked.records[0]
        return Led(at, "", "too many aliases follow one another")

    async def remembered(self, name: str, kind: str) -> tuple[str, ...]:
        """What the resolver remembers, of a name that is nobody's who would change it; nothing where it gives no answer."""
        try:
            return (await self._querier.ask(name, kind)).records
        except DnsTemporary:
            return ()

    async def servers_of(self, name: str) -> tuple[str, list[_Server], str]:
        """The zone that a name is in, its servers with all addresses, and why there is none."""
        labels = name.split(".")
        zones = [".".join(labels[place:]) or "." for place in range(len(labels) + 1)]
        registered = organizational_domain(name)
        mine = [zone for zone in zones if is_within(zone, registered)]
        words = ""
        # Where nobody answers for a domain, all names of it are waited for at once; what is above it is seldom needed
        known = dict(zip(mine, await asyncio.gather(*map(self._name_servers, mine)), strict=True))
        for zone in zones:
            names, why = known[zone] if zone in known else await self._name_servers(zone)
            words = why or words
            if names:
                found = [one for some in await asyncio.gather(*map(self._addresses, names)) for one in some]
                if not found:
                    return zone, [], f"none of the name servers of {zone} has an address: {', '.join(names)}"
                return zone, found[:_MAX_SERVERS], ""
        return "", [], words or f"there is no zone for {name}"

    async def zone_of(self, name: str) -> str:
        """The zone that a name is in. One that is not in the DNS yet will be its registered domain."""
        zone, _, _ = await self.servers_of(name)
        registered = organizational_domain(name)
        return zone if is_within(zone, registered) else registered

    async def _name_servers(self, zone: str) -> tuple[list[str], str]:
        """Their names, none where no zone begins, and why that is not known."""
        try:
            answer = await self._querier.ask(zone, "NS")
        except DnsTemporary as error:
            return [], str(error)
        return sorted({record.rstrip(".") for record in answer.records}), ""

    async def _addresses(self, name: str) -> list[_Server]:
        found: list[_Server] = []
        for kind in ("A", "AAAA"):
            try:
                found += [_Server(name, text) for text in (await self._querier.ask(name, kind)).records]
            except DnsTemporary:
                continue
        return found

    async def _one(self, server: _Server, name: str, kind: str) -> Said:
        query = dns.message.make_query(name, kind, use_edns=0, payload=_EDNS_PAYLOAD)
        query.flags &= ~dns.flags.RD
        async with self._turns.turn(server.address) as may_ask:
            if not may_ask:
                return Said(*server, "silent", words=NO_ANSWER)
            try:
                answer, over_tcp = await self._exchange(query, server.address, self._port)
            except (TimeoutError, dns.exception.Timeout):
                self._turns.heard(server.address, answered=False)
                return Said(*server, "silent", words=NO_ANSWER)
            except ForbiddenDestinationError as error:
                return Said(*server, "silent", words=str(error))
            except (dns.exception.DNSException, OSError, EOFError) as error:
                self._turns.heard(server.address, answered=True)
                return Said(*server, "failed", words=str(error) or type(error).__name__)
            self._turns.heard(server.address, answered=True)
        return _said(server, answer, name, kind, over_tcp)

    async def _exchange(self, query: dns.message.Message, address: str, port: int) -> tuple[dns.message.Message, bool]:
        """The answer, and whether it took TCP."""
        check_destination(address, loopback_only=self._loopback_only)
        try:
            answer = await dns.asyncquery.udp(
                query, address, timeout=self._timeout_s, port=port, ignore_unexpected=True, raise_on_truncation=True
            )
        except dns.message.Truncated:
            pass
        else:
            return answer, False
        try:
            return await dns.asyncquery.tcp(query, address, timeout=self._timeout_s, port=port), True
        except (TimeoutError, dns.exception.Timeout, OSError, EOFError):
            raise NoTcpError("its answer is too long for UDP, and it does not answer over TCP") from None


def _said(server: _Server, answer: dns.message.Message, name: str, kind: str, over_tcp: bool) -> Said:
    rcode = answer.rcode()
    if rcode == dns.rcode.REFUSED or (
        rcode == dns.rcode.NOERROR and not answer.flags & dns.flags.AA and not answer.answer
    ):
        return Said(
            *server, "lame", words=f"it does not serve the zone ({dns.rcode.to_text(rcode)})", over_tcp=over_tcp
        )
    if rcode == dns.rcode.NXDOMAIN:
        return Said(*server, "missing", over_tcp=over_tcp)
    if rcode != dns.rcode.NOERROR:
        words = dns.rcode.to_text(rcode)
        if rcode == dns.rcode.SERVFAIL:
            words += " (it cannot read its copy of the zone)"
        return Said(*server, "failed", words=words, over_tcp=over_tcp)
    wanted = dns.rdatatype.from_text(kind)
    at = dns.name.from_text(name)
    by_name: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = {(one.name, one.rdtype): one for one in answer.answer}
    for _ in range(_MAX_ALIASES):
        found = by_name.get((at, wanted))
        if found is not None:
            records, raw = tuple(_record(data, kind) for data in found), tuple(str(data) for data in found)
            owner = at.to_text(omit_final_dot=True).lower()
            return Said(*server, "found", records, over_tcp=over_tcp, raw=raw, at=owner)
        alias = by_name.get((at, dns.rdatatype.CNAME))
        if alias is None:
            break
        at = alias[0].target
    words = "" if at == dns.name.from_text(name) else f"CNAME {at}"
    return Said(*server, "none", words=words, over_tcp=over_tcp)


def _record(data: object, kind: str) -> str:
    """As text: TXT as one string, names in lower case without final dot."""
    if kind == "TXT":
        return b"".join(data.strings).decode("utf-8", "replace")  # type: ignore[attr-defined]  # dnspython's rdata of TXT
    text = str(data)
    if kind not in ("MX", "NS", "CNAME", "PTR"):
        return text
    return text.lower() if text == "." or text.endswith(" .") else text.lower().removesuffix(".")
