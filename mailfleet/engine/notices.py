"""Delivery status notifications (RFC 3461, 3464) for submitted mail: whether one is owed, and queueing it like any message."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from mailfleet.base import ids
from mailfleet.base.clock import Clock
from mailfleet.base.ids import IdGenerator
from mailfleet.config.retry import Retry
from mailfleet.engine.catalog import Catalog, LoadedContent
from mailfleet.engine.envelope import Envelope
from mailfleet.engine.own_mail import post
from mailfleet.mail.address import Address
from mailfleet.mail.dsn import build_dsn, dsn_owed
from mailfleet.mail.dsn_text import DsnRecipient, Event
from mailfleet.policy.lifecycle import DeliveryState, EventKind
from mailfleet.policy.outcome import Failure, Outcome
from mailfleet.policy.transport import TlsManner
from mailfleet.smtp.reply import EnhancedStatus
from mailfleet.store import contents
from mailfleet.store.database import Tx
from mailfleet.store.events import EventRow, append
from mailfleet.store.queue import Claimed

_STATUS = {
    Failure.TLS_UNPROVEN: EnhancedStatus(5, 7, 10),
    Failure.REQUIRETLS: EnhancedStatus(5, 7, 30),
}  # RFC 8689 4.2.1
MAX_RETURNED_BYTES = 100_000  # a larger message comes back as its header, whatever RET says (RFC 3461 6.2)


@dataclass(frozen=True, slots=True)
class Notice:
    """A DSN ready to be queued."""

    about: Claimed
    to: Address
    message: bytes
    message_id: str
    action: Event
    tls: TlsManner


class Notices:
    """Makes DSNs for one process. ``hostname`` is the reporting MTA."""

    def __init__(
        self, catalog: Catalog, *, hostname: str, retry: Retry, time_scale: float, clock: Clock, ids: IdGenerator
    ) -> None:
        self._catalog, self._hostname, self._retry = catalog, hostname, retry
        self._time_scale, self._clock, self._ids = time_scale, clock, ids

    async def owed(
        self,
        claimed: Claimed,
        envelope: Envelope,
        outcome: Outcome,
        state: DeliveryState,
        *,
        late: bool,
        passed_on: bool,
        expires_ms: int | None,
    ) -> Notice | None:
        """The DSN that this turn of a submitted delivery calls for, or ``None``.

        ``late``: still queued after the delay that is worth telling. ``passed_on``: the remote offers DSN and took our
        NOTIFY, so it is the one to report success (RFC 3461 5.2.2); otherwise we report ``relayed``.
        """
        action = _action(state, late=late, passed_on=passed_on)
        if action is None or not envelope.reverse_path or not dsn_owed(envelope.notify, action, envelope.reverse_path):
            return None
        content = await self._catalog.content(claimed.content_id)
        message_id = f"<{ids.public('dsn', self._ids.next()).lower()}@{self._hostname}>"
        now_ms = self._clock.now_ms()
        recipient = DsnRecipient(
            final_recipient=claimed.address,
            original_recipient=envelope.orcpt,
            action=action,
            status=str(_status(outcome, action, expired=state is DeliveryState.EXPIRED)),
            remote_mta=outcome.mx_host,
            reply=str(outcome.reply) if outcome.reply is not None else "",
            detail=outcome.detail or outcome.failure.value,
            last_attempt_ms=now_ms,
            will_retry_until_ms=expires_ms if action == "delayed" else None,
        )
        header, body = _original(content)
        full = (
            envelope.ret == "FULL"
            and envelope.tls != "require"
            and action == "failed"
            and len(body) <= MAX_RETURNED_BYTES
        )
        message = build_dsn(
            reporting_mta=self._hostname,
            from_domain=self._hostname,
            to=envelope.reverse_path,
            envid=envelope.envid,
            arrival_ms=claimed.accepted_ms,
            recipients=[recipient],
            original_header=header,
            original_body=body if full else None,
            now_ms=now_ms,
            message_id=message_id,
            boundary=ids.public("dsn", self._ids.next()),
            utf8=envelope.smtputf8,
        )
        # RFC 8689 5: protected as the message that it is about
        tls: TlsManner = "require" if envelope.tls == "require" else ""
        return Notice(claimed, Address.parse(envelope.reverse_path), message, message_id, action, tls)

    def write(self, tx: Tx, notice: Notice, *, now_ms: int) -> None:
        """Queue the DSN with the null reverse-path, so that it can cause no other, in the transaction that settles its cause."""
        info = contents.ContentInfo(
            from_domain=self._hostname,
            sender=f"MAILER-DAEMON@{self._hostname}",
            subject="Delivery Status Notification",
            message_id=notice.message_id,
            eightbit=not notice.message.isascii(),
            smtputf8=notice.to.needs_smtputf8,
        )
        (delivery_id,) = post(
            tx,
            contents.Content(self._ids.next(), notice.about.tenant_id, "raw", notice.message, info),
            [notice.to],
            Envelope(reverse_path="", smtputf8=info.smtputf8, tls=notice.tls),
            ids=self._ids,
            retry=self._retry,
            now_ms=now_ms,
            time_scale=self._time_scale,
        )
        data = orjson.dumps({"action": notice.action, "to": str(notice.to), "delivery": ids.public("dlv", delivery_id)})
        about = notice.about
        append(tx, [EventRow(now_ms, about.tenant_id, EventKind.DSN_SENT, about.campaign_id, about.id, data.decode())])


def _action(state: DeliveryState, *, late: bool, passed_on: bool) -> Event | None:
    if state in (DeliveryState.BOUNCED, DeliveryState.EXPIRED):
        return "failed"
    if state is DeliveryState.DELIVERED:
        return None if passed_on else "relayed"
    return "delayed" if late else None


def _status(outcome: Outcome, action: str, *, expired: bool) -> EnhancedStatus:
    """RFC 3464 2.3.4: the status agrees with the action."""
    found = outcome.reply.enhanced if outcome.reply is not None else None
    if action == "relayed":
        return EnhancedStatus(2, found.subject, found.detail) if found else EnhancedStatus(2, 0, 0)
    if action == "delayed":
        return EnhancedStatus(4, found.subject, found.detail) if found else EnhancedStatus(4, 4, 1)
    if expired:
        return EnhancedStatus(5, 4, 7)  # RFC 3463 3.5: delivery time expired
    if outcome.failure in _STATUS:
        return _STATUS[outcome.failure]
    return EnhancedStatus(5, found.subject, found.detail) if found else EnhancedStatus(5, 0, 0)


def _original(content: LoadedContent) -> tuple[bytes, bytes]:
    assert content.raw is not None, "only submitted mail owes DSNs"
    header, _, body = content.raw.partition(b"\r\n\r\n")
    return header + b"\r\n", body
