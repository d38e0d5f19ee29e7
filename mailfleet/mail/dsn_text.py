"""The words of a delivery status notification: what people read, and how a remote's words are made fit to be quoted."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Literal

from mailfleet.base.errors import InputError
from mailfleet.mail.fields import get_first, split_fields

Event = Literal["failed", "delayed", "delivered", "relayed"]
MAX_QUOTED_CHARS = 1000  # of a remote's words
_MAX_WORD_BYTES = 900  # longer than any address; keeps folded lines below 998 bytes
_WIDTH = 76
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")

# RFC 3463 3 and the registry kept by IANA: subject.detail, then subject alone.
_MEANING = {
    "1.1": "There is no such mailbox. Check the spelling of the address, or ask the recipient by other means.",
    "1.2": "The domain of the address cannot receive mail. Check the spelling of what follows the @.",
    "1.3": "The address is not a valid one. Check its spelling.",
    "1.6": "The mailbox has moved and the recipient left no new address.",
    "1.10": "The domain of the address does not accept mail at all.",
    "2.1": "The mailbox is switched off or accepts no mail at present.",
    "2.2": "The mailbox is full. The recipient must make room before mail can arrive.",
    "2.3": "The message is larger than this mailbox accepts. Send a smaller one, or a link instead of an attachment.",
    "3.4": "The message is larger than the recipient's server accepts. Send a smaller one, or a link instead of an attachment.",
    "4.1": "The recipient's server did not answer.",
    "4.2": "The connection to the recipient's server broke.",
    "4.4": "No server could be found that takes mail for this domain.",
    "4.7": "It was tried again and again until the time for it ran out.",
    "6.3": "The recipient's server cannot take the form in which the message was written, and it could not be converted.",
    "6.7": "The address or the message needs a server for international mail (SMTPUTF8), and the recipient's is none.",
    "7.1": "The recipient's server does not accept this message from this sender.",
    "7.10": "The message may travel only under TLS to a server that proves its name, and none could be had.",
    "7.30": "The message may go only to servers that promise to keep it under TLS (REQUIRETLS), and the recipient's do not.",
    "7.26": "The recipient's server found the sender not authenticated (SPF, DKIM or DMARC).",
    "1": "Something is wrong with the address.",
    "2": "Something is wrong with the mailbox.",
    "3": "Something is wrong with the recipient's mail system.",
    "4": "The recipient's server could not be reached, or not in time.",
    "5": "The two mail servers did not understand each other.",
    "6": "The recipient's server does not take this kind of content.",
    "7": "The recipient's server refused the message by its rules on security or unwanted mail.",
}
_HEADLINE = {
    "failed": "Not delivered. We have stopped trying.",
    "delayed": "Not delivered yet. We go on trying{until}; you need not send it again.",
    "delivered": "Delivered to the recipient's mailbox.",
    "relayed": "Passed on to a server that sends no such notifications; you may hear nothing more of it.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DsnRecipient:
    """What happened to one recipient.

    ``status`` is an enhanced status code such as ``5.1.1``. ``reply`` is the remote's last reply as it was given (may be
    several lines), empty when there was none; then ``detail``, a sentence of ours, says why. ``original_recipient`` is the
    decoded ORCPT, ``type;address``. ``remote_mta`` is the host that gave the reply.
    """

    final_recipient: str
    action: Event
    status: str
    original_recipient: str = ""
    remote_mta: str = ""
    reply: str = ""
    detail: str = ""
    last_attempt_ms: int | None = None
    will_retry_until_ms: int | None = None


def one_line(text: str, limit: int = MAX_QUOTED_CHARS) -> str:
    """``text`` fit for a header field: line ends, controls and white space become one space, cut at ``limit`` characters.

    Lone surrogates become ``?``, so the result always encodes as UTF-8.
    """
    line = _UNPRINTABLE.sub(" ", text[: limit * 4]).strip()
    line = line.encode("utf-8", "replace").decode("utf-8")
    return line if len(line) <= limit else line[: limit - 3] + "..."


def fold(name: str, value: str) -> str:
    """``name: value`` as a header field folded to 76 characters, CRLF at its end; unfolding gives ``one_line(value)`` back
    but for spaces within words of more than 900 bytes.
    """
    lines = _wrapped(f"{name}: {one_line(value)}", _WIDTH - 1)
    return "\r\n ".join(lines) + "\r\n"


def for_people(reporting_mta: str, arrival_ms: int, recipients: Sequence[DsnRecipient], original_header: bytes) -> str:
    """The first part: lines end in ``\\n``, at most 76 characters wherever words allow it."""
    blocks = [
        f"This is the mail system at {one_line(reporting_mta)}.",
        "\n".join([f"About your message of {_date(arrival_ms)}:", *_original_lines(original_header)]),
    ]
    blocks += ["\n".join(_recipient_lines(recipient)) for recipient in recipients]
    return "\n\n".join(blocks) + "\n"


def _original_lines(header: bytes) -> list[str]:
    """Subject and Message-ID, so that a person knows which message is meant."""
    lines: list[str] = []
    try:
        fields = split_fields(header)
    except InputError:
        return lines
    for name in ("Subject", "Message-ID"):
        field = get_first(fields, name)
        if field is not None and field.value:
            lines += _wrapped(f"{name}: {one_line(_readable(field.value[:2000]), 300)}", _WIDTH - 4, "    ")
    return lines


def _readable(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError):
        return text


def _recipient_lines(recipient: DsnRecipient) -> list[str]:
    address = one_line(recipient.final_recipient)
    _, _, asked = recipient.original_recipient.partition(";")
    lines = [f"<{address}>"]
    if asked and one_line(asked).lower() != address.lower():
        lines += _wrapped(f"(sent to {one_line(asked)})", _WIDTH - 4, "    ")
    until = f" until {_date(recipient.will_retry_until_ms)}" if recipient.will_retry_until_ms is not None else ""
    lines += _wrapped(_HEADLINE[recipient.action].format(until=until), _WIDTH - 4, "    ")
    if recipient.action in ("failed", "delayed"):
        lines += _wrapped(f"{meaning(recipient.status)} (status {recipient.status})", _WIDTH - 4, "    ")
    if recipient.reply:
        lines.append(f"    {one_line(recipient.remote_mta) or 'The remote server'} said:")
        lines += _wrapped(one_line(recipient.reply), _WIDTH - 8, "        ")
    elif recipient.detail:
        lines += _wrapped(one_line(recipient.detail), _WIDTH - 4, "    ")
    return lines


def meaning(status: str) -> str:
    """An enhanced status code in a sentence or two for people who know no codes."""
    _, _, rest = status.partition(".")
    subject = rest.partition(".")[0]
    return _MEANING.get(rest) or _MEANING.get(subject) or "The recipient's server gave no clear reason."


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    wrapped = textwrap.wrap(
        " ".join(_bounded_word(word) for word in text.split(" ")), width, break_long_words=False, break_on_hyphens=False
    ) or [""]
    return [indent + line for line in wrapped]


def _bounded_word(word: str) -> str:
    if len(word.encode()) <= _MAX_WORD_BYTES:
        return word
    size = _MAX_WORD_BYTES // 4  # UTF-8 has at most four bytes a character
    return " ".join(word[at : at + size] for at in range(0, len(word), size))


def _date(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
