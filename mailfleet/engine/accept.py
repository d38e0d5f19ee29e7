"""Accepting single messages: by API (structured or raw) and by SMTP. Screened, then committed, and only then answered."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailfleet.base import ids
from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError, ConflictError, InputError
from mailfleet.base.gauges import Counter
from mailfleet.base.ids import IdGenerator
from mailfleet.config.retry import Retry
from mailfleet.engine.catalog import Catalog, Identity
from mailfleet.engine.envelope import Envelope
from mailfleet.engine.intake import Consignment, content_source, stored_fields
from mailfleet.engine.render import message_id_of
from mailfleet.engine.requests import Actor, EnvelopeRecipient, MessageRequest, SubmittedMessage
from mailfleet.engine.views import MessageAccepted, RecipientRef
from mailfleet.mail.address import Address
from mailfleet.mail.content import CompiledContent, compile_content
from mailfleet.mail.headers import Mailbox, parse_mailbox
from mailfleet.mail.repair import ReceivedInfo, RepairedMessage, repair
from mailfleet.policy.transport import TlsManner
from mailfleet.smtp.reply import RefusedMessage, Reply
from mailfleet.store import access, contents, queue, sites, suppressions, tenants
from mailfleet.store.database import Database, Tx

MAX_SEND_AT_DAYS = 90


@dataclass(frozen=True, slots=True)
class Screen:
    """What every entrance asks before taking mail."""

    has_room: Callable[[], str]  # empty, or why nothing is taken at the moment (disk)

    def check(self) -> None:
        """Raises ``BusyError`` while nothing is taken."""
        reason = self.has_room()
        if reason:
            raise BusyError(reason, retry_after_s=60)


@dataclass(frozen=True, slots=True)
class _Target:
    address: Address
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A content and its recipients, ready to be committed."""

    content: contents.Content
    targets: Sequence[_Target]
    stream: str
    fields: str | None
    send_at_ms: int | None
    idempotency: tuple[str, bytes] | None
    entrance: str


