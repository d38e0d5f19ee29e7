"""Sending domains with their keys, SMTP credentials, API tokens, suppressions; and who an actor is."""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
from collections.abc import Callable, Sequence

from mailfleet.base import ids
from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import ConflictError, InputError, NotFoundError
from mailfleet.base.ids import CredentialId, IdGenerator, TenantId, TokenId
from mailfleet.base.secretbox import SecretBox, secret_hash
from mailfleet.engine.accept import known_stream
from mailfleet.engine.catalog import Catalog, key_label
from mailfleet.engine.domain_facts import facts, own_domain
from mailfleet.engine.requests import Actor
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.engine.views import (
    CredentialView,
    DnsRecordView,
    DomainView,
    SuppressionPage,
    SuppressionView,
    TokenView,
)
from mailfleet.mail.address import Address, domain_to_ascii, is_within
from mailfleet.mail.dkim import ED25519, RSA, SigningKey
from mailfleet.policy.dmarc_removal import stays_for
from mailfleet.policy.dns_plan import plan
from mailfleet.policy.lifecycle import EventKind
from mailfleet.policy.suppression import bounded
from mailfleet.store import access, dmarc, sending, suppressions
from mailfleet.store import dns as dns_rows
from mailfleet.store.database import Database, Tx
from mailfleet.store.events import EventRow, append

SCOPES = frozenset({"send", "read", "manage"})
REPORTS_AT_ONCE = 50
_ALL = 1 << 31
_USERNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")

Publish = Callable[[str, str, str], None]
"""(name, type, value): put a record where this install's DNS is its own to write. Only the sandbox has one so far."""


