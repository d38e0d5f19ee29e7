"""Finding a mail host of a site that answers: MX order, every address, next host on host failure (RFC 5321 5.1)."""

from __future__ import annotations

import ipaddress
import random
import ssl
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from mailfleet.engine.dane import Dane, DaneDemand
from mailfleet.engine.descriptors import Descriptors
from mailfleet.engine.proofs import MailHostProofs
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


class _Wish(NamedTuple):
    """What is wanted of a connection. ``counted``: the domain that its TLS is counted under; empty: none."""

    tls: TlsDemand
    manner: TlsManner
    counted: str

    @property
    def softened(self) -> TlsDemand:
        """What is left of a demand when its test is over."""
        return "" if self.tls == "testing" else self.tls


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
        proofs: MailHostProofs | None = None,
    ) -> None:
        self._dane, self._policies, self._book = dane, policies, book
        self._proofs = proofs or MailHostProofs(None, None)
        self._descriptors = descriptors
        self._resolver, self._ipv6, self._rng = resolver, ipv6, rng

    async def unproven(self, site: Site, way: Way, domain: str) -> Outcome | None:
        """What keeps mail with REQUIRETLS for ``domain`` from the hosts of its site; a relay's name is a person's word."""
        return None if way.relay else await self._proofs.lacking(domain, [name for _, name in site.hosts])

    async def open(
        self, site: Site, way: Way, *, tls: TlsDemand, manner: TlsManner = "", domain: str = "", counted: str = ""
    ) -> tuple[SmtpConnection | None, Outcome | None, str]:
        """``(connection, None, "")`` or ``(None, outcome, transcript)``, the outcome of the last host that said something.

        With the manner ``require``, TLS or REQUIRETLS is what is lacking only when every host lacks it. ``domain`` is the
        recipient's: with the manner ``any`` its MX records count where its own policy left the site no host. ``counted`` is
        what its TLS is counted under; empty: it is not.
        """
        hosts, seen = site.hosts, _Seen()
        wish = _Wish(tls, manner, counted)
        if manner == "any" and not hosts:
            found = await self._resolver.mail_hosts(domain)
            hosts = tuple((host.preference, host.name) for host in found.hosts)
        for _, host in sorted(hosts, key=lambda one: (one[0], self._rng.random())):
            connection = await self._try_host(host, way, wish, seen)
            if connection is not None:
                return connection, None, ""
            if seen.tried >= MAX_ADDRESSES:
                break
        return None, seen.verdict, seen.transcript

    async def _try_host(self, host: str, way: Way, wish: _Wish, seen: _Seen) -> SmtpConnection | None:
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
                async with self._descriptors.one():
                    return await self._open(Peer(host, ip, way.port), way, wish)
            except ConnectFailed as error:
                seen.add(_outcome(error, host, ip, wish.manner), error.transcript)
            except ForbiddenDestinationError as error:
                seen.add(_unreachable(str(error), host, ip))
        return None

    async def _open(self, peer: Peer, way: Way, wish: _Wish) -> SmtpConnection:
        if way.relay or wish.manner == "any":
            # A relay is a host that a person chose: what the domain says of its own is not about it. Neither is counted.
            session = Session(None, "", no_policy(""), peer)
            if wish.manner == "require":
                return await self._must_offer(await self._open_demanded(peer, way, "verified", session))
            return await self._open_demanded(peer, way, wish.softened, session)
        book = self._book if way.options.tls != "none" else None
        demand = await self._dane.of(peer.host, SMTP_PORT) if self._dane is not None else None
        if self._dane is not None and demand is not None:  # RFC 8461 2: it goes before MTA-STS
            session = Session(book, wish.counted, tlsa_policy(peer.host, demand.texts), peer)
            return await self._open_by_dane(peer, way, self._dane, demand, session, wish)
        asked: TlsDemand = "verified" if wish.manner == "require" else wish.tls
        known = self._policies if wish.counted and asked in ("testing", "verified") else None
        policy = await known.kept(wish.counted) if known is not None else None
        applied = no_policy(wish.counted) if policy is None else sts_policy(wish.counted, policy)
        session = Session(book, wish.counted, applied, peer)
        if wish.manner == "require":
            return await self._must_offer(await self._open_demanded(peer, way, "verified", session))
        if policy is not None and asked == "testing":
            tested = await self._open_tested(peer, way, policy, session)
            if tested is not None:
                return tested
        return await self._open_demanded(peer, way, wish.softened, session)

    async def _open_by_dane(
        self, peer: Peer, way: Way, dane: Dane, demand: DaneDemand, session: Session, wish: _Wish
    ) -> SmtpConnection:
        if wish.manner != "require":
            return await self._open_proven(peer, way, dane, demand, session)
        if demand.problem:
            session.wrong(Fault("dnssec-invalid"))
            raise ConnectFailed("dns", Failure.DNS_TEMPORARY, detail=demand.problem)
        if demand.records:
            return await self._must_offer(await self._open_proven(peer, way, dane, demand, session))
        return await self._must_offer(await self._open_demanded(peer, way, "verified", session))

    @staticmethod
    async def _must_offer(connection: SmtpConnection) -> SmtpConnection:
        """RFC 8689 4.2.1: proven by DANE or by an authority as it is, it has to offer REQUIRETLS too."""
        if connection.extensions.requiretls:
            return connection
        transcript, host = connection.session_transcript, connection.peer.host
        await connection.quit()
        detail = f"the message has REQUIRETLS, and {host} does not offer it"
        raise ConnectFailed("ehlo", Failure.REQUIRETLS, detail=detail, transcript=transcript)

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


def _outcome(error: ConnectFailed, host: str, ip: str, manner: TlsManner) -> Outcome:
    failure, detail = Failure(error.failure) if error.reply is None else Failure.NONE, error.detail
    if manner == "require" and failure in (Failure.TLS_REQUIRED, Failure.TLS_HANDSHAKE):
        failure, detail = Failure.TLS_UNPROVEN, f"the message has REQUIRETLS: {detail}"
    return Outcome(
        Phase(error.phase),
        reply=error.reply,
        failure=failure,
        detail=detail,
        mx_host=host,
        remote_ip=ip,
        tls_policy=error.secured.policy,
        tls_fault=error.secured.fault,
    )


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
