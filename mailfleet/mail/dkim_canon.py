"""DKIM canonicalisation (RFC 6376 3.4) of bodies and header fields, one-shot and in pieces. Bytes in, bytes out.

Lines end in CRLF; a bare CR or LF is an ordinary byte. A body that does not end in CRLF is treated as if it did, because
that is how it will stand on the wire.
"""

from __future__ import annotations

import hashlib
import re

from mailfleet.base.errors import InputError

_SPACES = re.compile(rb"  +")
_CRLF = b"\r\n"


def relax_lines(text: bytes) -> bytes:
    """Reduce white space within and at the end of lines (RFC 6376 3.4.4 a). What stands at either end of ``text`` stays."""
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    # One search finds doubled spaces and spaces before a CR alike; most encoded bodies have neither and end here.
    if b"  " in text.replace(b"\r", b" "):
        text = _SPACES.sub(b" ", text).replace(b" \r\n", _CRLF)
    return text


def _content_end(text: bytes) -> int:
    """Where the run of CRLFs at the end of ``text`` starts."""
    core = len(text.rstrip(_CRLF))
    tail = text[core:]
    if not tail.endswith(_CRLF):
        return len(text)
    alternating = max(tail.rfind(b"\n\n"), tail.rfind(b"\r\r")) + 1
    return core + alternating + tail.startswith(b"\n", alternating)


def relaxed_body(body: bytes) -> bytes:
    """RFC 6376 3.4.4: white space reduced, empty lines at the end dropped; an empty body stays empty."""
    return _without_empty_end(relax_lines(body if body.endswith(_CRLF) else body + _CRLF))


def _without_empty_end(lines: bytes) -> bytes:
    """Whole lines less the empty ones at the end; the same object where there are none, as nearly always."""
    end = _content_end(lines)
    if end and end + 2 == len(lines):
        return lines
    return lines[:end] + _CRLF if end else b""


def digest_of_relaxed(lines: bytes) -> bytes:
    """What ``bh=`` carries for a body that ``relax_lines`` has been through already, as a whole or in runs of whole lines."""
    return hashlib.sha256(_without_empty_end(lines if lines.endswith(_CRLF) else lines + _CRLF)).digest()


def simple_body(body: bytes) -> bytes:
    """RFC 6376 3.4.3: empty lines at the end reduced to one CRLF; an empty body is one CRLF."""
    return body[: _content_end(body)] + _CRLF


class BodyHash:
    """SHA-256 of a relaxed body, fed in pieces cut anywhere. ``copy`` lets messages that start alike share the work."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._held: list[
            bytes
        ] = []  # white space and line ends that may turn out to be at the end of a line or of the body
        self._empty = True

    def update(self, chunk: bytes) -> None:
        """Add the next piece of the body."""
        core = chunk.rstrip(b" \t\r\n")
        if core:
            self._hash.update(relax_lines(b"".join([*self._held, core])))
            self._held.clear()
            self._empty = False
        self._held.append(chunk[len(core) :])

    def digest(self) -> bytes:
        """The 32 bytes that ``bh=`` carries. The object may still be fed afterwards."""
        held = b"".join(self._held)
        rest = relax_lines(held if held.endswith(_CRLF) else held + _CRLF)
        rest = rest[: _content_end(rest)]
        final = self._hash.copy()
        if rest or not self._empty:
            final.update(rest + _CRLF)
        return final.digest()

    def copy(self) -> BodyHash:
        """An independent continuation from here."""
        twin = BodyHash()
        twin._hash, twin._held, twin._empty = self._hash.copy(), self._held.copy(), self._empty
        return twin


def relaxed_field(name: str, raw_value: bytes) -> bytes:
    """One header field by RFC 6376 3.4.2, without the CRLF."""
    value = raw_value.replace(_CRLF, b"").replace(b"\t", b" ")
    return name.lower().encode("ascii") + b":" + _SPACES.sub(b" ", value).strip(b" ")


def relaxed_fields(header: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Every field of a header block by RFC 6376 3.4.2, from the top: its lower-case name, and the whole with its CRLF.

    ``header`` was made or checked by us: only a line with no colon is noticed, and raises ``InputError``.
    """
    text = header.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").replace(b"\t", b" ")
    if b"  " in text:
        text = _SPACES.sub(b" ", text)
    fields = []
    for line in text.removesuffix(_CRLF).split(_CRLF):
        name, colon, value = line.partition(b":")
        if not colon:
            shown = line[:60].decode("utf-8", "replace")
            raise InputError(f"a line of the header has no colon: {shown!r}", mend="write each field as Name: value")
        name = name.rstrip(b" ").lower()
        fields.append((name, b"%b:%b\r\n" % (name, value.strip(b" "))))
    return tuple(fields)
