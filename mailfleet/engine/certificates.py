"""Certificates of our listeners and of every host that a sending domain shows: made, renewed in time, taken as given, handed out."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import BusyError, ConfigError, ConflictError, InputError, NotFoundError
from mailfleet.base.secretbox import SecretBox
from mailfleet.engine.certificate_views import CertificateView, HostKeys
from mailfleet.engine.issuing import IssueError, Issuer, NotYetError
from mailfleet.engine.key_records import Named
from mailfleet.engine.renewal_times import RenewalTimes
from mailfleet.engine.requests import Actor
from mailfleet.engine.sites import hosts_of
from mailfleet.mail.address import is_within
from mailfleet.net import tls_keys
from mailfleet.net.tls_keys import challenge_certificate, read_chain
from mailfleet.net.tls_names import loaded_context
from mailfleet.policy import certificates as rules
from mailfleet.policy.server_plan import tlsa_value
from mailfleet.store import certificates as rows
from mailfleet.store import sending
from mailfleet.store.certificates import Certificate
from mailfleet.store.database import Database, Tx
from mailfleet.store.tenants import DEFAULT_TENANT

log = structlog.get_logger()

OWN = "own"  # given by a person
LOOK_MS = 60_000  # at the DNS, while a key waits for it
_HOST = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class Certificates:
    """For one process. ``issuer`` None makes none; ``next_key_ms``: how long the DNS needs to tell of a new key.

    ``named``: which key of a host the DNS names; no other is shown then. ``chain_file``: what listeners show where there is nothing
    else.
    """

    def __init__(
        self,
        database: Database,
        box: SecretBox,
        issuer: Issuer | None,
        *,
        hostname: str,
        next_key_ms: int,
        clock: Clock,
        time_scale: float,
        named: Callable[[str, str], Awaitable[Named]] | None = None,
        chain_file: Path | None = None,
    ) -> None:
        self._database, self._box, self._issuer, self._hostname = database, box, issuer, hostname.lower()
        self._next_key_ms, self._clock, self._time_scale = next_key_ms, clock, time_scale
        self._named, self._chain_file = named or _nothing_named, chain_file
        self._times = RenewalTimes(database, issuer, clock, time_scale)
        self._looked_s: dict[str, float] = {}  # when the DNS was asked of a host's next key, by the monotonic clock

    # For people

    async def every(self, actor: Actor) -> list[CertificateView]:
        """Of this server and of the tenant's domains; hosts that wait for their first one are among them."""
        now_ms = self._clock.now_ms()

        def find(tx: Tx) -> list[Certificate]:
            wanted, kept = self._wanted(tx), {one.host: one for one in rows.every(tx)}
            found = [kept.get(host) or self._none(host) for host in sorted({*wanted, *kept})]
            return [one for one in found if self._may_see(tx, actor, one.host)]

        return [self._view(one, now_ms) for one in await self._database.read(find)]

    async def renew(self, actor: Actor, host: str, *, new_key: bool) -> CertificateView:
        """As soon as possible; with another key, when the DNS has told of it. Raises ``NotFoundError`` and ``ConflictError``.

        A next key that waits already goes on waiting.
        """
        name, now_ms = host.strip().lower().rstrip("."), self._clock.now_ms()
        fresh, since_ms = None, now_ms
        if new_key:
            fresh = await asyncio.to_thread(tls_keys.new_key)
            since_ms = now_ms if await self._named(name, tls_keys.key_digest(fresh)) == "nothing" else 0

        def work(tx: Tx) -> Certificate:
            kept = rows.held(tx, name)
            if (kept is None and name not in self._wanted(tx)) or not self._may_see(tx, actor, name):
                raise NotFoundError(
                    f"there is no certificate for {host}", where="host", mend="see: mailfleet certificate list"
                )
            kept = kept or self._none(name)
            if self._issuer is None or kept.issuer == OWN:
                what = "it was given by a person" if kept.issuer == OWN else "no authority is set (acme.directory)"
                mend = "import its successor: mailfleet certificate import"
                raise ConflictError(f"{name} cannot be renewed from here: {what}", where="host", mend=mend)
            if fresh is None or kept.sealed_key is None:
                changed = kept._replace(next_try_ms=now_ms, failures=0)
            else:
                changed = kept._replace(problem="")
                if kept.sealed_next is None:
                    sealed = self._box.seal(fresh, _label(name))
                    changed = changed._replace(sealed_next=sealed, next_since_ms=since_ms)
            rows.put(tx, changed)
            return changed

        return self._view(await self._database.write(work), now_ms)

    async def take(self, actor: Actor, chain: str, key: str) -> list[CertificateView]:
        """Show a certificate that a person has, for every host that it names.

        Raises ``InputError``, ``NotFoundError``, and ``ConflictError`` where the DNS names another key of the host.
        """
        read = read_chain(chain, key.encode())
        now_ms = self._clock.now_ms()
        if read.not_after_ms <= now_ms:
            mend = "give its successor"
            raise InputError(f"the certificate ended at {rfc3339(read.not_after_ms)}", where="chain", mend=mend)
        try:  # whatever else OpenSSL wants
            await asyncio.to_thread(loaded_context, chain, key.encode())
        except ssl.SSLError as error:
            what = f"it cannot be shown over TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
            raise InputError(what, where="chain", mend="have another one made") from None
        ours = any(rules.covers(one, self._hostname) for one in read.names)
        if ours and await self._named(self._hostname, tls_keys.key_digest(key.encode())) == "another":
            mend = f"tell the DNS of it first, and wait a TTL: mailfleet server publish --also CHAIN; or {_NO_TLSA}"
            raise ConflictError(_OTHER_KEY, where="chain", mend=mend)

        def work(tx: Tx) -> list[Certificate]:
            made = []
            for host in read.names:
                if not self._may_see(tx, actor, host):
                    raise NotFoundError(f"{host} is no host of yours", where="chain", mend="add its domain first")
                sealed = self._box.seal(key.encode(), _label(host))
                made.append(
                    self._none(host)._replace(
                        issuer=OWN, chain=chain, sealed_key=sealed, not_before_ms=read.not_before_ms,
                        not_after_ms=read.not_after_ms, changed_ms=now_ms,
                    )
                )  # fmt: skip
                rows.put(tx, made[-1])
            return made

        return [self._view(one, now_ms) for one in await self._database.write(work)]

    async def forget(self, actor: Actor, host: str) -> None:
        """Show it no more; a host that is to have one gets a new one.

        Raises ``NotFoundError``, and ``ConflictError`` where the DNS names its key.
        """
        name = host.strip().lower().rstrip(".")
        if await self._named(name, "") == "another":
            raise ConflictError(_OTHER_KEY, where="host", mend=f"renew it (mailfleet certificate renew), or {_NO_TLSA}")

        def work(tx: Tx) -> bool:
            return self._may_see(tx, actor, name) and rows.remove(tx, name)

        if not await self._database.write(work):
            raise NotFoundError(
                f"there is no certificate for {host}", where="host", mend="see: mailfleet certificate list"
            )

    async def keys_of(self, host: str) -> HostKeys:
        """What is shown for a host, and what will be."""
        name = host.lower()

        def find(tx: Tx) -> tuple[Certificate | None, Certificate | None]:
            own = rows.of_host(tx, name)
            if own is not None and own.chain:
                return own, own
            return own, next((one for one in rows.every(tx) if one.chain and rules.covers(one.host, name)), None)

        own, shown = await self._database.read(find)
        if shown is not None and shown.sealed_key is not None:
            coming = shown.sealed_next if shown is own else None
            return HostKeys(
                "managed",
                self._digest(shown.sealed_key, shown.host),
                self._digest(coming, name) if coming is not None else "",
                shown.changed_ms,
                shown.not_before_ms,
                shown.not_after_ms,
                shown.problem,
            )
        if self._issuer is not None:
            return HostKeys("waiting", problem=own.problem if own is not None else "")
        if self._chain_file is not None:
            try:
                given = await asyncio.to_thread(self._chain_file.read_text)
                first = tls_keys.read_first(given)
            except (OSError, InputError) as error:
                return HostKeys("file", problem=f"{self._chain_file} cannot be read: {error}")
            return HostKeys("file", first.digest, "", 0, first.not_before_ms, first.not_after_ms)
        return HostKeys("makeshift")

    # For listeners

    async def version(self) -> tuple[int, int]:
        """Another one when ``pairs`` has changed."""
        return await self._database.read(rows.version)

    async def pairs(self) -> dict[str, tuple[str, bytes]]:
        """What is to be shown: ``{host: (chain, key)}``, PEM; hosts may begin with ``*.``. What cannot be opened is left out."""
        found = {}
        for one in await self._database.read(rows.every):
            if one.chain and one.sealed_key is not None:
                try:
                    found[one.host] = (one.chain, self._box.open(one.sealed_key, _label(one.host)))
                except ConfigError as error:
                    log.error("a certificate's key cannot be opened", host=one.host, reason=str(error))
        return found

    async def answer(self, token: str) -> str | None:
        """What an authority is told over HTTP (RFC 8555 8.3); None for a question that we did not expect."""
        found = await self._database.read(lambda tx: rows.by_token(tx, token))
        return found.answer if found is not None else None

    async def challenge(self, host: str) -> tuple[str, bytes] | None:
        """The certificate that an authority is shown over TLS (RFC 8737), with its key; None as above."""
        found = await self._database.read(lambda tx: rows.by_host(tx, host.lower()))
        return await asyncio.to_thread(challenge_certificate, host, found.answer) if found is not None else None

    # Periodic

    async def run_due(self) -> int:
        """Make and renew what is due, one after the other; returns how many that were."""
        if self._issuer is None:
            return 0
        await self._issuer.tidy()
        now_ms = self._clock.now_ms()

        def find(tx: Tx) -> list[Certificate]:
            kept = {one.host: one for one in rows.every(tx)}
            given = [one.host for one in kept.values() if one.issuer == OWN]
            wanted = [host for host in self._wanted(tx) if not any(rules.covers(one, host) for one in given)]
            return [kept.get(host) or self._none(host) for host in wanted]

        count = 0
        kept = await self._database.read(find)
        for one in kept:
            switches = await self._may_switch(one, now_ms)
            due = rules.is_due(one.next_try_ms, now_ms, failed=bool(one.problem), time_scale=self._time_scale)
            if switches or due:
                await self._make(one, switches=switches)
                count += 1
        if not count:
            await self._times.look(kept)
        return count

    async def _may_switch(self, kept: Certificate, now_ms: int) -> bool:
        """Whether the next key may be shown: nowhere is another named, and has not been for as long as resolvers remember.

        ``next_since_ms`` is when that was first so; 0 while it is not.
        """
        host = kept.host
        if kept.sealed_next is None or (kept.problem and kept.next_try_ms > now_ms):
            return False
        now_s, wait_s = self._clock.monotonic_s(), min(LOOK_MS, self._next_key_ms / 2) / 1000
        if host in self._looked_s and now_s < self._looked_s[host] + wait_s:
            return False
        self._looked_s[host] = now_s
        digest = self._digest(kept.sealed_next, host)
        told = bool(digest) and await self._named(host, digest) in ("nothing", "this")
        if told and kept.next_since_ms:
            return now_ms >= kept.next_since_ms + self._next_key_ms
        since_ms = now_ms if told else 0
        if kept.next_since_ms != since_ms:

            def note(tx: Tx) -> None:
                now = rows.held(tx, host)
                if now is not None and now.sealed_next == kept.sealed_next:
                    rows.put(tx, now._replace(next_since_ms=since_ms))

            await self._database.write(note)
        return False

    async def _make(self, old: Certificate, *, switches: bool) -> None:
        assert self._issuer is not None
        host = old.host
        sealed = old.sealed_next if switches else old.sealed_key
        if sealed is None:
            sealed = self._box.seal(await asyncio.to_thread(tls_keys.new_key), _label(host))
        key = self._box.open(sealed, _label(host))
        try:
            chain = await self._issuer.issue(host, key, old.chain if old.issuer == self._issuer.name else "")
            read = read_chain(chain, key)
        except BusyError:
            raise
        except NotYetError as error:
            await self._failed(old, str(error), counts=False)
            return
        except (IssueError, InputError) as error:
            log.warning("a certificate cannot be had", host=host, reason=str(error))
            again_s = error.again_s if isinstance(error, IssueError) else None
            await self._failed(old, str(error), counts=True, told_ms=round((again_s or 0) * 1000))
            return
        made = old._replace(
            issuer=self._issuer.name, chain=chain, sealed_key=sealed,
            sealed_next=None if switches else old.sealed_next, not_before_ms=read.not_before_ms,
            not_after_ms=read.not_after_ms, changed_ms=self._clock.now_ms(), failures=0, problem="",
            next_try_ms=rules.renewal_ms(read.not_before_ms, read.not_after_ms), next_ask_ms=0,
        )  # fmt: skip
        if await self._database.write(lambda tx: self._keep(tx, old, made, switched=switches)):
            self._times.made(host)
            log.info("a certificate was made", host=host, until=rfc3339(read.not_after_ms))

    def _keep(self, tx: Tx, old: Certificate, made: Certificate, *, switched: bool) -> bool:
        """What a person did meanwhile stays: a certificate of their own, a next key, or none where one was forgotten."""
        now = rows.held(tx, made.host) or self._none(made.host)
        if now.issuer == OWN or now.sealed_key != old.sealed_key:
            return False
        if not switched:
            made = made._replace(sealed_next=now.sealed_next, next_since_ms=now.next_since_ms)
        rows.put(tx, made)
        return True

    async def _failed(self, old: Certificate, why: str, *, counts: bool, told_ms: int = 0) -> None:
        """``told_ms``: how long the authority wants to be left alone."""
        failures = old.failures + 1 if counts else old.failures
        wait_ms = rules.retry_ms(failures, told_ms) if counts else rules.FIRST_WAIT_MS
        later = self._clock.now_ms() + round(wait_ms / self._time_scale)
        wish = self._times.wish(old.host)
        problem = f"{why}; {wish}" if wish else why

        def work(tx: Tx) -> None:
            kept = rows.held(tx, old.host)
            now = kept or self._none(old.host)
            if now.issuer == OWN or (kept is None and old != now):  # given, or forgotten, by a person meanwhile
                return
            if now.next_try_ms != old.next_try_ms:  # a person has mended something meanwhile, and asked again
                rows.put(tx, now._replace(problem=problem))
            else:
                rows.put(tx, now._replace(failures=failures, problem=problem, next_try_ms=later))

        await self._database.write(work)

    # Inside

    def _wanted(self, tx: Tx) -> list[str]:
        """Hosts that are to have one."""
        if self._issuer is None:
            return []
        hosts = [self._hostname, *(host for one in sending.all_domains(tx) for host in hosts_of(one))]
        return [host for host in dict.fromkeys(hosts) if _HOST.fullmatch(host)]

    def _none(self, host: str) -> Certificate:
        issuer = self._issuer.name if self._issuer is not None else OWN
        return Certificate(host, issuer, "", None, None, 0, 0, 0, 0, 0, "", 0)

    def _view(self, one: Certificate, now_ms: int) -> CertificateView:
        comes = one.sealed_next is not None and one.next_since_ms
        keys = [sealed for sealed in (one.sealed_key, one.sealed_next) if sealed is not None]
        return CertificateView(
            host=one.host,
            issuer=one.issuer,
            state=rules.state(one.not_before_ms, one.not_after_ms, now_ms),
            not_after=rfc3339(one.not_after_ms) if one.not_after_ms else "",
            next_try=rfc3339(one.next_try_ms) if one.next_try_ms else "",
            suggested=not one.problem
            and now_ms < one.next_try_ms < rules.renewal_ms(one.not_before_ms, one.not_after_ms),
            next_key=one.sealed_next is not None,
            next_key_from=rfc3339(one.next_since_ms + self._next_key_ms) if comes else "",
            tlsa=[tlsa_value(digest) for digest in (self._digest(sealed, one.host) for sealed in keys) if digest],
            problem=one.problem,
        )

    def _digest(self, sealed: bytes, host: str) -> str:
        """Of a key that is kept; empty where it cannot be opened (another master.key)."""
        try:
            return tls_keys.key_digest(self._box.open(sealed, _label(host)))
        except ConfigError as error:
            log.error("a certificate's key cannot be opened", host=host, reason=str(error))
            return ""

    def _may_see(self, tx: Tx, actor: Actor, host: str) -> bool:
        """A host belongs to the nearest sending domain above it; this server's, to nobody but the first tenant."""
        if actor.tenant_id == DEFAULT_TENANT:
            return True
        if rules.covers(host, self._hostname):
            return False
        bare = host.removeprefix("*.")
        above = [one for one in sending.all_domains(tx) if is_within(bare, one.name)]
        return bool(above) and max(above, key=lambda one: len(one.name)).tenant_id == actor.tenant_id


_OTHER_KEY = "the DNS names another key (TLSA): senders that use DANE would send nothing here any more"
_NO_TLSA = "take the TLSA records out: set dns.tlsa = false, then mailfleet server publish"


async def _nothing_named(host: str, digest: str) -> Named:
    return "nothing"


def _label(host: str) -> str:
    return f"tls:{host}"