class Manager:
    """Management for one process. ``publish`` is given where DNS records can be put in place at once."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        box: SecretBox,
        *,
        defaults: SourceDefaults,
        clock: Clock,
        ids: IdGenerator,
        publish: Publish | None = None,
    ) -> None:
        self._database, self._catalog, self._box = database, catalog, box
        self._defaults, self._clock, self._ids, self._publish = defaults, clock, ids, publish

    # Sending domains

    async def add_domain(self, actor: Actor, domain: str, *, ed25519: bool = False) -> DomainView:
        """Make an RSA-2048 key (and an Ed25519 one if asked) and say what to publish. Raises ``InputError``, ``ConflictError``."""
        name = domain_to_ascii(domain.strip())
        if name.startswith("["):
            raise InputError("an address literal cannot be a sending domain", where="domain", mend="use a domain name")
        now_ms = self._clock.now_ms()
        stored = sending.SendingDomain(self._ids.next(), actor.tenant_id, name, f"bounce.{name}", now_ms)
        stamp = rfc3339(now_ms)[:7].replace("-", "")
        keys = [await self._new_key(stored, f"mf{stamp}", RSA)]
        if ed25519:
            keys.append(await self._new_key(stored, f"mf{stamp}e", ED25519))
        if not await self._database.write(lambda tx: sending.add(tx, stored, keys)):
            raise ConflictError(
                f"{name} is a sending domain already", where="domain", mend=f"see: mailfleet domain show {name}"
            )
        self._catalog.forget_identity(name)
        view = await self._database.read(lambda tx: self._domain_view(tx, stored, keys))
        if self._publish is not None:
            for record in view.records:
                self._publish(record.name, record.type, record.value)
        return view

    async def domains(self, actor: Actor) -> list[DomainView]:
        """Every sending domain of the tenant."""

        def find(tx: Tx) -> list[DomainView]:
            return [
                self._domain_view(tx, one, sending.keys(tx, one.id)) for one in sending.of_tenant(tx, actor.tenant_id)
            ]

        return await self._database.read(find)

    async def domain(self, actor: Actor, name: str) -> DomainView:
        """One sending domain. Raises ``NotFoundError``."""

        def find(tx: Tx) -> DomainView:
            found = own_domain(tx, actor, name)
            return self._domain_view(tx, found, sending.keys(tx, found.id))

        return await self._database.read(find)

    async def remove_domain(self, actor: Actor, name: str) -> None:
        """Forget a domain, its keys and its DMARC reports; what is queued for it then leaves unsigned. Raises ``NotFoundError``.

        Of reports there may be very many: they go some at a time, and the last of them with the domain.
        """

        def thin_out(tx: Tx) -> int:
            return _forget_reports(tx, own_domain(tx, actor, name), REPORTS_AT_ONCE)

        def remove(tx: Tx) -> str:
            found = own_domain(tx, actor, name)
            _forget_reports(tx, found, _ALL)
            sending.remove(tx, found.id)
            dns_rows.forget_domain(tx, found.id, found.name)
            return found.name

        while await self._database.write(thin_out) >= REPORTS_AT_ONCE:
            pass
        self._catalog.forget_identity(await self._database.write(remove))

    async def _new_key(self, domain: sending.SendingDomain, selector: str, algorithm: str) -> sending.DkimKey:
        key = await asyncio.to_thread(SigningKey.generate, algorithm)  # up to seconds of arithmetic
        sealed = self._box.seal(key.to_pem(), key_label(domain.name, selector))
        return sending.DkimKey(
            self._ids.next(), domain.id, selector, algorithm, sealed, key.public_record(), 1, domain.created_ms
        )

    def _domain_view(self, tx: Tx, domain: sending.SendingDomain, keys: Sequence[sending.DkimKey]) -> DomainView:
        """With the plan as it is where nobody else has anything in the DNS; ``engine.domains`` looks at what there is."""
        wanted = plan(facts(tx, domain, keys, self._defaults))
        return DomainView(
            domain=domain.name,
            return_path_host=domain.return_path_host,
            selectors=[key.selector for key in keys],
            records=[
                DnsRecordView(name=one.name, type=one.type, value=one.value, purpose=one.purpose) for one in wanted
            ],
            created_at=rfc3339(domain.created_ms),
        )

    # SMTP credentials

    async def add_credential(
        self, actor: Actor, *, username: str, stream: str, allowed_domains: Sequence[str]
    ) -> CredentialView:
        """Make an SMTP login; only this answer carries the password. Raises ``InputError``, ``ConflictError``."""
        if not _USERNAME.fullmatch(username):
            raise InputError(
                "the user name has a character that is not allowed",
                where="username",
                mend="use letters, digits and . _ @ + -",
            )
        allowed = tuple(domain_to_ascii(one) for one in allowed_domains)
        password = secrets.token_urlsafe(24)
        stored = access.Credential(
            self._ids.next(), actor.tenant_id, username, secret_hash(password), stream, allowed, self._clock.now_ms()
        )

        def add(tx: Tx) -> None:
            known_stream(tx, actor, stream)
            for name in allowed:
                own_domain(tx, actor, name)
            if not access.add_credential(tx, stored):
                raise ConflictError(f"the user name {username!r} is taken", where="username", mend="choose another")

        await self._database.write(add)
        return _credential_view(stored, password)

    async def credentials(self, actor: Actor) -> list[CredentialView]:
        """Every SMTP login of the tenant."""
        found = await self._database.read(lambda tx: access.credentials(tx, actor.tenant_id))
        return [_credential_view(one, None) for one in found]

    async def remove_credential(self, actor: Actor, credential: str) -> None:
        """Revoke. Raises ``NotFoundError``."""
        number = ids.from_public("crd", credential)
        if not await self._database.write(lambda tx: access.remove_credential(tx, actor.tenant_id, number)):
            raise NotFoundError("there is no such credential", where=credential, mend="see: mailfleet credential list")

    async def login(self, username: str, password: str) -> Actor | None:
        """The actor of an SMTP login, or ``None``. Takes the same time whether or not the user name exists."""
        found = await self._database.read(lambda tx: access.credential_by_username(tx, username))
        expected = found.secret_hash if found else bytes(32)
        if not secrets.compare_digest(secret_hash(password), expected) or found is None:
            return None
        return Actor(
            TenantId(found.tenant_id),
            credential_id=CredentialId(found.id),
            name=found.username,
            scopes=frozenset({"send"}),
            allowed_domains=frozenset(found.allowed_domains),
            stream=found.stream,
        )

    # API tokens

    async def add_token(self, actor: Actor, *, name: str, scopes: Sequence[str]) -> TokenView:
        """Make an API token; only this answer carries the secret. Raises ``InputError``."""
        wrong = set(scopes) - SCOPES
        if wrong or not scopes:
            raise InputError(
                f"{', '.join(sorted(wrong)) or 'nothing'} is no scope",
                where="scopes",
                mend="choose from send, read, manage",
            )
        if not set(scopes) <= actor.scopes:
            raise InputError(
                "a token cannot give more than it has", where="scopes", mend="ask somebody whose token can"
            )
        secret = "mf_" + base64.b32encode(secrets.token_bytes(25)).decode().lower()
        stored = access.Token(
            self._ids.next(),
            actor.tenant_id,
            name,
            secret_hash(secret),
            tuple(dict.fromkeys(scopes)),
            self._clock.now_ms(),
        )
        await self._database.write(lambda tx: access.add_token(tx, stored))
        return _token_view(stored, secret)

    async def tokens(self, actor: Actor) -> list[TokenView]:
        """Every API token of the tenant."""
        found = await self._database.read(lambda tx: access.tokens(tx, actor.tenant_id))
        return [_token_view(one, None) for one in found]

    async def remove_token(self, actor: Actor, token: str) -> None:
        """Revoke. Raises ``NotFoundError``."""
        number = ids.from_public("tok", token)
        if not await self._database.write(lambda tx: access.remove_token(tx, actor.tenant_id, number)):
            raise NotFoundError("there is no such token", where=token, mend="see: mailfleet token list")

    async def authenticate(self, bearer: str) -> Actor | None:
        """The actor of an API token's secret, or ``None``."""
        digest = secret_hash(bearer)
        found = await self._database.read(lambda tx: access.token_by_hash(tx, digest))
        if found is None:
            return None
        return Actor(
            TenantId(found.tenant_id), token_id=TokenId(found.id), name=found.name, scopes=frozenset(found.scopes)
        )

    # Suppressions

    async def suppressions(self, actor: Actor, after: str | None, limit: int) -> SuppressionPage:
        """In order of making; ``after`` is the ``next`` of the page before."""
        if after and not (after.isascii() and after.isdigit() and len(after) <= 19 and int(after) < 1 << 63):
            raise InputError("that is not a cursor", where="after", mend="pass the next of the page before as it is")
        found = await self._database.read(
            lambda tx: suppressions.page(tx, actor.tenant_id, after=int(after or 0), limit=limit)
        )
        return SuppressionPage(
            items=[_suppression_view(one) for one in found], next=str(found[-1].id) if len(found) == limit else None
        )

    async def suppress(self, actor: Actor, address: str, stream: str | None, reason: str) -> SuppressionView:
        """Mail this address no more. An address that is suppressed already stays as it is."""
        key = Address.parse(address).key
        now_ms = self._clock.now_ms()
        who = f"by {actor.name or 'a token'}"
        new = suppressions.Suppression(
            self._ids.next(), actor.tenant_id, key, stream or "", "manual", bounded(reason), who, now_ms
        )

        def add(tx: Tx) -> suppressions.Suppression:
            if stream:
                known_stream(tx, actor, stream)
            if suppressions.add(tx, new):
                append(
                    tx, [EventRow(now_ms, actor.tenant_id, EventKind.SUPPRESSION_ADDED, 0, 0, _suppression_event(new))]
                )
            found = suppressions.exact(tx, actor.tenant_id, key, stream or "")
            assert found is not None
            return found

        return _suppression_view(await self._database.write(add))

    async def unsuppress(self, actor: Actor, address: str, stream: str | None) -> None:
        """Lift a suppression. Raises ``NotFoundError``."""
        key = Address.parse(address).key
        now_ms = self._clock.now_ms()

        def remove(tx: Tx) -> None:
            found = suppressions.exact(tx, actor.tenant_id, key, stream or "")
            if found is None:
                raise NotFoundError(f"{key} is not suppressed", where="address", mend="see: mailfleet suppression list")
            suppressions.remove(tx, actor.tenant_id, key, stream or "")
            append(
                tx, [EventRow(now_ms, actor.tenant_id, EventKind.SUPPRESSION_REMOVED, 0, 0, _suppression_event(found))]
            )

        await self._database.write(remove)


