"""Finding a mail host of a site that answers: MX order, every address, next host on host failure (RFC 5321 5.1)."""

from __future__ import annotations

import random
from dataclasses import replace

from mailfleet.engine.descriptors import Descriptors
from mailfleet.net.dns_query import DnsTemporary
from mailfleet.net.guard import ForbiddenDestinationError
from mailfleet.net.resolver import Resolver
from mailfleet.net.smtp_client import SmtpConnection
from mailfleet.net.smtp_peer import ClientOptions, ConnectFailed, Peer
from mailfleet.policy.outcome import Failure, Outcome, Phase
from mailfleet.store.sites import Site

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


class Connector:
    """Opens connections for one delivery process."""

    def __init__(
        self,
        resolver: Resolver,
        options: ClientOptions,
        *,
        port: int,
        ipv6: bool,
        rng: random.Random,
        descriptors: Descriptors,
    ) -> None:
        self._descriptors = descriptors
        self._resolver, self._options, self._port, self._ipv6, self._rng = resolver, options, port, ipv6, rng
        self._plain_options = replace(options, tls="none")
        self._tls_options = replace(options, tls="required")

    async def open(self, site: Site, *, tls_required: bool) -> tuple[SmtpConnection | None, Outcome | None, str]:
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
                if tried >= MAX_ADDRESSES:
                    return None, outcome, transcript
                tried += 1
                try:
                    return await self._open(Peer(host, ip, self._port), tls_required), None, ""
                except ConnectFailed as error:
                    found = _outcome(error, host, ip)
                    if _better(outcome, found) is found:
                        outcome, transcript = found, error.transcript
                except ForbiddenDestinationError as error:
                    found = Outcome(
                        Phase.CONNECT, failure=Failure.UNREACHABLE, detail=str(error), mx_host=host, remote_ip=ip
                    )
                    outcome = _better(outcome, found)
        return None, outcome, transcript

    async def _open(self, peer: Peer, tls_required: bool) -> SmtpConnection:
        async with self._descriptors.one():
            return await self._open_one(peer, tls_required)

    async def _open_one(self, peer: Peer, tls_required: bool) -> SmtpConnection:
        if tls_required:
            return await SmtpConnection.open(peer, self._tls_options)
        try:
            return await SmtpConnection.open(peer, self._options)
        except ConnectFailed as error:
            # RFC 7435: opportunistic security falls back to what was there without it.
            if error.phase != Phase.TLS or self._options.tls != "opportunistic":
                raise
            return await SmtpConnection.open(peer, self._plain_options)


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
