"""What a submission server may mend in a message (RFC 6409 8) and what it must find out about it, in one pass over the header.

Added: ``Received`` (RFC 5321 4.4), ``Date`` and ``Message-ID`` when missing. Removed: ``Bcc``, ``Resent-Bcc``,
``Return-Path``. All other bytes stay as they are, so a signature that came with the message stays good. A header that mail
hosts out there would refuse or read in different ways is refused here, where somebody can still correct it.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass

from mailfleet.base.errors import InputError
from mailfleet.mail.address import Address, address_literal
from mailfleet.mail.address_list import parse_address_list
from mailfleet.mail.encode import format_date
from mailfleet.mail.fields import HeaderField, split_fields

MAX_LINE_BYTES = 998  # RFC 5322 2.1.1, without CRLF
MAX_HEADER_BYTES = 1_048_576
_REMOVED = frozenset({"bcc", "resent-bcc", "return-path"})
# RFC 5322 3.6: at most one of each. Gmail refuses mail with two of them, others show the one that was not checked.
_SINGLE = frozenset(
    {"date", "from", "sender", "reply-to", "to", "cc", "message-id", "in-reply-to", "references", "subject"}
) | {"tls-required"}  # RFC 8689 3
_WATCHED = _SINGLE | _REMOVED
_UNSAFE_TRACE = re.compile(r"[^\w.:@+=/\[\] -]", re.ASCII)
_ENCODED_WORD = re.compile(r"=\?([^?\s*]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?\s]*)\?=")
_BETWEEN_WORDS = re.compile(r"(\?=)[ \t]+(?==\?[^?\s]+\?[bBqQ]\?)")


@dataclass(frozen=True, slots=True)
class ReceivedInfo:
    """What stands in the Received field. ``recipient`` is empty unless there is exactly one (RFC 5321 7.2, privacy)."""

    ehlo_name: str
    peer_ip: str
    protocol: str
    queue_id: str
    tls: str = ""
    recipient: str = ""


@dataclass(frozen=True, slots=True)
class RepairedMessage:
    """The message to send, and what was found in it.

    ``from_address`` is the first author, ``from_addresses`` all of them: whoever checks sending rights checks all.
    ``message_id`` is the field's value with its angle brackets. ``subject`` is decoded, for people. ``eightbit``: some byte
    is not ASCII, so the way out needs 8BITMIME or a conversion. ``has_utf8_header``: so it needs SMTPUTF8 (RFC 6532).
    """

    data: bytes
    from_address: Address
    from_addresses: tuple[Address, ...]
    message_id: str
    subject: str
    eightbit: bool
    has_utf8_header: bool
    tls_optional: bool = False  # TLS-Required: No (RFC 8689 3)


def repair(data: bytes, *, hostname: str, received: ReceivedInfo, message_id: str, now_ms: int) -> RepairedMessage:
    """Mend a submitted message. ``data`` has CRLF line ends, which its reader has checked; ``message_id`` is used if it has none.

    Raises ``InputError`` when the header is absent, malformed, too long, not UTF-8, has two fields of a kind that may occur
    once, or a From that is absent, not readable, or of several authors without Sender.
    """
    header, body = _split(data)
    fields = split_fields(header)
    found: dict[str, HeaderField] = {}
    removed = False
    for field in fields:
        key = field.name.lower()
        if key not in _WATCHED:
            continue
        if key in _REMOVED:
            removed = True
        elif key in found:
            raise InputError(f"there are two {field.name} header fields", mend="send one (RFC 5322 3.6)")
        else:
            found[key] = field
    utf8_header = not header.isascii()
    if utf8_header:
        _check_utf8(header)
    _check_line_length(header)
    authors = _authors(found)

    added = [received_field(hostname, received, now_ms)]
    if "date" not in found:
        added.append(f"Date: {format_date(now_ms)}\r\n")
    own_id = found["message-id"].value.decode() if "message-id" in found else ""
    if not own_id:
        added.append(f"Message-ID: {message_id}\r\n")
    if removed or ("message-id" in found and not own_id):
        header = b"".join(
            field.raw
            for field in fields
            if field.name.lower() not in _REMOVED and (own_id or field.name.lower() != "message-id")
        )
    return RepairedMessage(
        data=b"".join(("".join(added).encode(), header, b"\r\n", body)),
        from_address=authors[0],
        from_addresses=authors,
        message_id=own_id or message_id,
        subject=decode_words(found["subject"].value.decode()) if "subject" in found else "",
        eightbit=not data.isascii(),
        has_utf8_header=utf8_header,
        tls_optional="tls-required" in found and found["tls-required"].value.lower() == b"no",
    )


def received_field(hostname: str, received: ReceivedInfo, now_ms: int) -> str:
    """The Received field, folded, CRLF at its end (RFC 5321 4.4, RFC 3848 for ``with``)."""
    ip = received.peer_ip
    literal = address_literal(ip)
    tls = f" ({_trace(received.tls)})" if received.tls else ""
    addressee = received.recipient
    # RFC 6531 3.7.3: an address outside ASCII may stand here only in a message that needs SMTPUTF8 anyway
    named = addressee and (addressee.isascii() or received.protocol.startswith("UTF8")) and len(addressee) < 300
    for_clause = f"\r\n\tfor <{addressee}>" if named else ""
    return (
        f"Received: from {_trace(received.ehlo_name) or literal} ({literal})\r\n"
        f"\tby {_trace(hostname)} with {_trace(received.protocol)}{tls}\r\n"
        f"\tid {_trace(received.queue_id)}{for_clause};\r\n"
        f"\t{format_date(now_ms)}\r\n"
    )


def decode_words(text: str) -> str:
    """Encoded words (RFC 2047) to text, for people to read: what does not decode stays as it is."""
    if "=?" not in text:
        return text
    return _ENCODED_WORD.sub(_decode_word, _BETWEEN_WORDS.sub(r"\1", text))


def _decode_word(match: re.Match[str]) -> str:
    charset, encoding, encoded = match[1], match[2], match[3]
    try:
        if encoding in "bB":
            raw = binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4))
        else:
            raw = binascii.a2b_qp(encoded.encode("ascii"), header=True)
        return raw.decode(charset, "replace")
    except (LookupError, ValueError):  # a charset nobody knows; binascii.Error is a ValueError
        return match[0]


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Header with its last CRLF, and body. Raises ``InputError`` when there is no header."""
    end = data.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES)
    if data.startswith(b"\r\n") or not data:
        raise InputError(
            "the message has no header", mend="start it with header fields, at least From, then a blank line"
        )
    if end >= 0:
        return data[: end + 2], data[end + 4 :]
    if len(data) > MAX_HEADER_BYTES:
        raise InputError(f"the header is larger than {MAX_HEADER_BYTES} bytes", mend="end it with a blank line")
    return (data if data.endswith(b"\r\n") else data + b"\r\n"), b""