def _credential_view(stored: access.Credential, password: str | None) -> CredentialView:
    return CredentialView(
        credential=ids.public("crd", stored.id),
        username=stored.username,
        stream=stored.stream,
        allowed_domains=list(stored.allowed_domains),
        created_at=rfc3339(stored.created_ms),
        password=password,
    )


def _token_view(stored: access.Token, secret: str | None) -> TokenView:
    return TokenView(
        token=ids.public("tok", stored.id),
        name=stored.name,
        scopes=list(stored.scopes),
        created_at=rfc3339(stored.created_ms),
        secret=secret,
    )


def _suppression_view(stored: suppressions.Suppression) -> SuppressionView:
    return SuppressionView(
        address=stored.address_key,
        stream=stored.stream or None,
        reason=stored.reason,
        evidence=stored.evidence,
        origin=stored.origin,
        created_at=rfc3339(stored.created_ms),
    )


def _suppression_event(one: suppressions.Suppression) -> str:
    return _suppression_view(one).model_dump_json(exclude={"created_at"})


def _forget_reports(tx: Tx, domain: sending.SendingDomain, limit: int) -> int:
    """DMARC reports that speak of this domain alone, up to so many; returns how many that were."""
    others = [one.name for one in sending.of_tenant(tx, domain.tenant_id) if one.id != domain.id]
    count = 0
    for policy_domain in dmarc.policy_domains(tx, domain.tenant_id):
        stays = stays_for(policy_domain, domain.name, others)
        if stays is None or count >= limit:
            continue
        if not stays:
            count += dmarc.forget_domain(tx, domain.tenant_id, policy_domain, limit - count)
            continue
        authors = dmarc.authors(tx, domain.tenant_id, policy_domain)
        gone = [one for one in authors if not any(is_within(one, other) for other in stays)]
        count += dmarc.forget_authors(tx, domain.tenant_id, policy_domain, gone, limit - count)
    return count
