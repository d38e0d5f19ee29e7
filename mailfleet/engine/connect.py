"""Finding a mail host of a site that answers: MX order, every address, next host on host failure (RFC 5321 5.1)."""

from __future__ import annotations

import ipaddress
import random
import ssl
from dataclasses import dataclass, field, replace
from functools import partial

from mailfleet.engine.dane import Dane, DaneDemand
from mailfleet.engine.descriptors import Descriptors
from mailfleet.engine.proofs import MailHostProofs
from mailfleet.net.dns_query import DnsTemporary
from mailfleet.net.guard import ForbiddenDestinationError
from mailfleet.net.resolver import Resolver
from mailfleet.net.smtp_client import SmtpConnection
from mailfleet.net.smtp_peer import ClientOptions, ConnectFailed, Peer, TlsWish
from mailfleet.net.tls_client import verified_context
from mailfleet.policy.outcome import Failure, Outcome, Phase
from mailfleet.policy.transport import TlsDemand, TlsManner
from mailfleet.store.sites import Site

_NO_ADDRESS = Outcome(Phase.DNS, failure=Failure.DNS_TEMPORARY, detail="no mail host has an address")
NO_PATH = (Failure.TLS_UNPROVEN, Failure.REQUIRETLS)
"""What a message with REQUIRETLS fails by for good."""
SMTP_PORT = 25  # TLSA records are for this port, whatever port a test network has
MAX_ADDRESSES = 6  # tried in one round; RFC 5321 5.1 wants at least two

_SITE_FAILURE = {
    "null-mx": (Failure.NULL_MX, "the domain says that it takes no mail (null MX)"),
    "no-such-domain": (Failure.NO_SUCH_DOMAIN, "the domain does not exist"),
    "no-mail-host": (Failure.NO_MAIL_HOST, "the domain has neither a mail host nor an address"),
    "temporary": (Failure.DNS_TEMPORARY, "the domain cannot be looked up at the moment"),
}


def site_failure(site: Site) -> Outcome | None:
    """The outcome for a site that no connection leads to, or ``None`` when it has hosts."""
    found = _SITE_FAILURE.get(site.kind)
    return Outcome(Phase.DNS, failure=found[0], detail=site.detail or found[1]) if found else None


@dataclass(frozen=True)
class Way:
    """A way out as connections need it: what they bind to and call themselves, where they go, and how.

    ``families``: of the addresses that can be reached from it, 4 and 6.
    """

    egress_id: int
    name: str
    options: ClientOptions
    port: int
    families: frozenset[int] = frozenset({4, 6})
    relay: bool = False
    verified_context: ssl.SSLContext | None = field(default=None, compare=False)

    @property
    def verified(self) -> ClientOptions:
        """The options by which a remote must prove its name."""
        known: dict[str, ClientOptions] = self.__dict__.setdefault("_with_tls", {})
        found = known.get("verified")
        if found is None:
            found = replace(self.options, tls="required", tls_context=self.verified_context or verified_context())
            known["verified"] = found
        return found

    def with_tls(self, wish: TlsWish) -> ClientOptions:
        """The options with another demand for TLS."""
        known: dict[str, ClientOptions] = self.__dict__.setdefault("_with_tls", {})
        found = known.get(wish)
        if found is None:
            found = known[wish] = replace(self.options, tls=wish)
        return found


