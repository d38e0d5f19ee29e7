"""8bit messages for 7bit transport (RFC 6152 3): leaves are re-encoded, everything else keeps its bytes.

A signature over the converted message breaks, so the conversion comes before DKIM signing. The MIME structure is walked on
the raw bytes, never re-generated.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

from mailfleet.base.errors import InputError
from mailfleet.mail.fields import HeaderField, get_first, split_fields, split_message

MAX_DEPTH = 50
MAX_LINE_BYTES = 998  # RFC 5321 4.5.3.1.6, without the CRLF
MAX_VALUE_BYTES = 2000  # of a Content-Type that are looked at
_TOKEN = rb"[^\x00-\x20()<>@,;:\\\"/\[\]?=\x7f-\xff]+"
_TYPE = re.compile(rb"\s*(%b)\s*/\s*(%b)\s*(?:;|\Z)" % (_TOKEN, _TOKEN))
_PARAMETER = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')
_COMMENT = re.compile(rb"\((?:[^()\\]|\\.)*\)")
_QUOTED_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]+")
_QP_WIDTH = 76


@dataclass(frozen=True, slots=True)
class _Kind:
    """What an entity is, as far as conversion cares."""

    media: bytes  # type/subtype in lower case
    boundary: bytes
    encoding: bytes  # Content-Transfer-Encoding in lower case


def to_seven_bit(message: bytes) -> bytes:
    """``message`` (CRLF line ends) with nothing but ASCII in it; what needs no conversion is returned as it is.

    Text leaves become quoted-printable, others base64, and their Content-Transfer-Encoding says so. Raises ``InputError``
    when that cannot be done without changing what was signed or encrypted (RFC 1847 2.1), when a header field has raw
    UTF-8 (RFC 6532, needs SMTPUTF8), or when the MIME structure cannot be followed: the caller bounces with 5.6.3.
    Lines of the header are never changed, however long.
    """
    return _entity(message, b"text/plain", 0, top=True)


def _seven_bit(data: bytes) -> bool:
    """RFC 2045 2.7: ASCII without NUL, CR and LF only as CRLF, lines within the bound."""
    return (
        data.isascii()
        and b"\x00" not in data
        and data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n")
        and max(map(len, data.split(b"\r\n"))) <= MAX_LINE_BYTES
    )


def _entity(raw: bytes, default_media: bytes, depth: int, *, top: bool = False) -> bytes:
    """Convert one entity: header, blank line, body."""
    if _seven_bit(raw):
        return raw
    if depth > MAX_DEPTH:
        raise _cannot(f"its parts are nested more than {MAX_DEPTH} deep")
    header, body = split_message(raw)
    if not header.isascii():
        raise _cannot("a header field has raw UTF-8")
    fields = split_fields(header)
    kind = _kind(fields, default_media)
    converted, encoding = _body(body, kind, depth)
    if encoding == kind.encoding:
        return raw[: len(raw) - len(body)] + converted
    return _relabel(header, fields, body, encoding, top=top) + b"\r\n" + converted


def _body(body: bytes, kind: _Kind, depth: int) -> tuple[bytes, bytes]:
    """The converted body and its encoding. Identity encodings of what stays composite are called 7bit."""
    if kind.media in (b"multipart/signed", b"multipart/encrypted"):
        if body.isascii():
            return body, kind.encoding
        raise _cannot("it is signed or encrypted, and the conversion would break that")
    if kind.media.startswith(b"multipart/"):
        return _multipart(body, kind, depth), b"7bit"
    if kind.media in (b"message/rfc822", b"message/news") and kind.encoding in (b"7bit", b"8bit", b"binary"):
        return _entity(body, b"text/plain", depth + 1), b"7bit"
    if kind.media in (b"message/partial", b"message/external-body"):
        raise _cannot(f"a part of type {kind.media.decode()} may not be encoded")  # RFC 2046 5.2.2.1
    return _leaf(body, kind)


def _leaf(body: bytes, kind: _Kind) -> tuple[bytes, bytes]:
    if _seven_bit(body):
        return body, kind.encoding
    if kind.encoding == b"quoted-printable":  # 8bit bytes where none may be: read leniently, written anew
        return quoted_printable(binascii.a2b_qp(body)), kind.encoding
    if kind.encoding == b"base64":  # RFC 2045 6.8: what is not of the alphabet is ignored
        return _fold(_NOT_BASE64.sub(b"", body)), kind.encoding
    if kind.encoding not in (b"7bit", b"8bit", b"binary"):
        raise _cannot(f"a part has the unknown encoding {kind.encoding.decode()[:40]!r}")
    if kind.media.startswith((b"text/", b"message/")):
        return quoted_printable(body), b"quoted-printable"
    return _fold(base64.b64encode(body)), b"base64"


def _multipart(body: bytes, kind: _Kind, depth: int) -> bytes:
    """Convert the parts; delimiter lines stay. Bytes before the first and after the last are not content (RFC 2046 5.1.1)."""
    if not kind.boundary:
        raise _cannot("a multipart has no boundary")
    delimiter = re.compile(rb"--%b(--)?[ \t]*(?:\r\n|\Z)" % re.escape(kind.boundary))
    default_media = b"message/rfc822" if kind.media == b"multipart/digest" else b"text/plain"
    pieces: list[bytes] = []
    start, inside = 0, False
    for line in delimiter.finditer(body):
        if line.start() and body[line.start() - 2 : line.start()] != b"\r\n":
            continue
        # The CRLF before a delimiter line belongs to the delimiter.
        end = line.start() - 2 if line.start() - 2 >= start else line.start()
        pieces.append(_part(body[start:end], inside, default_media, depth))
        pieces.append(body[end : line.end()])
        start, inside = line.end(), True
        if line[1]:
            inside = False
            break
    if not pieces:
        raise _cannot("a multipart has no part")
    pieces.append(_part(body[start:], inside, default_media, depth))
    return b"".join(pieces)


def _part(raw: bytes, inside: bool, default_media: bytes, depth: int) -> bytes:
    if inside:
        return _entity(raw, default_media, depth + 1)
    return raw if _seven_bit(raw) else b""


def _kind(fields: list[HeaderField], default_media: bytes) -> _Kind:
    """RFC 2045 5.2 and 6.1: absent or unreadable means text/plain and 7bit."""
    encoding_field = get_first(fields, "Content-Transfer-Encoding")
    encoding = _COMMENT.sub(b"", encoding_field.value[:MAX_VALUE_BYTES]).strip().lower() if encoding_field else b""
    type_field = get_first(fields, "Content-Type")
    if type_field is None:
        return _Kind(default_media, b"", encoding or b"7bit")
    value = _without_comments(type_field.value[:MAX_VALUE_BYTES])
    found = _TYPE.match(value)
    media = b"%b/%b" % (found[1], found[2]) if found else b"text/plain"
    boundary = b""
    for name, quoted, plain in _PARAMETER.findall(value, found.end(2) if found else len(value)):
        if name.lower() == b"boundary":
            boundary = plain or re.sub(rb"\\(.)", rb"\1", quoted)
            break
    return _Kind(media.lower(), boundary.rstrip(), encoding or b"7bit")


def _without_comments(value: bytes) -> bytes:
    """Drop comments that stand outside quoted strings."""
    kept: list[bytes] = []
    start = 0
    for quoted in _QUOTED_STRING.finditer(value):
        kept += [_COMMENT.sub(b"", value[start : quoted.start()]), quoted[0]]
        start = quoted.end()
    return b"".join([*kept, _COMMENT.sub(b"", value[start:])])


def _relabel(header: bytes, fields: list[HeaderField], body: bytes, encoding: bytes, *, top: bool) -> bytes:
    """The header with one Content-Transfer-Encoding, in the place of the first there was, or at the end."""
    label = b"Content-Transfer-Encoding: %b\r\n" % encoding
    kept: list[bytes] = []
    placed = False
    for field in fields:
        if field.key != "content-transfer-encoding":
            kept.append(field.raw)
        elif not placed:
            kept.append(label)
            placed = True
    if top and get_first(fields, "MIME-Version") is None:
        kept.append(b"MIME-Version: 1.0\r\n")  # RFC 2045 4: without it the label means nothing
    if top and get_first(fields, "Content-Type") is None:
        kept.append(b"Content-Type: text/plain; charset=%b\r\n" % _charset(body))
    if not placed:
        kept.append(label)
    return b"".join(kept)


def _charset(body: bytes) -> bytes:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return b"unknown-8bit"  # RFC 1428 3
    return b"utf-8"


def quoted_printable(body: bytes) -> bytes:
    """RFC 2045 6.7: CRLF stays a line end, a bare CR or LF is encoded, lines are at most 76 bytes."""
    return b"\r\n".join([_quoted_printable_line(line) for line in body.split(b"\r\n")])


def _quoted_printable_line(line: bytes) -> bytes:
    encoded = binascii.b2a_qp(line, istext=False)  # encodes CR and LF too, and white space at the end; folds with "=\n"
    if b"\n--" in encoded:  # the fold made what may be a delimiter line out of text
        encoded = _refold(encoded.replace(b"=\n", b"").replace(b"--", b"=2D=2D"))
    return encoded.replace(b"\n", b"\r\n")


def _refold(encoded: bytes) -> bytes:
    lines: list[bytes] = []
    start = 0
    while len(encoded) - start > _QP_WIDTH:
        end = start + _QP_WIDTH - 1
        escape = encoded.find(b"=", end - 2, end)  # never cut within =XX
        end = escape if escape >= 0 else end
        lines.append(encoded[start:end])
        start = end
    return b"=\n".join([*lines, encoded[start:]])


def _fold(encoded: bytes) -> bytes:
    return b"\r\n".join([encoded[at : at + 76] for at in range(0, len(encoded), 76)])


def _cannot(why: str) -> InputError:
    return InputError(
        f"the message cannot be converted for a server without 8BITMIME: {why}",
        mend="send it with its parts encoded as quoted-printable or base64",
    )
