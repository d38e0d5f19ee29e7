"""Files that reports come in: XML as it is, gzip, ZIP, or a message that carries one of them (RFC 9990 4). Pure, and bounded."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message

from mailfleet.base.errors import InputError

MAX_FILE_BYTES = 10_000_000
MAX_TEXT_BYTES = 30_000_000  # unpacked; the largest that are seen have a fifth of it
MAX_MEMBERS = 50
_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"
_FIELD = re.compile(rb"(?:From |[!-9;-~]{1,77}:)")  # a message begins with a field, or as mboxes have it
_MEND = "give the attachment or the whole message as it came"


def report_texts(data: bytes) -> list[tuple[str, str]]:
    """``(name, text)`` of every XML document in a file; the name is empty for the file itself.

    Raises ``InputError`` for what is no such file, holds none, or unpacks to more than ``MAX_TEXT_BYTES``.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InputError(f"it has {len(data)} bytes: {MAX_FILE_BYTES} are the most", mend="give fewer reports at once")
    room = _Room()
    found = [(name, _text(raw)) for name, raw in _unpacked("", data, room)]
    if found:
        return found
    if _FIELD.match(data):
        found = [(name, _text(raw)) for name, raw in _attached(data, room)]
        if found:
            return found
        raise InputError("the message carries no report", mend=_MEND)
    what = "it is empty" if not data.strip() else "it is neither XML, gzip, ZIP nor a message"
    raise InputError(what, mend=_MEND)


class _Room:
    """What may still be unpacked."""

    def __init__(self) -> None:
        self.left = MAX_TEXT_BYTES

    def take(self, data: bytes) -> bytes:
        """Raises ``InputError`` when it is too much."""
        self.left -= len(data)
        if self.left < 0:
            what = f"it unpacks to more than {MAX_TEXT_BYTES} bytes"
            raise InputError(what, mend="see whether it is a report at all; give fewer at once")
        return data


def _unpacked(name: str, data: bytes, room: _Room) -> Iterator[tuple[str, bytes]]:
    """Documents by what the bytes are, whatever they are called."""
    if data.startswith(_GZIP):
        yield name, room.take(_inflated(data, room.left))
    elif data.startswith(_ZIP):
        yield from _members(data, room)
    elif _is_markup(data):
        yield name, room.take(data)


def _inflated(data: bytes, most: int) -> bytes:
    """One gzip member; what follows it is padding of mail programs."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        made = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise InputError(f"its gzip is damaged: {error}", mend=_MEND) from None
    if not unpacker.eof and len(made) <= most:
        raise InputError("its gzip is cut off", mend=_MEND)
    return made


def _members(data: bytes, room: _Room) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            if len(members) > MAX_MEMBERS:
                raise InputError(f"it holds {len(members)} files: {MAX_MEMBERS} are the most", mend=_MEND)
            for one in members:
                with archive.open(one) as file:
                    raw = room.take(file.read(room.left + 1))
                if _is_markup(raw):
                    yield one.filename, raw
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
        raise InputError(f"its ZIP cannot be read: {error}", mend=_MEND) from None


def _attached(data: bytes, room: _Room) -> Iterator[tuple[str, bytes]]:
    try:
        parts = [one for one in message_from_bytes(data).walk() if not one.is_multipart()]
    except RecursionError:
        raise InputError("its parts lie too deep in each other", mend=_MEND) from None
    for part in parts:
        raw = part.get_payload(decode=True)
        if isinstance(raw, bytes) and not _is_page(part, raw):
            yield from _unpacked(_filename(part), raw, room)


def _filename(part: Message) -> str:
    try:
        return str(part.get_filename() or "")
    except (ValueError, LookupError):
        return ""


def _is_page(part: Message, raw: bytes) -> bool:
    """The message itself as HTML is no report."""
    return part.get_content_type() == "text/html" and b"<feedback" not in raw[:4096]


def _is_markup(data: bytes) -> bool:
    return data[:64].lstrip(b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n").startswith(b"<")


def _text(data: bytes) -> str:
    """Names and numbers are ASCII whatever the encoding; what else is lost does not matter."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")
