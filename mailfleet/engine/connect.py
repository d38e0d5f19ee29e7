"""Finding a mail host of a site that answers: MX order, every address, next host on host failure (RFC 5321 5.1)."""

from __future__ import annotations

import ipaddress
import random
import ssl
from dataclasses import dataclass, field, replace
from functools import partial

from mailfleet.engine.dane import Dane, DaneDemand
from mailfleet.engine.descriptors import Descriptors
from mailfleet.engine.sts import StsPolicies
from mailfleet.engine.tls_book import Session, TlsBook
from mailfleet.mail.mta_sts import StsPolicy
from mailfleet.net.dns_query import DnsTemporary
from mailfleet.net.guard import ForbiddenDestinationError
from mailfleet.net.resolver import Resolver
from mailfleet.net.smtp_client import SmtpConnection
from mailfleet.net.smtp_peer import ClientOptions, ConnectFailed, Peer, TlsWish
from mailfleet.net.tls_client import verified_context
from mailfleet.policy.outcome import Failure, Outcome, Phase
from mailfleet.policy.tls_results import MX_NOT_NAMED, Fault, no_policy, sts_policy, tlsa_policy
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
        policies: StsPolicies | None = None,
        book: TlsBook | None = None,
    ) -> None:
        self._dane, self._policies, self._book = dane, policies, book
        self._descriptors = descriptors
        self._resolver, self._ipv6, self._rng = resolver, ipv6, rng

    async def open(
        self, site: Site, way: Way, *, tls: TlsDemand, domain: str = ""
    ) -> tuple[SmtpConnection | None, Outcome | None, str]:
        """``(connection, None, "")`` or ``(None, outcome, transcript)``, the outcome of the last host that said something.

        ``domain``: the recipients' that it is opened for, under which its TLS is counted; empty: it is not.
        """
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
                    return await self._open(Peer(host, ip, way.port), way, tls, domain), None, ""
                except ConnectFailed as error:
                    found = _outcome(error, host, ip)
                    if _better(outcome, found) is found:
                        outcome, transcript = found, error.transcript
                except ForbiddenDestinationError as error:
                    outcome = _better(outcome, _unreachable(str(error), host, ip))
        return None, outcome, transcript

    async def _open(self, peer: Peer, way: Way, tls: TlsDemand, domain: str) -> SmtpConnection:
        async with self._descriptors.one():
            return await self._open_one(peer, way, tls, domain)

    async def _open_one(self, peer: Peer, way: Way, tls: TlsDemand, domain: str) -> SmtpConnection:
        if way.relay:  # a host that a person chose: what the domain says of its own is not about it
            return await self._open_demanded(peer, way, tls, Session(None, "", no_policy(""), peer))
        book = self._book if way.options.tls != "none" else None
        if self._dane is not None:
            demand = await self._dane.of(peer.host, SMTP_PORT)
            if demand is not None:  # RFC 8461 2: it goes before MTA-STS
                session = Session(book, domain, tlsa_policy(peer.host, demand.texts), peer)
                return await self._open_proven(peer, way, self._dane, demand, session)
        known = self._policies if domain and tls in ("testing", "verified") else None
        policy = await known.kept(domain) if known is not None else None
        applied = no_policy(domain) if policy is None else sts_policy(domain, policy)
        session = Session(book, domain, applied, peer)
        if policy is not None and tls == "testing":
            tested = await self._open_tested(peer, way, policy, session)
            if tested is not None:
                return tested
        return await self._open_demanded(peer, way, "" if tls == "testing" else tls, session)

    @staticmethod
    async def _open_tested(peer: Peer, way: Way, policy: StsPolicy, session: Session) -> SmtpConnection | None:
        """As the policy would have it; where that cannot be it is noted, and mail goes on as without one (RFC 8461 5)."""
        if not policy.allows(peer.host):
            session.wrong(MX_NOT_NAMED)
            return None
        try:
            return session.opened(await SmtpConnection.open(peer, way.verified))
        except ConnectFailed as error:
            session.failed(error)
            if error.phase != Phase.TLS:
                raise
            return None

    @staticmethod
    async def _open_demanded(peer: Peer, way: Way, tls: TlsDemand, session: Session) -> SmtpConnection:
        options = way.verified if tls == "verified" else way.with_tls("required") if tls else way.options
        try:
            return session.opened(await SmtpConnection.open(peer, options))
        except ConnectFailed as error:
            session.failed(error)
            # RFC 7435: opportunistic security falls back to what was there without it.
            if error.phase != Phase.TLS or options.tls != "opportunistic":
                raise
            return session.opened(await SmtpConnection.open(peer, way.with_tls("none")))

    @staticmethod
    async def _open_proven(peer: Peer, way: Way, dane: Dane, demand: DaneDemand, session: Session) -> SmtpConnection:
        try:
            if demand.problem:
                session.wrong(Fault("dnssec-invalid"))
                raise ConnectFailed("tls", "tls-handshake", detail=demand.problem)
            options = way.with_tls("required")
            if demand.records:
                options = replace(options, check_peer=partial(dane.problem, demand, peer.host))
            connection = await SmtpConnection.open(peer, options)
        except ConnectFailed as error:
            session.failed(error)
            raise
        if not demand.records:  # RFC 7672 3.1.3: mail goes all the same
            session.wrong(Fault("tlsa-invalid", "no TLSA record that mail can use"), connection.local_ip)
        return session.opened(connection)


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
        tls_policy=error.secured.policy,
        tls_fault=error.secured.fault,
    )


def _better(old: Outcome, new: Outcome) -> Outcome:
    """A remote's words say more than silence; otherwise the latest counts."""
    return old if old.reply is not None and new.reply is None else new
