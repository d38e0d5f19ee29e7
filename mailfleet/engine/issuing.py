"""Who makes certificates: an authority asked by ACME, or our own in a sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import structlog
from cryptography import x509

from mailfleet.base.clock import Clock
from mailfleet.base.durable import write_durably
from mailfleet.base.errors import ConflictError, MailfleetError
from mailfleet.base.secretbox import SecretBox
from mailfleet.engine.dns_proofs import DnsProofs
from mailfleet.net.acme_orders import AccountLostError, AcmeError, AcmeOrders, Asked, Authority
from mailfleet.net.dns_query import DnsTemporary
from mailfleet.net.guard import is_loopback
from mailfleet.net.renewal_info import ask_renewal, certificate_id
from mailfleet.net.tls_keys import LocalAuthority, new_key, signing_request
from mailfleet.policy.renewal_info import Suggestion, read_again_s
from mailfleet.store import certificates as rows
from mailfleet.store.certificates import Account, Challenge
from mailfleet.store.database import Database

log = structlog.get_logger()


class IssueError(MailfleetError):
    """No certificate now; the message says why, and what to do. ``again_s``: the authority is to be asked no sooner."""

    again_s: float | None = None


class NotYetError(IssueError):
    """It makes no sense to ask: the host is not there yet. No failure, and soon looked at again."""


class Issuer(Protocol):
    """``name`` is what certificates are marked with."""

    name: str

    async def issue(self, host: str, key: bytes, old: str = "") -> str:
        """The chain, PEM, for a host and a key; ``old`` is the chain that it takes the place of. Raises ``IssueError``."""
        ...

    async def suggested(self, chain: str) -> Suggestion:
        """When a chain that it made is to be renewed; what goes wrong is in the answer."""
        ...

    async def tidy(self) -> None:
        """Take away what an order left lying about, when it is time to look; called again and again."""
        ...


class AcmeIssuer:
    """One order at a time. ``kind`` is the challenge; ``proofs`` puts those of dns-01 there; ``addresses`` looks a host up.

    ``entrance``: whether the front answers yet.
    """

    name = "acme"

    def __init__(
        self,
        database: Database,
        box: SecretBox,
        authority: Authority,
        kind: str,
        proofs: DnsProofs,
        addresses: Callable[[str], Awaitable[list[str]]],
        entrance: Callable[[], Awaitable[bool]],
        clock: Clock,
        *,
        loopback_only: bool,
    ) -> None:
        self._database, self._box, self._authority, self._kind = database, box, authority, kind
        self._proofs, self._addresses, self._entrance = proofs, addresses, entrance
        self._clock = clock
        self._loopback_only = loopback_only

    async def suggested(self, chain: str) -> Suggestion:
        """As the protocol says."""
        if self._out_of_bounds():
            return Suggestion(problem=self._out_of_bounds())
        return await asyncio.to_thread(ask_renewal, self._authority, chain, self._clock.now_ms())

    async def tidy(self) -> None:
        """As the protocol says. Whatever the challenge is now: it may have been another."""
        await self._proofs.tidy()

    async def issue(self, host: str, key: bytes, old: str = "") -> str:
        """As the protocol says. An account that the authority has closed is replaced, once."""
        if self._out_of_bounds():
            raise IssueError(self._out_of_bounds())
        if self._kind != "dns-01":
            await self._must_have_an_address(host)
            if not await self._entrance():  # an authority counts every look that finds nobody
                raise NotYetError("the entrance for its questions is not open: is the front running?")
        csr = await asyncio.to_thread(signing_request, host, key)
        replaces = certificate_id(old) if old else ""
        try:
            try:
                return await self._order(host, csr, replaces)
            except AccountLostError as lost:
                log.warning("an account with a certificate authority is replaced", reason=str(lost))
                await self._database.write(lambda tx: rows.forget_account(tx, self._authority.directory))
                return await self._order(host, csr, replaces)
        except (AcmeError, ConflictError) as error:
            failed = IssueError(str(error))
            if isinstance(error, AcmeError):
                failed.again_s = read_again_s(error.retry_after, self._clock.now_ms())
            raise failed from None

    def _out_of_bounds(self) -> str:
        """Why it may not be asked at all; empty where it may."""
        if not self._loopback_only or is_loopback(urlsplit(self._authority.directory).hostname or ""):
            return ""
        return f"{self._authority.directory} is not on this machine, and all is limited to loopback"

    async def _must_have_an_address(self, host: str) -> None:
        try:
            if await self._addresses(host):
                return
        except DnsTemporary as temporary:
            raise NotYetError(str(temporary)) from None
        raise NotYetError(f"{host} has no address in the DNS yet: publish it as planned")

    async def _order(self, host: str, csr: bytes, replaces: str) -> str:
        orders = await self._account()
        order, asked = await asyncio.to_thread(orders.begin, csr, self._kind, replaces)
        try:
            for _, one in asked:
                await self._put(one)
            return await asyncio.to_thread(orders.finish, order, asked)
        finally:
            await self._database.write(lambda tx: rows.forget_challenges(tx, host))
            await self._proofs.take_away(one.answer for _, one in asked)

    async def _account(self) -> AcmeOrders:
        directory = self._authority.directory
        label = f"acme:{directory}"
        kept = await self._database.read(lambda tx: rows.account(tx, directory))
        if kept is not None:
            return await asyncio.to_thread(
                AcmeOrders, self._authority, self._box.open(kept.sealed_key, label), kept.uri
            )
        key = await asyncio.to_thread(new_key)
        orders = await asyncio.to_thread(AcmeOrders, self._authority, key)
        uri = await asyncio.to_thread(orders.register)
        made = Account(directory, uri, self._box.seal(key, label), self._clock.now_ms())
        await self._database.write(lambda tx: rows.put_account(tx, made))
        return orders

    async def _put(self, asked: Asked) -> None:
        if self._kind == "dns-01":
            await self._proofs.put(asked.host, asked.answer)
            return
        row = Challenge(self._kind, asked.host, asked.token, asked.answer, self._clock.now_ms())
        await self._database.write(lambda tx: rows.put_challenge(tx, row))


class LocalIssuer:
    """From an authority of our own, whose certificate clients may be told to trust: ``folder/authority.crt``."""

    name = "authority"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority: LocalAuthority | None = None

    async def suggested(self, chain: str) -> Suggestion:
        """Nothing: our own margin is its as well."""
        return Suggestion()

    async def tidy(self) -> None:
        """There is nothing."""

    async def issue(self, host: str, key: bytes, old: str = "") -> str:
        """As the protocol says."""
        return await asyncio.to_thread(self.issue_now, [x509.DNSName(host)], key)

    def issue_now(self, names: list[x509.GeneralName], key: bytes) -> str:
        """For several names; blocks."""
        self._authority = self._authority or self.prepare()
        return self._authority.issue(names, key, datetime.now(UTC))

    def prepare(self) -> LocalAuthority:
        """Make the authority where there is none yet; at the start, while one process runs."""
        certificate, key = self._folder / "authority.crt", self._folder / "authority.key"
        if not (certificate.exists() and key.exists()):
            chain, made = LocalAuthority.make(datetime.now(UTC))
            self._folder.mkdir(parents=True, exist_ok=True)
            write_durably(key, made, 0o600)
            write_durably(certificate, chain.encode(), 0o644)
        return LocalAuthority(certificate.read_text(), key.read_bytes())
