"""The outcome journal of one delivery process: what the remote took, written down before anything is settled.

One ``write`` per line and no sync: it survives the death of the process, which is what it is for, not the loss of power.
Lines are ``S <delivery>`` when a message goes on the wire and ``D <delivery> <reply>`` when its 2yz was read. A segment
is removed once everything in it is settled. Its room on the disk is reserved when it is made, so that a disk that fills up
in the middle of a message costs no ``D``. Reading is tolerant of torn lines.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from dataclasses import dataclass, field
from pathlib import Path

import structlog

log = structlog.get_logger()

MAX_SEGMENT_BYTES = 4_000_000
_KEEP_SIZE = 1  # linux/falloc.h FALLOC_FL_KEEP_SIZE
_LIBC = ctypes.CDLL(None)


@dataclass(slots=True)
class _Segment:
    path: Path
    descriptor: int
    size: int = 0
    open_entries: int = 0
    closed: bool = False
    torn: bool = False  # its last line has no end


@dataclass(frozen=True, slots=True)
class Replay:
    """What an earlier run left behind: deliveries the remote took, with its reply, and those that were on the wire."""

    accepted: dict[int, str] = field(default_factory=dict)
    on_wire: frozenset[int] = frozenset()
    segments: tuple[Path, ...] = ()


class Journal:
    """Appends for one run of slot ``slot``; files are ``journal-<slot>-<lease>-<n>`` in ``folder``."""

    def __init__(self, folder: Path, slot: int, lease_id: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._stem = folder / f"journal-{slot}-{lease_id}"
        self._count = 0
        self._segment = self._new_segment()
        self._where: dict[int, _Segment] = {}

    def started(self, delivery_id: int) -> None:
        """The message goes on the wire. Raises ``OSError`` when that cannot be written down: then it must not go."""
        self._write(delivery_id, f"S {delivery_id}\n")

    def accepted(self, delivery_id: int, reply: str) -> None:
        """The remote said 2yz to the message. Called from where the bytes were read, before anything else.

        Never raises: on a full disk the outcome is in memory still, and giving it up would send the message twice.
        """
        try:
            self._write(delivery_id, f"D {delivery_id} {reply.replace(chr(10), ' ')[:500]}\n")
        except OSError as error:
            log.error("cannot write the journal", delivery=delivery_id, reason=error.strerror)

    def settled(self, delivery_ids: list[int]) -> None:
        """These are committed in the database and need no journal any more."""
        for delivery_id in delivery_ids:
            segment = self._where.pop(delivery_id, None)
            if segment is not None:
                with contextlib.suppress(OSError):  # what stays of it is replayed without effect
                    self._release(segment)

    def close(self) -> None:
        """End this run; what is not settled stays for the next one to replay."""
        os.close(self._segment.descriptor)
        self._segment.closed = True
        if not self._segment.open_entries:
            with contextlib.suppress(OSError):  # a disk that failed; what it says is settled
                self._segment.path.unlink(missing_ok=True)

    def _write(self, delivery_id: int, line: str) -> None:
        if self._segment.size > MAX_SEGMENT_BYTES:
            self._next_segment()
        segment = self._segment
        before = self._where.get(delivery_id)
        if before is not segment:
            segment.open_entries += 1
            self._where[delivery_id] = segment
        data = (f"\n{line}" if segment.torn else line).encode()
        written = os.write(segment.descriptor, data)
        segment.size += written
        segment.torn = written < len(data)
        if segment.torn:  # the disk filled up within the line
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if before is not None and before is not segment:
            self._release(before)

    def _next_segment(self) -> None:
        try:
            fresh = self._new_segment()
        except OSError:  # no room for another file: this one may have some
            return
        full, self._segment = self._segment, fresh
        os.close(full.descriptor)
        full.closed = True
        if not full.open_entries:
            full.path.unlink(missing_ok=True)

    def _release(self, segment: _Segment) -> None:
        segment.open_entries -= 1
        if segment.open_entries:
            return
        if segment.closed:
            segment.path.unlink(missing_ok=True)
        elif segment.size > MAX_SEGMENT_BYTES // 16:
            os.ftruncate(segment.descriptor, 0)
            segment.size, segment.torn = 0, False
            _reserve(segment.descriptor)

    def _new_segment(self) -> _Segment:
        self._count += 1
        path = self._stem.with_name(f"{self._stem.name}-{self._count}")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
        _reserve(descriptor)
        return _Segment(path, descriptor)


def _reserve(descriptor: int) -> None:
    """Have the disk keep room for a whole segment and its last line, where it can; its size stays what was written."""
    size_bytes = ctypes.c_int64(MAX_SEGMENT_BYTES + 4096)
    _LIBC.fallocate(descriptor, _KEEP_SIZE, ctypes.c_int64(0), size_bytes)


def replay(folder: Path, slot: int, lease_id: int) -> Replay:
    """Read what the run ``lease_id`` of ``slot`` left behind, oldest segment first."""
    accepted: dict[int, str] = {}
    on_wire: set[int] = set()
    segments = sorted(folder.glob(f"journal-{slot}-{lease_id}-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
    for path in segments:
        for line in path.read_bytes().split(b"\n")[:-1]:  # what has no line end is torn
            mark, _, rest = line.partition(b" ")
            number, _, reply = rest.partition(b" ")
            if not number.isdigit() or len(number) > 19 or int(number) >> 63:
                continue
            if mark == b"D":
                accepted[int(number)] = reply.decode("utf-8", "replace")
                on_wire.discard(int(number))
            elif mark == b"S":
                on_wire.add(int(number))
    return Replay(accepted, frozenset(on_wire), tuple(segments))
