"""The providers' log of decisions, ``DATA/sandbox/decisions.log``: one JSON array a line, appended before the reply is said.

The first line names the columns; a log that an earlier version began, with fewer of them, gets such a line again where the new
ones start. A line costs about 250 bytes. Nothing is synced: the log survives the death of the process, not of the machine,
which is all that a simulated provider promises.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import orjson

ENVELOPE = "rcpt"  # decided at RCPT, before the message was seen
MESSAGE = "message"  # decided after the final dot
CONNECTION = "connection"  # a whole connection was turned away: no recipient


class Decision(NamedTuple):
    """One final reply for one recipient, or one connection turned away.

    ``code`` 0 means that the connection was closed without a reply. ``repeat`` marks a delivery that had been accepted (or
    refused for good) before. ``signature`` is ``ok``, ``bad``, ``absent`` or, when the message was not seen whole, empty.
    ``segment``, ``offset`` and ``length`` say where the accepted message lies in the spool; segment 0 is nowhere.
    ``header_from`` and ``dkim`` are as in ``signatures.Seen``. ``helo`` is kept for a null reverse-path only, whose SPF is that
    of this name (RFC 7208 2.4).
    """

    at_ms: int
    provider: str
    client: str
    sender: str
    recipient: str
    message_id: str
    phase: str
    code: int
    enhanced: str
    reason: str
    repeat: bool = False
    signature: str = ""
    segment: int = 0
    offset: int = 0
    length: int = 0
    header_from: str = ""
    dkim: str = ""
    helo: str = ""

    @property
    def accepted(self) -> bool:
        """The provider took responsibility."""
        return self.code == 250 and self.phase == MESSAGE

    @property
    def refused(self) -> bool:
        """For good."""
        return self.code >= 500 and self.phase != CONNECTION


_HEAD = orjson.dumps(Decision._fields) + b"\n"
_ANY_HEAD = b'["at_ms",'


def log_path(data_dir: Path) -> Path:
    """Where the log of this data folder lies."""
    return data_dir / "sandbox" / "decisions.log"


class JournalWriter:
    """Appends decisions. One process writes; any number read."""

    def __init__(self, data_dir: Path) -> None:
        path = log_path(data_dir)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        _cut_torn_tail(self._descriptor)
        if os.pread(self._descriptor, len(_HEAD), 0) != _HEAD:
            _write_whole(self._descriptor, _HEAD)

    def append(self, decisions: list[Decision]) -> None:
        """Write all of them in one ``write``. Raises ``OSError`` when the disk is full; then none of them counts."""
        _write_whole(self._descriptor, b"".join([orjson.dumps(tuple(one)) + b"\n" for one in decisions]))

    def close(self) -> None:
        """Writes nothing."""
        os.close(self._descriptor)


def read(data_dir: Path, *, offset: int = 0) -> Iterator[tuple[int, Decision]]:
    """Every whole decision with the place of its line, oldest first, while the sandbox runs or not."""
    try:
        file = log_path(data_dir).open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        yield from _lines(file, offset)


def _lines(file: IO[bytes], offset: int) -> Iterator[tuple[int, Decision]]:
    for line in file:
        if not line.endswith(b"\n"):
            return  # torn, or being written at this moment
        if not line.startswith(_ANY_HEAD):
            yield offset, Decision(*orjson.loads(line))
        offset += len(line)


def _cut_torn_tail(descriptor: int) -> None:
    """Drop the bytes after the last line end: a write that the death of the process cut short was never answered."""
    size = os.fstat(descriptor).st_size
    end = size
    while end > 0:
        start = max(0, end - 65_536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)


def _write_whole(descriptor: int, data: bytes) -> None:
    """One ``write``; a short one (disk full) is taken back."""
    written = os.write(descriptor, data)
    if written != len(data):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
        raise OSError(28, "no space left for the sandbox's log")
