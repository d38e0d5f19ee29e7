"""Header blocks (RFC 5322 2.2): splitting raw bytes into header fields, unfolding, looking fields up.

Everything works on bytes as they stand on the wire, CRLF line ends included, so that whoever leaves a field alone leaves
its bytes alone. What a field's value means is for other modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from mailfleet.base.errors import InputError

# RFC 5322 3.6.8 field name, 4.5 white space before the colon, 2.2.3 continuation lines. What is no field is taken whole, so
# that time stays proportional to length whatever comes.
_FIELD = re.compile(rb"(([!-9;-~]++)[ \t]*+:([^\r\n\x00]*+\r\n(?:[ \t][^\r\n\x00]*+\r\n)*+))|(?s:.+)")


class HeaderField(NamedTuple):
    """One header field. ``raw`` is the whole of it, folding and final CRLF included; ``name`` as written."""

    name: str
    raw: bytes
    raw_value: bytes

    @property
    def key(self) -> str:
        """The name in lower case: names are compared without regard to case."""
        return self.name.lower()

    @property
    def value(self) -> bytes:
        """What follows the colon, unfolded and without white space at either end."""
        return unfold(self.raw_value).strip(b" \t")


def split_message(message: bytes) -> tuple[bytes, bytes]:
    """``(header, body)``: the header block up to and including its last CRLF, and what follows the blank line.

    A message with no blank line is all header. Nothing is checked here.
    """
    if message.startswith(b"\r\n"):
        return b"", message[2:]
    end = message.find(b"\r\n\r\n")
    if end < 0:
        return message, b""
    return message[: end + 2], message[end + 4 :]


def split_fields(header: bytes) -> list[HeaderField]:
    """The fields of a header block in order; joining their ``raw`` gives ``header`` back.

    ``header`` has no blank line at its end. Raises ``InputError`` naming the line when it is not a sequence of header
    fields with CRLF line ends: a bare CR or LF, NUL, a line with no colon, a space or non-ASCII byte in a name.
    """
    found: list[tuple[bytes, bytes, bytes]] = _FIELD.findall(header)
    if found and not found[-1][0]:
        raise _malformed(header, sum([len(raw) for raw, _, _ in found]))
    return [HeaderField(name.decode("ascii"), raw, value) for raw, name, value in found]


def _malformed(header: bytes, position: int) -> InputError:
    rest = header[position:]
    end = rest.find(b"\n") + 1 or len(rest)
    line, number = rest[:end], header.count(b"\n", 0, position) + 1
    if line.startswith((b" ", b"\t")):
        what = "a continuation line follows no header field"
    elif b"\x00" in line:
        what = "a header field has a NUL byte"
    elif b":" not in line:
        what = "a line of the header has no colon"
    elif not _FIELD.findall(line.replace(b"\r", b"").rstrip(b"\n") + b"\r\n")[0][0]:
        what = "a header field's name has a character that is not allowed there"
    else:
        what = "a line of the header does not end in CRLF, or is continued by one that is malformed"
    shown = line[:60].decode("utf-8", "replace")
    return InputError(f"{what}: {shown!r}", where=f"header line {number}", mend="write each field as Name: value")


def unfold(value: bytes) -> bytes:
    """Remove the line ends of folding (RFC 5322 2.2.3); the white space after them stays."""
    return value.replace(b"\r\n", b"")


def get_first(fields: Iterable[HeaderField], name: str) -> HeaderField | None:
    """The topmost field called ``name``, or ``None``."""
    key = name.lower()
    return next((field for field in fields if field.name.lower() == key), None)


def get_all(fields: Iterable[HeaderField], name: str) -> list[HeaderField]:
    """Every field called ``name``, from the top."""
    key = name.lower()
    return [field for field in fields if field.name.lower() == key]
