"""Questions to a resolver that validates DNSSEC, which is on this machine or reached by a path that can be trusted."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, NamedTuple

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype

from mailfleet.base.clock import Clock
from mailfleet.net.guard import ForbiddenDestinationError, check_destination

_MIN_TTL_S, _MAX_TTL_S, _FAILED_TTL_S = 5.0, 3600.0, 5.0
_MAX_CACHED = 20_000
_FAILURES = (TimeoutError, dns.exception.DNSException, OSError, EOFError, ForbiddenDestinationError, UnicodeError)
Proof = Literal["secure", "insecure", "failed"]
Trust = Literal["secure", "insecure", "bogus", "unknown"]


class SecureAnswer(NamedTuple):
    """``secure``: proven, also where there is nothing. ``failed``: bogus or no answer, so nothing may be concluded."""

    proof: Proof
    records: tuple[str, ...] = ()


class SecureDns:
    """For one process."""

    def __init__(self, resolver: tuple[str, int], timeout_s: float, clock: Clock, *, loopback_only: bool) -> None:
        self._resolver, self._timeout_s, self._clock, self._loopback_only = resolver, timeout_s, clock, loopback_only
        self._cache: OrderedDict[tuple[str, str], tuple[float, SecureAnswer]] = OrderedDict()

    async def ask(self, name: str, kind: str) -> SecureAnswer:
        """The records of a kind at a name, aliases followed by the resolver. Never raises for what the DNS does."""
        key = name.lower(), kind
        now_s = self._clock.monotonic_s()
        cached = self._cache.get(key)
        if cached is not None and cached[0] > now_s:
            return cached[1]
        ttl_s, answer = await self._ask(*key)
        self._cache[key] = (now_s + min(max(ttl_s, _MIN_TTL_S), _MAX_TTL_S), answer)
        self._cache.move_to_end(key)
        while len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)
        return answer

    async def trust(self, name: str, kind: str) -> Trust:
        """What the resolver thinks of a name: ``bogus`` where it refuses an answer that is there, as one forged or expired."""
        try:
            answer = await self._exchange(name, kind, dns.flags.AD)
            if answer.rcode() != dns.rcode.SERVFAIL:
                return "secure" if answer.flags & dns.flags.AD else "insecure"
            unchecked = await self._exchange(name, kind, dns.flags.CD)
        except _FAILURES:
            return "unknown"
        return "unknown" if unchecked.rcode() == dns.rcode.SERVFAIL else "bogus"

    async def _ask(self, name: str, kind: str) -> tuple[float, SecureAnswer]:
        try:
            answer = await self._exchange(name, kind, dns.flags.AD)
        except _FAILURES:
            return _FAILED_TTL_S, SecureAnswer("failed")
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return _FAILED_TTL_S, SecureAnswer("failed")
        wanted = dns.rdatatype.from_text(kind)
        found = [(rrset.ttl, str(data)) for rrset in answer.answer if rrset.rdtype == wanted for data in rrset]
        proof: Proof = "secure" if answer.flags & dns.flags.AD else "insecure"
        return min((ttl for ttl, _ in found), default=60.0), SecureAnswer(proof, tuple(text for _, text in found))

    async def _exchange(self, name: str, kind: str, flag: dns.flags.Flag) -> dns.message.Message:
        query = dns.message.make_query(name, kind, use_edns=0, payload=1232)
        query.flags |= flag
        check_destination(self._resolver[0], loopback_only=self._loopback_only)
        answer, _ = await dns.asyncquery.udp_with_fallback(
            query, self._resolver[0], timeout=self._timeout_s, port=self._resolver[1], ignore_unexpected=True
        )
        return answer
