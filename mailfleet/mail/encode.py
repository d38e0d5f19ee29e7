"""Text to the 7-bit wire: encoded words (RFC 2047), header folding (RFC 5322 2.2.3), quoted-printable (RFC 2045 6.7), dates.

Only encoding belongs here: which fields a message has is decided in ``headers``, which parts it has in ``mime``.
"""

from __future__ import annotations

import binascii
import re
from datetime import UTC, datetime
from functools import lru_cache

from mailfleet.mail.address import Address

MAX_LINE = 76  # RFC 2047 2 for lines with encoded words; inside the 78 of RFC 5322 2.1.1 for all others
MAX_ENCODED_WORD = 75  # RFC 2047 2
MAX_VERBATIM_WORD = 900  # a longer word would bring its line near the 998 of RFC 5322 2.1.1

_PRINTABLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_SHORT_LINE = re.compile(r"[ -<>-~]{1,75}")
_WORD = re.compile(r" *[^ ]+")
_SOLID = re.compile(r"[^ ]+")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_ASCII = "".join(map(chr, range(128)))
_LINE_END = re.compile(r"\r\n|\r|\n")
# RFC 2047 5 (3): what may stand for itself in a Q word inside a phrase, the strictest of the three places
_Q_VERBATIM = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/"
_Q_LETTERS = tuple("_" if byte == 32 else chr(byte) if byte in _Q_VERBATIM else f"={byte:02X}" for byte in range(256))
_QP_LETTERS = tuple(chr(byte) if 32 <= byte <= 126 and byte != 61 else f"={byte:02X}" for byte in range(256))
_ENVELOPE = len("=?utf-8?Q??=")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def clean_header_text(text: str) -> str:
    """One line of well-formed Unicode: control characters and line ends become a space, the ends are stripped.

    After this no value can end a header field early. Lone surrogates become U+FFFD.
    """
    if _PRINTABLE.fullmatch(text):
        return text
    return whole_unicode(_CONTROL.sub(" ", text)).strip(" ")


