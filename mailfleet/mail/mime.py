"""MIME structure (RFC 2045 to 2047, 2183, 2231, 2387): parts, boundaries, attachments. All of it is done once per content.

The texts themselves are not here: a layout says where they go.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import quote_from_bytes

from mailfleet.base.errors import InputError
from mailfleet.mail.encode import clean_header_text

CRLF = b"\r\n"
_TOKEN = r"[A-Za-z0-9!#$&'*+.^_`{|}~-]+"  # noqa: S105  # RFC 2045 5.1 "token", nothing secret
_CONTENT_TYPE = re.compile(rf'({_TOKEN})/({_TOKEN})((?:\s*;\s*{_TOKEN}=(?:{_TOKEN}|"[ !#-\[\]-~]*"))*)\s*;?')
_PARAMETER = re.compile(rf';\s*({_TOKEN}=(?:{_TOKEN}|"[^"]*"))')
_CONTENT_ID = re.compile(r"[!-;=?-~]{1,200}")
_PARAMETER_ROOM = 60  # characters of a value on one line
_RFC2231_SAFE = "!#$&+^_`{|}~"  # attribute-char less letters and digits, RFC 2231 7

Slot = Literal["text", "html"]
Segment = bytes | Slot


class EncodedPart(NamedTuple):
    """A finished part: its Content-* fields, each ending CRLF, and its encoded body, without the last line end."""

    fields: bytes
    body: bytes
    content_id: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """``fields`` are the Content-* fields of the message; ``segments`` its body with places for the two texts."""

    fields: bytes
    segments: tuple[Segment, ...]


_TEXT_FIELDS: dict[Slot, bytes] = {
    "text": b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n",
    "html": b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n",
}


def parameter(name: str, value: str) -> list[str]:
    """``name=value`` as one or more parameters: quoted when ASCII, else RFC 2231, in numbered pieces when long."""
    value = clean_header_text(value)
    if value.isascii() and len(value) <= _PARAMETER_ROOM:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return [f'{name}="{escaped}"']
    pieces: list[str] = ["utf-8''"]
    for letter in value:
        encoded = quote_from_bytes(letter.encode(), safe=_RFC2231_SAFE)
        if len(pieces[-1]) + len(encoded) > _PARAMETER_ROOM:
            pieces.append("")
        pieces[-1] += encoded
    if len(pieces) == 1:
        return [f"{name}*={pieces[0]}"]
    return [f"{name}*{index}*={piece}" for index, piece in enumerate(pieces)]


def encode_attachment(filename: str, content_type: str, data: bytes, content_id: str = "") -> EncodedPart:
    """A file as a part: base64, but ``message/*`` as it is (RFC 2046 5.2.1). Raises ``InputError``."""
    where = f"attachment {filename[:80]!r}"
    match = _CONTENT_TYPE.fullmatch(content_type[:201])
    if len(content_type) > 200 or match is None or match[1].lower() == "multipart":
        raise InputError(
            f"{content_type[:80]!r} is not the content type of a file", where=where, mend="for example application/pdf"
        )
    if content_id and not _CONTENT_ID.fullmatch(content_id):
        raise InputError(
            "a content id is 1 to 200 printable ASCII characters without < > and spaces",
            where=where,
            mend="for example logo",
        )
    encoding, body = "base64", b""
    if match[1].lower() == "message":
        encoding, body = "7bit", _as_it_is(data, where)
    else:
        body = base64_lines(data)
    parameters = _PARAMETER.findall(match[3])
    lines = [
        ";\r\n ".join([f"Content-Type: {match[1]}/{match[2]}", *parameters]),
        f"Content-Transfer-Encoding: {encoding}",
        ";\r\n ".join(
            [
                f"Content-Disposition: {'inline' if content_id else 'attachment'}",
                *(parameter("filename", filename) if filename else []),
            ]
        ),
    ]
    if content_id:
        lines.append(f"Content-ID: <{content_id}>")
    return EncodedPart("".join(f"{line}\r\n" for line in lines).encode("ascii"), body, content_id)


def base64_lines(data: bytes) -> bytes:
    """Base64 in lines of 76 (RFC 2045 6.8), CRLF between them."""
    letters = binascii.b2a_base64(data, newline=False)
    return CRLF.join([letters[start : start + 76] for start in range(0, len(letters), 76)])


def _as_it_is(data: bytes, where: str) -> bytes:
    lines = re.split(rb"\r\n|\r|\n", data)
    if not data.isascii() or b"\0" in data or max(map(len, lines)) > 998:  # RFC 2045 2.7
        raise InputError(
            "a message/* attachment must be ASCII with lines of at most 998 bytes",
            where=where,
            mend="attach it as application/octet-stream",
        )
    return CRLF.join(lines)


def lay_out(slots: Sequence[Slot], parts: Sequence[EncodedPart], boundary_seed: str) -> Layout:
    """Arrange the texts and the files.

    One text stands alone; two are ``multipart/alternative``; files with a content id make the HTML ``multipart/related``;
    other files make the whole ``multipart/mixed``. Boundaries come from ``boundary_seed`` alone and occur in no part.
    """
    boundaries = _Boundaries(boundary_seed, [part.body for part in parts])
    inline = [part for part in parts if part.content_id] if "html" in slots else []
    attached = [part for part in parts if part not in inline]
    nodes = [Layout(_TEXT_FIELDS[slot], (slot,)) for slot in slots]
    if inline:
        related = [nodes[-1], *map(_leaf, inline)]
        nodes[-1] = _multipart("related", related, boundaries, ' type="text/html";')  # RFC 2387 3.1
    top = nodes[0] if len(nodes) == 1 else _multipart("alternative", nodes, boundaries)
    if attached:
        top = _multipart("mixed", [top, *map(_leaf, attached)], boundaries)
    return Layout(top.fields, _merged(top.segments))


def _leaf(part: EncodedPart) -> Layout:
    return Layout(part.fields, (part.body,))


def _multipart(kind: str, children: Sequence[Layout], boundaries: _Boundaries, parameters: str = "") -> Layout:
    boundary = boundaries.next(kind)
    fields = f'Content-Type: multipart/{kind};{parameters}\r\n boundary="{boundary}"\r\n'.encode("ascii")
    delimiter = f"--{boundary}\r\n".encode("ascii")
    segments: list[Segment] = []
    for child in children:
        segments += [delimiter, child.fields, CRLF, *child.segments, CRLF]
    segments.append(f"--{boundary}--\r\n".encode("ascii"))
    return Layout(fields, tuple(segments))


def _merged(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    merged: list[Segment] = []
    run: list[bytes] = []
    for segment in segments:
        if isinstance(segment, bytes):
            run.append(segment)
            continue
        merged += [b"".join(run), segment] if run else [segment]
        run = []
    return (*merged, b"".join(run)) if run else tuple(merged)


class _Boundaries:
    """Deterministic boundaries. ``=_`` occurs in no quoted-printable or base64 text (RFC 2045 6.7), so only raw parts are searched."""

    def __init__(self, seed: str, bodies: Sequence[bytes]) -> None:
        self._seed = seed
        self._bodies = bodies
        self._count = 0

    def next(self, kind: str) -> str:
        while True:
            self._count += 1
            digest = hashlib.sha256(f"{self._seed}\0{kind}\0{self._count}".encode()).hexdigest()
            boundary = f"=_{kind}_{digest[:24]}"
            if not any(boundary.encode("ascii") in body for body in self._bodies):
                return boundary