class Acceptor:
    """Takes single messages for one process."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        screen: Screen,
        *,
        hostname: str,
        max_recipients: int,
        retry: Retry,
        time_scale: float,
        clock: Clock,
        ids: IdGenerator,
    ) -> None:
        self._database, self._catalog, self._screen = database, catalog, screen
        self._hostname, self._max_recipients = hostname, max_recipients
        self._retry, self._time_scale = retry, time_scale
        self._clock, self._ids = clock, ids
        self.taken = {"http": Counter(), "smtp": Counter()}  # recipients, by entrance

    # By API

    async def send(self, actor: Actor, request: MessageRequest) -> MessageAccepted:
        """Accept one message. Raises ``InputError``, ``BusyError``; ``ConflictError`` for a key used for another request."""
        self._screen.check()
        digest = request_hash(request)
        if request.idempotency_key:
            earlier = await remembered(self._database, actor, request.idempotency_key, digest)
            if earlier is not None:
                return MessageAccepted.model_validate_json(earlier)
        check_send_at(request.send_at_ms, self._clock.now_ms())
        content_id = self._ids.next()
        if request.raw is not None:
            content, addresses, manner = await self._raw_content(actor, request, content_id)
        else:
            content, addresses, manner = await self._structured(actor, request, content_id)
        targets = [_Target(one, Envelope(tls=request.tls or manner)) for one in addresses]
        if not targets:
            raise InputError("there is no recipient", where="to", mend="name at least one address in to, cc or bcc")
        if len(targets) > self._max_recipients:
            raise InputError(
                f"there are {len(targets)} recipients",
                where="to",
                mend=f"at most {self._max_recipients}; larger lists are campaigns",
            )
        fields = stored_fields(dict(request.fields)) if request.fields is not None else None
        key = (request.idempotency_key, digest) if request.idempotency_key else None
        stream = request.stream or actor.stream
        return await self._commit(actor, _Parcel(content, targets, stream, fields, request.send_at_ms, key, "http"))

    async def _structured(
        self, actor: Actor, request: MessageRequest, content_id: int
    ) -> tuple[contents.Content, list[Address], TlsManner]:
        sender = parse_mailbox(request.sender, where="from").address
        identity = await self.identity_for(actor, sender.domain)
        templated = request.fields is not None
        source = content_source(request, templated=templated, to=tuple(request.to), cc=tuple(request.cc))
        compiled = await asyncio.to_thread(compile_content, source, boundary_seed=ids.public("cnt", content_id))
        if request.fields is not None:
            missing = compiled.check(request.fields)
            if missing:
                raise InputError(
                    f"the template uses {', '.join(missing)}",
                    where="fields",
                    mend="give it a value, or write a default filter",
                )
        info = contents.ContentInfo(
            from_domain=sender.domain,
            sender=request.sender,
            subject=request.subject,
            message_id=message_id_of(content_id, sender.domain),
            tags=tuple(request.tags),
            metadata=dict(request.metadata),
        )
        content = contents.Content(content_id, actor.tenant_id, "compiled", compiled.to_bytes(), info)
        self._try_fill(compiled, request, sender, identity)
        addresses: dict[str, Address] = {}
        for name, group in (("to", request.to), ("cc", request.cc), ("bcc", request.bcc)):
            for mailbox in all_mailboxes(group, name):
                addresses.setdefault(mailbox.address.key, mailbox.address)
        optional = any(
            name.lower() == "tls-required" and value.strip().lower() == "no" for name, value in request.headers
        )
        return content, list(addresses.values()), "any" if optional else ""

    def _try_fill(
        self, compiled: CompiledContent, request: MessageRequest, sender: Address, identity: Identity
    ) -> None:
        """Render once before anything is promised: what cannot be made is refused here, not at delivery."""
        compiled.fill(
            request.fields or {},
            recipient=sender,
            message_id=f"<check@{identity.domain.name}>",
            date_ms=self._clock.now_ms(),
        )

    async def _raw_content(
        self, actor: Actor, request: MessageRequest, content_id: int
    ) -> tuple[contents.Content, list[Address], TlsManner]:
        assert request.raw is not None
        named = [one.address for group in (request.to, request.cc, request.bcc) for one in all_mailboxes(group, "to")]
        received = ReceivedInfo(ehlo_name="", peer_ip="", protocol="HTTP", queue_id=ids.public("cnt", content_id))
        content, manner = await self._repaired(actor, request.raw, received, content_id)
        addresses: dict[str, Address] = {address.key: address for address in named}
        return content, list(addresses.values()), manner

    # By SMTP

    async def submit(self, actor: Actor, message: SubmittedMessage) -> str:
        """Accept one submitted message; returns its queue id.

        Raises ``RefusedMessage`` with the reply to give, ``InputError`` for a message that cannot be taken as it is.
        """
        self._screen.check()
        content_id = self._ids.next()
        only = message.recipients[0].address if len(message.recipients) == 1 else ""
        received = ReceivedInfo(
            protocol=message.protocol,
            ehlo_name=message.ehlo_name,
            peer_ip=message.peer_ip,
            tls=message.tls,
            recipient=only,
            queue_id=ids.public("cnt", content_id),
        )
        content, manner = await self._repaired(actor, message.data, received, content_id)
        if message.requiretls:  # RFC 8689 4.1: then the header field does not count
            manner = "require"
        targets: dict[str, _Target] = {}
        for one in message.recipients:
            target = _submitted_target(one, message, manner)
            targets.setdefault(target.address.key, target)
        await self._commit(actor, _Parcel(content, list(targets.values()), actor.stream, None, None, None, "smtp"))
        return ids.public("cnt", content_id)

    async def _repaired(
        self, actor: Actor, data: bytes, received: ReceivedInfo, content_id: int
    ) -> tuple[contents.Content, TlsManner]:
        now_ms = self._clock.now_ms()
        repaired: RepairedMessage = repair(
            data,
            hostname=self._hostname,
            received=received,
            message_id=message_id_of(content_id, self._hostname),
            now_ms=now_ms,
        )
        for author in repaired.from_addresses:
            await self.identity_for(actor, author.domain)
        info = contents.ContentInfo(
            from_domain=repaired.from_address.domain,
            sender=str(repaired.from_address),
            subject=repaired.subject,
            message_id=repaired.message_id,
            eightbit=repaired.eightbit,
            smtputf8=repaired.has_utf8_header,
        )
        content = contents.Content(content_id, actor.tenant_id, "raw", repaired.data, info)
        return content, "any" if repaired.tls_optional else ""

    # Both

    async def identity_for(self, actor: Actor, from_domain: str) -> Identity:
        """The sending domain that ``from_domain`` stands under, if this actor may use it. Raises ``RefusedMessage``."""
        identity = await self._catalog.identity(from_domain)
        if identity is None:
            # The caches of other processes may lag behind a domain that was just added.
            self._catalog.forget_identity(from_domain)
            identity = await self._catalog.identity(from_domain)
        if identity is None or identity.domain.tenant_id != actor.tenant_id:
            what = f"{from_domain} is not a sending domain of this install"
            mend = f"add it with: mailfleet domain add {from_domain}"
            raise RefusedMessage(Reply.of(550, "5.7.1", what, mend), where="from", mend=mend)
        allowed = actor.allowed_domains
        if allowed and identity.domain.name not in allowed and from_domain not in allowed:
            what = f"this login may not send from {from_domain}"
            mend = f"it may use {', '.join(sorted(allowed))}"
            raise RefusedMessage(Reply.of(550, "5.7.1", what, mend), where="from", mend=mend)
        return identity

    async def _commit(self, actor: Actor, parcel: _Parcel) -> MessageAccepted:
        accepted = await self._database.write(lambda tx: self._write(tx, actor, parcel))
        self.taken[parcel.entrance].n += len(accepted.deliveries)
        return accepted

    def _write(self, tx: Tx, actor: Actor, parcel: _Parcel) -> MessageAccepted:
        if parcel.idempotency is not None:
            earlier = access.remembered(tx, actor.tenant_id, parcel.idempotency[0])
            if earlier is not None:  # the same request came twice at once
                check_same(earlier[0], parcel.idempotency[1])
                return MessageAccepted.model_validate_json(earlier[1])
        stream = known_stream(tx, actor, parcel.stream)
        if stream.priority == tenants.URGENT:
            tx.wake()
        now_ms = self._clock.now_ms()
        goods = Consignment.of(
            stream,
            self._retry,
            flow_id=tenants.flow_of_stream(tx, stream, self._ids.next()),
            content_id=parcel.content.id,
            now_ms=now_ms,
            time_scale=self._time_scale,
            send_at_ms=parcel.send_at_ms,
        )
        contents.put(tx, parcel.content, now_ms=now_ms)
        blocked = suppressions.matching(tx, actor.tenant_id, stream.name, [one.address.key for one in parcel.targets])
        places = sites.domains(tx, {one.address.domain for one in parcel.targets})
        rows, refs = [], []
        for delivery_id, target in zip(self._ids.take(len(parcel.targets)), parcel.targets, strict=True):
            why = blocked.get(target.address.key)
            place, envelope = places[target.address.domain], target.envelope.dump()
            row = goods.delivery(delivery_id, target.address, place, fields=parcel.fields, envelope=envelope, why=why)
            rows.append(row)
            refs.append(
                RecipientRef(
                    delivery=ids.public("dlv", delivery_id),
                    recipient=str(target.address),
                    state="suppressed" if why else "queued",
                    reason=row.reason or "",
                )
            )
        queue.insert(tx, rows, now_ms=now_ms)
        accepted = MessageAccepted(
            message=ids.public("cnt", parcel.content.id), message_id=parcel.content.info.message_id, deliveries=refs
        )
        if parcel.idempotency is not None:
            key, digest = parcel.idempotency
            access.remember(tx, actor.tenant_id, key, digest, accepted.model_dump_json(), now_ms)
        return accepted


def all_mailboxes(texts: Sequence[str], where: str) -> list[Mailbox]:
    """Read every text as one mailbox. Raises ``InputError`` naming the field and its place."""
    return [parse_mailbox(text, where=f"{where}[{index}]") for index, text in enumerate(texts)]


def _submitted_target(one: EnvelopeRecipient, message: SubmittedMessage, manner: TlsManner) -> _Target:
    address = Address.parse(one.address)
    return _Target(
        address,
        Envelope(
            reverse_path=message.reverse_path,
            submitted=True,
            notify=one.notify,
            orcpt=one.orcpt,
            ret=message.ret,
            envid=message.envid,
            smtputf8=message.smtputf8 and (address.needs_smtputf8 or not message.reverse_path.isascii()),
            tls=manner,
        ),
    )


def known_stream(tx: Tx, actor: Actor, name: str) -> tenants.Stream:
    """The stream called ``name``. Raises ``InputError`` naming those that exist."""
    stream = tenants.stream(tx, actor.tenant_id, name)
    if stream is None:
        known = ", ".join(tenants.stream_names(tx, actor.tenant_id))
        raise InputError(f"there is no stream {name!r}", where="stream", mend=f"use one of: {known}")
    return stream


def check_send_at(send_at_ms: int | None, now_ms: int) -> None:
    """Raises ``InputError`` for a time too far ahead; the past means now."""
    if send_at_ms is not None and send_at_ms > now_ms + MAX_SEND_AT_DAYS * 86_400_000:
        raise InputError("the time to send is too far ahead", where="send_at", mend=f"at most {MAX_SEND_AT_DAYS} days")


def request_hash(request: object) -> bytes:
    """What tells two requests under one idempotency key apart."""
    return hashlib.sha256(repr(request).encode()).digest()


def check_same(earlier: bytes, digest: bytes) -> None:
    """Raises ``ConflictError`` when a key comes back with another request."""
    if earlier != digest:
        raise ConflictError(
            "this key was used for a different request", where="Idempotency-Key", mend="use a new key for a new request"
        )


async def remembered(database: Database, actor: Actor, key: str, digest: bytes) -> str | None:
    """The answer given before under this key, or ``None``. Raises ``ConflictError``."""
    earlier = await database.read(lambda tx: access.remembered(tx, actor.tenant_id, key))
    if earlier is None:
        return None
    check_same(earlier[0], digest)
    return earlier[1]
