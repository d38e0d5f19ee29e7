"""Header fields of a message that Mailfleet composes: mailboxes, fields a caller may add, and those it may not.

Raw messages submitted over SMTP are not composed and do not pass here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailfleet.base.errors import InputError
from mailfleet.mail.address import Address
from mailfleet.mail.encode import clean_header_text, fold_header, fold_words, format_mailbox

MAX_MAILBOX = 2000
MAX_MAILBOXES = 100_000  # characters of a list
_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 3.6.8
_ANGLE = re.compile(r'(?P<name>"(?:[^"\\]|\\.)*"|[^<>]*)\s*<(?P<address>[^<>]*)>', re.DOTALL)
_QUOTED_NAME = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_LIST_ITEM = re.compile(r'(?:"(?:[^"\\]|\\.)*"|<[^>]*>|[^,"<]|["<])+')

_OURS = {
    "from": "give it as the sender",
    "to": "give it as a recipient",
    "cc": "give it as cc",
    "bcc": "give it as bcc",
    "reply-to": "give it as reply_to",
    "subject": "give it as the subject",
    "date": "leave it out: it is written when the message is sent",
    "message-id": "leave it out: each message gets its own",
    "mime-version": "leave it out: it is written from the parts",
    "return-path": "leave it out: it belongs to the receiving server",
    "received": "leave it out: servers write it",
    "dkim-signature": "leave it out: each message is signed when it is sent",
    "sender": "give the address as the sender",
}
# Fields whose value is tokens, ids or URIs: an encoded word would not be decoded there (RFC 2047 5)
_STRUCTURED = frozenset(
    (
        *("in-reply-to", "references", "precedence", "auto-submitted", "list-id", "list-unsubscribe", "list-help"),
        *("list-unsubscribe-post", "list-subscribe", "list-post", "list-owner", "list-archive", "feedback-id"),
    )
)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """``Name <addr-spec>``; the name is plain Unicode, empty when there is none."""

    display_name: str
    address: Address

    def __str__(self) -> str:
        """The header form, not folded."""
        return format_mailbox(self.display_name, self.address)


def parse_mailbox(text: str, *, where: str = "") -> Mailbox:
    """Read ``ann@example.org``, ``Ann <ann@example.org>`` or ``"Ann, Ltd." <ann@example.org>``.

    Names may stand unquoted whatever their characters. Raises ``InputError`` with ``where`` in front of the address's own.
    """
    if len(text) > MAX_MAILBOX:
        raise InputError(f"longer than {MAX_MAILBOX} characters", where=where, mend="write it as Name <name@domain>")
    text = clean_header_text(text)
    angle = _ANGLE.fullmatch(text)
    name, spec = (angle["name"].strip(), angle["address"]) if angle else ("", text)
    quoted = _QUOTED_NAME.fullmatch(name)
    if quoted:
        name = re.sub(r"\\(.)", r"\1", quoted[1])
    try:
        return Mailbox(name, Address.parse(spec.strip()))
    except InputError as error:
        place = f"{where} {error.where}".strip()
        raise InputError(error.what, where=place, mend="write it as name@domain or Name <name@domain>") from None


def parse_mailboxes(text: str, *, where: str = "") -> tuple[Mailbox, ...]:
    """Read a comma-separated list of mailboxes, at least one. A comma inside quotes or angle brackets does not separate."""
    if len(text) > MAX_MAILBOXES:
        raise InputError(f"longer than {MAX_MAILBOXES} characters", where=where, mend="give fewer addresses")
    items = [item.strip() for item in _LIST_ITEM.findall(clean_header_text(text))]
    found = tuple(parse_mailbox(item, where=where) for item in items if item)
    if not found:
        raise InputError("there is no address in it", where=where, mend="write it as name@domain or Name <name@domain>")
    return found


def address_field(name: str, mailboxes: tuple[Mailbox, ...]) -> bytes:
    """``From``, ``To``, ``Cc`` or ``Reply-To`` on the wire; UTF-8 only in local-parts that need SMTPUTF8 (RFC 6532)."""
    return fold_words(name, ", ".join(map(str, mailboxes)))


def check_custom_field(name: str) -> None:
    """Whether a caller may add the field ``name``. Raises ``InputError`` for one that Mailfleet writes, or a misspelt name."""
    lowered = name.lower()
    mend = _OURS.get(lowered)
    if lowered.startswith("content-"):
        mend = "leave it out: it is written from the parts"
    if mend is None and lowered.startswith("resent-"):
        mend = "leave it out: these fields belong to a message that is sent on"
    if mend is not None:
        raise InputError("this header field cannot be set by hand", where=f"header {name}", mend=mend)
    if not _FIELD_NAME.fullmatch(name):
        raise InputError(
            "a header field name is 1 to 76 printable ASCII characters without space or colon",
            where=f"header {name[:80]!r}",
            mend="for example X-Order-Number",
        )


def custom_field(name: str, value: str) -> bytes:
    """A field that a caller or the engine adds. Structured fields are only folded; in all others text is encoded as needed.

    Raises ``InputError`` when a structured field cannot carry the value.
    """
    if name.lower() not in _STRUCTURED:
        return fold_header(name, value)
    value = clean_header_text(value)
    line = fold_words(name, value)
    if not value.isascii() or max(map(len, line.split(b"\r\n"))) > 998:  # RFC 5322 2.1.1
        raise InputError(
            "the value must be ASCII, with a space at least every 900 characters",
            where=f"header {name}",
            mend="write URIs percent-encoded and domains as A-labels",
        )
    return line
