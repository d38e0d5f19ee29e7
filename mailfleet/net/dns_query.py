"""Single DNS questions: sent by dnspython over UDP, then TCP where the answer is cut short; cached; asked once at a time."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from mailfleet.base.clock import Clock
from mailfleet.base.errors import ConfigError, MailfleetError
from mailfleet.config.listen import split_host_port

_MIN_TTL_S = 30.0
_MAX_TTL_S = 3600.0
_FAILURE_TTL_S = 5.0  # RFC 2308 7: long enough that a thousand deliveries do not ask a dead server one by one
_MAX_CACHED = 100_000
_MAX_CONCURRENT = 200
_TRIES = 3
_EDNS_PAYLOAD = 1232


class DnsTemporary(MailfleetError):  # noqa: N818 - named as the outcome that it becomes
    """No answer for now: SERVFAIL, a refusal, silence. The message is a sentence for people."""


class DnsFailed(DnsTemporary):
    """The same for one question; ``ttl_s`` says when asking again makes sense."""

    def __init__(self, detail: str, ttl_s: float) -> None:
        self.ttl_s = ttl_s
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer. Not ``exists`` is NXDOMAIN. ``records``: addresses as text; MX as ``preference name``, lower case, no final
    dot, so that a null MX is ``0`` and a blank. ``ttl_s`` is what is left of it.
    """

    exists: bool
    records: tuple[str, ...]
    ttl_s: float


class DnsQuerier:
    """Asks, and remembers answers, negative ones and failures too, for their TTL held within bounds."""

    def __init__(self, nameservers: Sequence[str], timeout_s: float, clock: Clock) -> None:
        self._resolver = _stub(nameservers, timeout_s)
        self._clock = clock
        self._cache: OrderedDict[tuple[str, str], tuple[float, Answered | str]] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Task[Answered]] = {}
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)

    async def ask(self, name: str, kind: str) -> Answered:
        """The records of ``kind`` (MX, A, AAAA, TXT, PTR) at ``name``, CNAMEs followed. Raises ``DnsFailed``."""
        key = (name.lower(), kind)
        now_s = self._clock.monotonic_s()
        cached = self._cache.get(key)
        if cached is not None and cached[0] > now_s:
            self._cache.move_to_end(key)
            return _fresh(cached[1], cached[0] - now_s)
        asking = self._asking.get(key)
        if asking is None:
            asking = asyncio.create_task(self._ask(key))
            self._asking[key] = asking
            asking.add_done_callback(lambda task: self._forget(key, task))
        # Shielded: whoever stops waiting must not take the answer from the others who wait for it
        return await asyncio.shield(asking)

    def _forget(self, key: tuple[str, str], task: asyncio.Task[Answered]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # read, so that nobody still waiting for it is no complaint at the end

    async def _ask(self, key: tuple[str, str]) -> Answered:
        async with self._slots:
            try:
                answered = await self._query(*key)
            except (dns.exception.DNSException, OSError, EOFError) as error:
                detail = f"DNS gave no answer for {key[0]} {key[1]}: {_words(error)}"
                self._remember(key, _FAILURE_TTL_S, detail)
                raise DnsFailed(detail, _FAILURE_TTL_S) from None
        self._remember(key, answered.ttl_s, answered)
        return answered

    async def _query(self, name: str, kind: str) -> Answered:
        try:
            qname = dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError):
            return Answered(False, (), _MAX_TTL_S)  # cannot exist: a label too long or empty
        try:
            answer = await self._resolver.resolve(qname, kind, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN as missing:
            response: dns.message.Message = missing.responses()[missing.qnames()[-1]]  # type: ignore[no-untyped-call]  # dnspython
            return Answered(False, (), _negative_ttl(response))
        if answer.rrset is None:
            return Answered(True, (), _negative_ttl(answer.response))
        ttl_s = min(max(float(answer.chaining_result.minimum_ttl), _MIN_TTL_S), _MAX_TTL_S)
        return Answered(True, tuple(_record(data, kind) for data in answer.rrset), ttl_s)

    def _remember(self, key: tuple[str, str], ttl_s: float, what: Answered | str) -> None:
        self._cache[key] = (self._clock.monotonic_s() + ttl_s, what)
        self._cache.move_to_end(key)
        while len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)


def _fresh(what: Answered | str, left_s: float) -> Answered:
    if isinstance(what, str):
        raise DnsFailed(what, left_s)
    return Answered(what.exists, what.records, left_s)


def _record(data: object, kind: str) -> str:
    if kind == "TXT":
        return b"".join(data.strings).decode("utf-8", "replace")  # type: ignore[attr-defined]  # dnspython's rdata of TXT
    text = str(data).lower()
    return text.removesuffix(".") if kind == "MX" else text


def _negative_ttl(response: dns.message.Message) -> float:
    """RFC 2308 5: the lesser of the SOA record's TTL and its MINIMUM; the shortest time kept when there is no SOA."""
    found = [
        min(rrset.ttl, rrset[0].minimum) for rrset in response.authority if rrset.rdtype == dns.rdatatype.SOA and rrset
    ]
    return min(max(float(min(found, default=0)), _MIN_TTL_S), _MAX_TTL_S)


def _words(error: Exception) -> str:
    if isinstance(error, dns.resolver.LifetimeTimeout):
        return "no server answered in time"
    if isinstance(error, dns.resolver.NoNameservers):
        last = error.kwargs.get("errors") or []
        said = "; ".join(sorted({str(entry[3] or entry[4]) for entry in last}))
        return said or "every server refused"
    return str(error) or type(error).__name__


def _stub(nameservers: Sequence[str], timeout_s: float) -> dns.asyncresolver.Resolver:
    try:
        resolver = dns.asyncresolver.Resolver(configure=not nameservers)
    except dns.resolver.NoResolverConfiguration:
        raise ConfigError(
            "this system has no name server", where="dns.nameservers", mend='set it, for example ["127.0.0.1"]'
        ) from None
    if nameservers:
        resolver.nameservers = [_nameserver(text) for text in nameservers]
    resolver.timeout = timeout_s
    resolver.lifetime = _TRIES * timeout_s
    resolver.cache = None
    resolver.use_edns(0, 0, _EDNS_PAYLOAD)
    return resolver


def _nameserver(text: str) -> dns.nameserver.Do53Nameserver:
    try:
        try:
            return dns.nameserver.Do53Nameserver(str(ipaddress.ip_address(text)), 53)
        except ValueError:
            host, port = split_host_port(text)
            return dns.nameserver.Do53Nameserver(str(ipaddress.ip_address(host)), port)
    except ValueError:
        raise ConfigError(
            f"{text!r} is not an address of a name server",
            where="dns.nameservers",
            mend="write address or address:port, for example 127.0.0.1:5354 or [::1]:5354",
        ) from None
