"""Where mail for a domain goes (RFC 5321 5.1, RFC 7505) and the addresses of mail hosts: asked once, kept for their TTL."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mailfleet.base.clock import Clock
from mailfleet.net.dns_query import Answered, DnsFailed, DnsQuerier, DnsTemporary

MailHostsKind = Literal["mx", "implicit", "null-mx", "no-such-domain", "no-mail-host", "temporary"]


@dataclass(frozen=True, slots=True)
class MxHost:
    """A mail host: a name in lower case without final dot, or an address literal in brackets."""

    preference: int
    name: str


@dataclass(frozen=True, slots=True)
class MailHosts:
    """Where mail for a domain goes. ``hosts`` are in the order to try, empty for every kind but ``mx`` and ``implicit``.

    ``ttl_s`` is how long this holds, ``detail`` a sentence for people where there is no host.
    """

    kind: MailHostsKind
    hosts: tuple[MxHost, ...] = ()
    ttl_s: float = 0
    detail: str = ""


class Resolver:
    """Mail hosts and addresses, cached. Needs a running event loop at the first question.

    ``nameservers`` are ``address`` or ``address:port``, empty for the system's; a bad one raises ``ConfigError``. Each
    question is tried for three times ``timeout_s``. ``rng`` decides the order of what is equal.
    """

    def __init__(
        self, nameservers: Sequence[str], timeout_s: float, clock: Clock, rng: random.Random | None = None
    ) -> None:
        self._querier = DnsQuerier(nameservers, timeout_s, clock)
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, hides nothing

    async def mail_hosts(self, domain: str) -> MailHosts:
        """The hosts to try for ``domain`` (A-label, or an address literal in brackets). Never raises for what DNS does."""
        if domain.startswith("["):
            return MailHosts("implicit", (MxHost(0, domain),), ttl_s=3600)
        try:
            answered = await self._querier.ask(domain, "MX")
        except DnsFailed as failed:
            return MailHosts("temporary", ttl_s=failed.ttl_s, detail=str(failed))
        if not answered.exists:
            return MailHosts("no-such-domain", ttl_s=answered.ttl_s, detail=f"the domain {domain} does not exist")
        if not answered.records:
            return await self._implicit(domain, answered)
        # RFC 7505 3: "." stands alone; beside others it is a mistake to pass over
        best: dict[str, int] = {}
        for record in answered.records:
            preference, _, name = record.partition(" ")
            if name:
                best[name] = min(int(preference), best.get(name, 65535))
        if not best:
            return MailHosts("null-mx", ttl_s=answered.ttl_s, detail=f"{domain} says that it takes no mail (null MX)")
        hosts = [MxHost(preference, name) for name, preference in best.items()]
        hosts.sort(key=lambda host: (host.preference, self._rng.random()))  # RFC 5321 5.1: random among equals
        return MailHosts("mx", tuple(hosts), ttl_s=answered.ttl_s)

    async def addresses(self, host: str, ipv6: bool) -> list[str]:
        """The addresses of a mail host, IPv6 first if wanted; ``[]`` when it has none. Raises ``DnsTemporary``.

        One family is enough: a failure to learn the other is passed over.
        """
        if host.startswith("["):
            return _literal(host, ipv6)
        kinds = ("AAAA", "A") if ipv6 else ("A",)
        answers = await asyncio.gather(*(self._querier.ask(host, kind) for kind in kinds), return_exceptions=True)
        found: list[str] = []
        failed: DnsFailed | None = None
        for answer in answers:
            if isinstance(answer, DnsFailed):
                failed = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found += self._rng.sample(answer.records, len(answer.records))
        if failed is not None and not found:
            raise DnsTemporary(str(failed))
        return found

    async def _implicit(self, domain: str, answered: Answered) -> MailHosts:
        """RFC 5321 5.1: without MX records the domain itself is the host, if it has an address."""
        try:
            found = await self.addresses(domain, ipv6=True)
        except DnsTemporary as temporary:
            return MailHosts("temporary", ttl_s=1, detail=str(temporary))
        if not found:
            detail = f"{domain} has neither MX nor address records"
            return MailHosts("no-mail-host", ttl_s=answered.ttl_s, detail=detail)
        return MailHosts("implicit", (MxHost(0, domain),), ttl_s=answered.ttl_s)


def _literal(host: str, ipv6: bool) -> list[str]:
    text = host[1:-1]
    address = ipaddress.ip_address(text[5:] if text[:5].lower() == "ipv6:" else text)
    return [str(address)] if ipv6 or address.version == 4 else []
