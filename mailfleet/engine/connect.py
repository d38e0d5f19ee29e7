"""Finding a mail host of a site that answers: MX order, every address, next host on host failure (RFC 5321 5.1)."""

from __future__ import annotations

import ipaddress
import random
import ssl
from dataclasses import dataclass, field, replace
from functools import partial

from mailfleet.engine.dane import Dane, DaneDemand
from mailfleet.engine.descriptors import Descriptors
from mailfleet.net.dns_query import DnsTemporary
from mailfleet.net.guard import ForbiddenDestinationError
from mailfleet.net.resolver import Resolver
from mailfleet.net.smtp_client import SmtpConnection
from mailfleet.net.smtp_peer import ClientOptions, ConnectFailed, Peer, TlsWish
from mailfleet.net.tls_client import verified_context
from mailfleet.policy.outcome import Failure, Outcome, Phase
from mailfleet.policy.transport import TlsDemand
from mailfleet.store.sites import Site

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
    ) -> None:
        self._dane = dane
        self._descriptors = descriptors
        self._resolver, self._ipv6, self._rng = resolver, ipv6, rng

    async def open(self, site: Site, way: Way, *, tls: TlsDemand) -> tuple[SmtpConnection | None, Outcome | None, str]:
        """``(connection, None, "")`` or ``(None, outcome, transcript)``, the outcome of the last host that said something."""
        outcome = Outcome(Phase.DNS, failure=Failure.DNS_TEMPORARY, detail="no mail host has an address")
        transcript, tried = "", 0
        by_preference = sorted(site.hosts, key=lambda host: (host[0], self._rng.random()))
        for _, host in by_preference:
            try:
                async with self._descriptors.one():
                    addresses = await self._resolver.addresses(host, self._ipv6)
            except DnsTemporary as error:
                outcome = _better(
                    outcome, Outcome(Phase.DNS, failure=Failure.DNS_TEMPORARY, detail=str(error), mx_host=host)
                )
                continue
            for ip in addresses:
                if ipaddress.ip_address(ip).version not in way.families:
                    outcome = _better(outcome, _unreachable(f"{way.name} cannot reach {ip}", host, ip))
                    continue
                if tried >= MAX_ADDRESSES:
                    return None, outcome, transcript
                tried += 1
                try:
                    return await self._open(Peer(host, ip, way.port), way, tls), None, ""
                except ConnectFailed as error:
                    found = _outcome(error, host, ip)
                    if _better(outcome, found) is found:
                        outcome, transcript = found, error.transcript
                except ForbiddenDestinationError as error:
                    outcome = _better(outcome, _unreachable(str(error), host, ip))
        return None, outcome, transcript

    async def _open(self, peer: Peer, way: Way, tls: TlsDemand) -> SmtpConnection:
        async with self._descriptors.one():
            return await self._open_one(peer, way, tls)

    async def _open_one(self, peer: Peer, way: Way, tls: TlsDemand) -> SmtpConnection:
        if self._dane is not None and not way.relay:
            demand = await self._dane.of(peer.host, SMTP_PORT)
            if demand is not None:  # RFC 8461 2: it goes before MTA-STS
                return await self._open_proven(peer, way, self._dane, demand)
        if tls:
            return await SmtpConnection.open(peer, way.verified if tls == "verified" else way.with_tls("required"))
        try:
            return await SmtpConnection.open(peer, way.options)
        except ConnectFailed as error:
            # RFC 7435: opportunistic security falls back to what was there without it.
            if error.phase != Phase.TLS or way.options.tls != "opportunistic":
                raise
            return await SmtpConnection.open(peer, way.with_tls("none"))

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


def _outcome(error: ConnectFailed, host: str, ip: str) -> Outcome:
    return Outcome(
        Phase(error.phase),
        reply=error.reply,
        failure=Failure(error.failure) if error.reply is None else Failure.NONE,
        detail=error.detail,
        mx_host=host,
        remote_ip=ip,
    )


def _better(old: Outcome, new: Outcome) -> Outcome:
    """A remote's words say more than silence; otherwise the latest counts."""
    return old if old.reply is not None and new.reply is None else new