def _check_utf8(header: bytes) -> None:
    try:
        header.decode("utf-8")
    except UnicodeDecodeError as error:
        line = header.count(b"\n", 0, error.start) + 1
        raise InputError(
            "the header has bytes that are neither ASCII nor UTF-8",
            where=f"header line {line}",
            mend="write such text as encoded words (RFC 2047) or UTF-8",
        ) from None


def _check_line_length(header: bytes) -> None:
    longest = max(map(len, header.split(b"\r\n")))
    if longest > MAX_LINE_BYTES:
        number = next(n for n, line in enumerate(header.split(b"\r\n"), 1) if len(line) > MAX_LINE_BYTES)
        raise InputError(
            f"a header line is longer than {MAX_LINE_BYTES} bytes",
            where=f"header line {number}",
            mend="fold it at a space",
        )


def _authors(found: dict[str, HeaderField]) -> tuple[Address, ...]:
    if "from" not in found:
        raise InputError("there is no From header field", mend="say who sends the message (RFC 5322 3.6.2)")
    authors = _addresses("From", found["from"])
    if len(authors) > 1 and "sender" not in found:
        raise InputError("From names several authors and there is no Sender", mend="add Sender (RFC 5322 3.6.2)")
    if "sender" in found and len(_addresses("Sender", found["sender"])) != 1:
        raise InputError("Sender names several mailboxes", mend="name one (RFC 5322 3.6.2)")
    return authors


def _addresses(name: str, field: HeaderField) -> tuple[Address, ...]:
    try:
        addresses = parse_address_list(field.value.decode())
    except InputError as error:
        raise InputError(f"{name} cannot be read: {error.what}", where=error.where or name, mend=error.mend) from None
    if not addresses:
        raise InputError(f"{name} names no mailbox", mend="write it as Name <name@domain>")
    return addresses


def _trace(text: str) -> str:
    """Text of the peer's making, safe in a trace field."""
    return _UNSAFE_TRACE.sub("?", text)[:255]