class Connector:
    """Opens connections for one delivery process."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        ipv6: bool,
        rng: random.Random,
        descriptors: Descriptors,
        dane: Dane | None = None,
        proofs: MailHostProofs | None = None,
    ) -> None:
        self._dane, self._proofs = dane, proofs or MailHostProofs(None, None)
        self._descriptors = descriptors
        self._resolver, self._ipv6, self._rng = resolver, ipv6, rng

    async def unproven(self, site: Site, way: Way, domain: str) -> Outcome | None:
        """What keeps mail with REQUIRETLS for ``domain`` from the hosts of its site; a relay's name is a person's word."""
        return None if way.relay else await self._proofs.lacking(domain, [name for _, name in site.hosts])

    async def open(
        self, site: Site, way: Way, *, tls: TlsDemand, manner: TlsManner = "", domain: str = ""
    ) -> tuple[SmtpConnection | None, Outcome | None, str]:
        """``(connection, None, "")`` or ``(None, outcome, transcript)``, the outcome of the last host that said something.

        With the manner ``require``, TLS or REQUIRETLS is what is lacking only when every host lacks it. ``domain`` is the
        recipient's: with the manner ``any`` its MX records count where its own policy left the site no host.
        """
        hosts, seen = site.hosts, _Seen()
        if manner == "any" and not hosts:
            found = await self._resolver.mail_hosts(domain)
            hosts = tuple((host.preference, host.name) for host in found.hosts)
        for _, host in sorted(hosts, key=lambda one: (one[0], self._rng.random())):
            connection = await self._try_host(host, way, tls, manner, seen)
            if connection is not None:
                return connection, None, ""
            if seen.tried >= MAX_ADDRESSES:
                break
        return None, seen.verdict, seen.transcript

    async def _try_host(
        self, host: str, way: Way, tls: TlsDemand, manner: TlsManner, seen: _Seen
    ) -> SmtpConnection | None:
        seen.hosts.add(host)
        try:
            async with self._descriptors.one():
                addresses = await self._resolver.addresses(host, self._ipv6)
        except DnsTemporary as error:
            seen.add(Outcome(Phase.DNS, failure=Failure.DNS_TEMPORARY, detail=str(error), mx_host=host))
            return None
        for ip in addresses:
            if ipaddress.ip_address(ip).version not in way.families:
                seen.add(_unreachable(f"{way.name} cannot reach {ip}", host, ip))
                continue
            if seen.tried >= MAX_ADDRESSES:
                return None
            seen.tried += 1
            try:
                return await self._open(Peer(host, ip, way.port), way, tls, manner)
            except ConnectFailed as error:
                seen.add(_outcome(error, host, ip, manner), error.transcript)
            except ForbiddenDestinationError as error:
                seen.add(_unreachable(str(error), host, ip))
        return None

    async def _open(self, peer: Peer, way: Way, tls: TlsDemand, manner: TlsManner) -> SmtpConnection:
        async with self._descriptors.one():
            if manner == "require":
                return await self._open_requiring(peer, way)
            return await self._open_one(peer, way, tls, dane=None if manner == "any" else self._dane)

    async def _open_one(self, peer: Peer, way: Way, tls: TlsDemand, *, dane: Dane | None) -> SmtpConnection:
        if dane is not None and not way.relay:
            demand = await dane.of(peer.host, SMTP_PORT)
            if demand is not None:  # RFC 8461 2: it goes before MTA-STS
                return await self._open_proven(peer, way, dane, demand)
        if tls:
            return await SmtpConnection.open(peer, way.verified if tls == "verified" else way.with_tls("required"))
        try:
            return await SmtpConnection.open(peer, way.options)
        except ConnectFailed as error:
            # RFC 7435: opportunistic security falls back to what was there without it.
            if error.phase != Phase.TLS or way.options.tls != "opportunistic":
                raise
            return await SmtpConnection.open(peer, way.with_tls("none"))

    async def _open_requiring(self, peer: Peer, way: Way) -> SmtpConnection:
        """RFC 8689 4.2.1: proven by DANE or by an authority, and REQUIRETLS is offered under TLS."""
        demand = await self._dane.of(peer.host, SMTP_PORT) if self._dane is not None and not way.relay else None
        if demand is not None and demand.problem:
            raise ConnectFailed("dns", Failure.DNS_TEMPORARY, detail=demand.problem)
        if self._dane is not None and demand is not None and demand.records:
            connection = await self._open_proven(peer, way, self._dane, demand)
        else:
            connection = await SmtpConnection.open(peer, way.verified)
        if not connection.extensions.requiretls:
            transcript = connection.session_transcript
            await connection.quit()
            detail = f"the message has REQUIRETLS, and {peer.host} does not offer it"
            raise ConnectFailed("ehlo", Failure.REQUIRETLS, detail=detail, transcript=transcript)
        return connection

    @staticmethod
    async def _open_proven(peer: Peer, way: Way, dane: Dane, demand: DaneDemand) -> SmtpConnection:
        if demand.problem:
            raise ConnectFailed("tls", "tls-handshake", detail=demand.problem)
        options = way.with_tls("required")
        if demand.records:
            options = replace(options, check_peer=partial(dane.problem, demand, peer.host))
        return await SmtpConnection.open(peer, options)


def _unreachable(detail: str, host: str, ip: str) -> Outcome:
    return Outcome(Phase.CONNECT, failure=Failure.UNREACHABLE, detail=detail, mx_host=host, remote_ip=ip)


def _outcome(error: ConnectFailed, host: str, ip: str, manner: TlsManner) -> Outcome:
    failure, detail = Failure(error.failure) if error.reply is None else Failure.NONE, error.detail
    if manner == "require" and failure in (Failure.TLS_REQUIRED, Failure.TLS_HANDSHAKE):
        failure, detail = Failure.TLS_UNPROVEN, f"the message has REQUIRETLS: {detail}"
    return Outcome(Phase(error.phase), error.reply, failure, detail, host, ip)


@dataclass(slots=True)
class _Seen:
    """What was heard on the way through the hosts of a site, none of which gave a connection."""

    outcome: Outcome = _NO_ADDRESS
    transcript: str = ""
    tried: int = 0
    hosts: set[str] = field(default_factory=set)
    lacking: dict[str, Outcome] = field(default_factory=dict)  # by host: REQUIRETLS, or what it needs

    def add(self, found: Outcome, transcript: str | None = None) -> None:
        """A remote's words say more than silence; otherwise the latest counts."""
        if found.failure in NO_PATH:
            self.lacking[found.mx_host] = found
        elif self.outcome.reply is not None and found.reply is None:
            return
        else:
            self.outcome = found
        if transcript is not None:
            self.transcript = transcript

    @property
    def verdict(self) -> Outcome:
        """Of them all. What every host lacks will not come; a host that did not answer may have it."""
        if self.lacking.keys() != self.hosts or not self.hosts:
            return self.outcome
        nearest = [one for one in self.lacking.values() if one.failure is Failure.REQUIRETLS]
        return (nearest or list(self.lacking.values()))[-1]