def whole_unicode(text: str) -> str:
    """``text`` with every lone surrogate replaced by U+FFFD, so that it has a UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _needs_encoding(word: str) -> bool:
    # text that only looks like an encoded word must not be decoded at the far end
    return not word.isascii() or "=?" in word or len(word) > MAX_VERBATIM_WORD


def encode_header_text(text: str, *, used: int = 0) -> str:
    """Unstructured text as RFC 2047 wants it: ASCII as it is, else encoded words from the first word that needs it to the last.

    ``used`` is how many columns of the first line are taken. The words of the result are separated by spaces; breaking
    lines there and nowhere else is ``fold_words``' work. Decoding gives ``clean_header_text(text)`` back.
    """
    text = clean_header_text(text)
    start, end = _run_to_encode(text)
    if start == end:
        return text
    # white space beside plain text is kept by readers, so the spaces around the run stay outside it (RFC 2047 6.2)
    column = used + start
    room = MAX_LINE - column if column < MAX_LINE - 30 else MAX_LINE - 1
    return text[:start] + " ".join(encoded_words(text[start:end], first_room=room)) + text[end:]


def _run_to_encode(text: str) -> tuple[int, int]:
    """From the start of the first word that needs encoding to the end of the last one; two equal offsets when none does."""
    if len(text) <= MAX_VERBATIM_WORD and "=?" not in text:
        first = _NON_ASCII.search(text)
        if first is None:
            return 0, 0
        start = text.rfind(" ", 0, first.start()) + 1
        end = text.find(" ", len(text.rstrip(_ASCII)))
        return start, end if end >= 0 else len(text)
    words = [match.span() for match in _SOLID.finditer(text) if _needs_encoding(match[0])]
    return (words[0][0], words[-1][1]) if words else (0, 0)


def encoded_words(text: str, *, first_room: int = MAX_ENCODED_WORD) -> list[str]:
    """``text`` as UTF-8 encoded words of at most 75 characters, the first of at most ``first_room``; B or Q, whichever is shorter.

    No character is split between two words (RFC 2047 5).
    """
    data = text.encode()
    room = max(min(first_room, MAX_ENCODED_WORD), 24) - _ENVELOPE
    q_text = "".join(map(_Q_LETTERS.__getitem__, data))
    use_q = len(q_text) <= (len(data) + 2) // 3 * 4
    if use_q and len(q_text) <= room:
        return [f"=?utf-8?Q?{q_text}?="]
    words: list[str] = []
    taken = bytearray()
    cost = 0
    for letter in text:
        piece = letter.encode()
        added = sum(map(len, map(_Q_LETTERS.__getitem__, piece))) if use_q else len(piece)
        if taken and cost + added > (room if use_q else room // 4 * 3):
            words.append(_encoded_word(bytes(taken), use_q))
            taken.clear()
            cost = 0
            room = MAX_ENCODED_WORD - _ENVELOPE
        taken += piece
        cost += added
    words.append(_encoded_word(bytes(taken), use_q))
    return words


def _encoded_word(data: bytes, use_q: bool) -> str:
    if use_q:
        return f"=?utf-8?Q?{''.join(map(_Q_LETTERS.__getitem__, data))}?="
    return f"=?utf-8?B?{binascii.b2a_base64(data, newline=False).decode('ascii')}?="


def fold_words(name: str, words: str) -> bytes:
    """``name: words`` as a field ending CRLF, broken only in front of spaces, at 76 columns where a space allows it.

    For structured fields and for what ``encode_header_text`` made: nothing is encoded here. Non-ASCII stays UTF-8 (RFC 6532).
    """
    line = f"{name}: {words}"
    if len(line) <= MAX_LINE:
        return f"{line}\r\n".encode()
    lines: list[str] = []
    current = f"{name}:"
    for word in _WORD.findall(" " + words):
        if len(current) + len(word) > MAX_LINE and (lines or current != f"{name}:"):
            lines.append(current)
            current = word
        else:
            current += word
    lines.append(current)
    return ("\r\n".join(lines) + "\r\n").encode()


def fold_header(name: str, value: str) -> bytes:
    """An unstructured field (Subject, X-...) on the wire: cleaned, encoded where needed, folded, ending CRLF."""
    if len(name) + 2 + len(value) <= MAX_LINE and "=?" not in value and _PRINTABLE.fullmatch(value):
        return f"{name}: {value}\r\n".encode("ascii")
    return fold_words(name, encode_header_text(value, used=len(name) + 2))


def format_mailbox(display_name: str, address: Address) -> str:
    """``Name <addr-spec>`` (RFC 5322 3.4): the name as atoms, a quoted string or encoded words, whichever it needs.

    The domain is the A-label; a local-part outside ASCII stays as it is, and the message then needs SMTPUTF8. The result
    goes through ``fold_words``.
    """
    name = clean_header_text(display_name).strip()
    if not name:
        return str(address)
    if _ATOMS.fullmatch(name) and not _needs_encoding(name):
        return f"{name} <{address}>"
    if name.isascii() and "=?" not in name and max(map(len, _WORD.findall(name))) <= MAX_VERBATIM_WORD:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}" <{address}>'
    return f"{' '.join(encoded_words(name, first_room=60))} <{address}>"


@lru_cache(maxsize=64)
def _format_second(at_s: int) -> str:
    at = datetime.fromtimestamp(at_s, UTC)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02d} {_MONTHS[at.month - 1]} {at.year:04d}"
        f" {at.hour:02d}:{at.minute:02d}:{at.second:02d} +0000"
    )


def format_date(now_ms: int) -> str:
    """The date-time of RFC 5322 3.3 in UTC: ``Thu, 01 Jan 2026 00:00:00 +0000``."""
    return _format_second(now_ms // 1000)


def quoted_printable(text: str) -> bytes:
    """Any text, any line ends, in quoted-printable (RFC 2045 6.7) with CRLF line ends; no line is longer than 76."""
    data = whole_unicode(_LINE_END.sub("\n", text)).encode()
    return binascii.b2a_qp(data, istext=True).replace(b"\n", b"\r\n")


def quoted_printable_piece(text: str) -> bytes:
    """A piece of a quoted-printable body that begins and ends at column 0, so that pieces can be joined in any order.

    Text that does not end a line is closed by a soft line break; the empty text is no bytes.
    """
    if _SHORT_LINE.fullmatch(text):
        return text.encode("ascii") + b"=\r\n"
    if len(text) <= 40 and _LINE_END.search(text) is None:  # names and the like, several for each recipient
        letters = "".join(map(_QP_LETTERS.__getitem__, whole_unicode(text).encode()))
        if 0 < len(letters) <= 75:
            return letters.encode("ascii") + b"=\r\n"
    encoded = quoted_printable(text)
    if not encoded or encoded.endswith(b"\r\n"):
        return encoded
    if len(encoded) - (encoded.rfind(b"\n") + 1) == 76:  # full to the last column: the closing "=" needs room
        cut = 3 if encoded[-3:-2] == b"=" else 1
        encoded = encoded[:-cut] + b"=\r\n" + encoded[-cut:]
    return encoded + b"=\r\n"
