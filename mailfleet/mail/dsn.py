"""Delivery status notifications (RFC 3461, 3464, 6522, 6533): when one is owed, and the whole message that says it.

The message is for people first: its first part says in plain words what happened to which recipient, what the remote said
and whether we go on trying. The second part says the same to programs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import format_datetime

from mailfleet.base.errors import InputError
from mailfleet.mail import xtext
from mailfleet.mail.downgrade import quoted_printable
from mailfleet.mail.dsn_text import DsnRecipient, Event, fold, for_people, one_line
from mailfleet.mail.fields import get_first, split_fields

__all__ = ["DsnRecipient", "Event", "build_dsn", "dsn_owed"]

MAX_HEADER_BYTES = 65_536  # of the original that are returned; cut at a line end
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?-]{1,70}")
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]+>")
_SUBJECT: dict[Event, str] = {
    "failed": "Mail could not be delivered",
    "delayed": "Mail is delayed",
    "delivered": "Mail was delivered",
    "relayed": "Mail was relayed",
}


def dsn_owed(notify: frozenset[str] | None, event: Event, reverse_path: str) -> bool:
    """Whether RFC 3461 owes the sender a notification of ``event``.

    ``notify`` is what RCPT said, ``None`` when it said nothing: then failures are told and delays are not (RFC 3461 4.1
    leaves the latter to us). The null reverse-path is never told anything (RFC 5321 6.1).
    """
    if not reverse_path or (notify is not None and "NEVER" in notify):
        return False
    if event == "failed":
        return notify is None or "FAILURE" in notify
    if notify is None:
        return False
    return ("DELAY" if event == "delayed" else "SUCCESS") in notify


def build_dsn(
    *,
    reporting_mta: str,
    from_domain: str,
    to: str,
    envid: str,
    arrival_ms: int,
    recipients: Sequence[DsnRecipient],
    original_header: bytes,
    original_body: bytes | None,
    now_ms: int,
    message_id: str,
    boundary: str,
    utf8: bool,
) -> bytes:
    """A whole RFC 5322 message, to be queued with the null reverse-path to ``to`` (the original reverse-path).

    ``envid`` is decoded from xtext, may be empty. ``original_header`` ends in CRLF, without the blank line;
    ``original_body`` is given for RET=FULL when it is small enough to return. It is returned only if a recipient failed
    (RFC 3461 4.3). ``message_id`` has its angle brackets; ``boundary`` is random. ``utf8`` allows an internationalised
    message (RFC 6533): it must be set when ``to`` is not ASCII, and the result then needs SMTPUTF8 if it is not ASCII in
    its header. Without it the header is ASCII; 8bit content appears only within a returned body.

    Raises ``InputError`` for ``to`` that cannot be written so; ``ValueError`` for arguments that are a bug of the caller.
    """
    _check(to, recipients, boundary, utf8)
    kind = _worst(recipients)
    header = _bounded(original_header)
    parts = [
        _people_part(for_people(reporting_mta, arrival_ms, recipients, header)),
        _status_part(reporting_mta, envid, arrival_ms, recipients, utf8),
        _original_part(header, original_body if kind == "failed" else None, utf8),
    ]
    delimiter = b"--" + boundary.encode()
    if any(delimiter in part for part in parts):
        raise ValueError("the boundary occurs in the message")
    encoding = "7bit" if all(part.isascii() for part in parts) else "8bit"
    top = [
        f"From: Mail Delivery System <MAILER-DAEMON@{from_domain}>",
        f"To: <{to}>",
        f"Subject: {_SUBJECT[kind]}",
        f"Date: {_date(now_ms)}",
        f"Message-ID: {message_id}",
        *_thread(header),
        "Auto-Submitted: auto-replied",  # RFC 3834 5
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"',
        f"Content-Transfer-Encoding: {encoding}",
    ]
    body = b"".join(b"%b\r\n%b\r\n" % (delimiter, part) for part in parts)
    return "\r\n".join(top).encode() + b"\r\n\r\n" + body + delimiter + b"--\r\n"


def _check(to: str, recipients: Sequence[DsnRecipient], boundary: str, utf8: bool) -> None:
    if not to or one_line(to) != to:
        raise InputError(f"{to[:80]!r} is not an address that a notification can be sent to")
    if not to.isascii() and not utf8:
        raise InputError(f"{to!r} can only be told by an internationalised message", mend="set utf8")
    if not recipients or not _BOUNDARY.fullmatch(boundary):
        raise ValueError("a notification needs a recipient to tell of and a valid boundary")
    if not all(_STATUS.fullmatch(recipient.status) for recipient in recipients):
        raise ValueError("status must be an enhanced status code")


def _worst(recipients: Sequence[DsnRecipient]) -> Event:
    actions = {recipient.action for recipient in recipients}
    order: tuple[Event, ...] = ("failed", "delayed", "relayed", "delivered")
    return next(action for action in order if action in actions)


def _thread(header: bytes) -> list[str]:
    """RFC 3834 3.1.5: what the notification answers."""
    try:
        field = get_first(split_fields(header), "Message-ID")
    except InputError:
        return []
    if field is None or not _MESSAGE_ID.fullmatch(field.value):
        return []
    named = field.value.decode("ascii")
    return [f"In-Reply-To: {named}", f"References: {named}"]


def _date(at_ms: int) -> str:
    return format_datetime(datetime.fromtimestamp(at_ms // 1000, UTC))


def _people_part(text: str) -> bytes:
    raw = text.replace("\n", "\r\n").encode()
    if raw.isascii():
        return b"Content-Description: Notification\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n" + raw
    return (
        b"Content-Description: Notification\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted_printable(raw)
    )


def _status_part(
    reporting_mta: str, envid: str, arrival_ms: int, recipients: Sequence[DsnRecipient], utf8: bool
) -> bytes:
    """message/delivery-status (RFC 3464 2.1), or its internationalised kin where UTF-8 stands in it (RFC 6533 4)."""
    about_message = [("Reporting-MTA", f"dns; {reporting_mta}")]
    if envid:
        about_message.insert(0, ("Original-Envelope-Id", envid))
    about_message.append(("Arrival-Date", _date(arrival_ms)))
    groups = [about_message, *(_recipient_fields(recipient, utf8) for recipient in recipients)]
    text = "\r\n".join("".join(fold(name, value) for name, value in group) for group in groups)
    if text.isascii() or not utf8:
        media, encoding, raw = "message/delivery-status", "7bit", text.encode("ascii", "replace")
    else:
        media, encoding, raw = "message/global-delivery-status", "8bit", text.encode()
    label = "" if encoding == "7bit" else "Content-Transfer-Encoding: 8bit\r\n"
    return f"Content-Description: Delivery report\r\nContent-Type: {media}\r\n{label}\r\n".encode() + raw


def _recipient_fields(recipient: DsnRecipient, utf8: bool) -> list[tuple[str, str]]:
    """RFC 3464 2.3, in its order."""
    fields: list[tuple[str, str]] = []
    kind, _, address = recipient.original_recipient.partition(";")
    if kind and address:
        fields.append(("Original-Recipient", _typed(kind, address, utf8)))
    fields.append(("Final-Recipient", _typed("rfc822", recipient.final_recipient, utf8)))
    fields += [("Action", recipient.action), ("Status", recipient.status)]
    if recipient.remote_mta:
        fields.append(("Remote-MTA", f"dns; {recipient.remote_mta}"))
    if recipient.reply:
        fields.append(("Diagnostic-Code", f"smtp; {recipient.reply}"))
    elif recipient.detail:
        fields.append(("Diagnostic-Code", f"X-Mailfleet; {recipient.detail}"))  # RFC 3464 9.2: a type of our own
    if recipient.last_attempt_ms is not None:
        fields.append(("Last-Attempt-Date", _date(recipient.last_attempt_ms)))
    if recipient.will_retry_until_ms is not None and recipient.action == "delayed":  # RFC 3464 2.3.9
        fields.append(("Will-Retry-Until", _date(recipient.will_retry_until_ms)))
    return fields


def _typed(kind: str, address: str, utf8: bool) -> str:
    """``type; address``. What is not ASCII has the type utf-8 and, outside internationalised reports, is escaped (RFC 6533 3)."""
    if address.isascii():
        return f"{kind}; {address}"
    return f"utf-8; {address if utf8 else xtext.encode_utf8_address(address)}"


def _original_part(header: bytes, body: bytes | None, utf8: bool) -> bytes:
    """The message that this is about, whole or its header only (RFC 6522 3)."""
    try:
        header.decode("utf-8")
        international = not header.isascii()
    except UnicodeDecodeError:  # neither RFC 5322 nor RFC 6532: shown, not parsed
        return _labelled("text/rfc822-headers", header, encode=True)
    if body is not None:
        media = "message/global" if international else "message/rfc822"
        return _labelled(media, header + b"\r\n" + body, encode=international and not utf8)
    media = "message/global-headers" if international else "text/rfc822-headers"
    return _labelled(media, header, encode=international and not utf8)


def _labelled(media: str, content: bytes, *, encode: bool) -> bytes:
    encoding = "quoted-printable" if encode else "7bit" if content.isascii() else "8bit"
    label = f"Content-Description: Original message\r\nContent-Type: {media}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return label.encode() + (quoted_printable(content) if encode else content)


def _bounded(header: bytes) -> bytes:
    if len(header) > MAX_HEADER_BYTES:
        header = header[: header.rfind(b"\r\n", 0, MAX_HEADER_BYTES) + 2]
    return header if header.endswith(b"\r\n") or not header else header + b"\r\n"
