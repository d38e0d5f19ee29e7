"""Accepted messages, each compressed by itself, one after the other in segment files ``DATA/sandbox/mail/NNNNNN.spool``.

The place of a message is its segment, offset and length, kept in the decision that accepted it. When the segments together
outgrow the bound the oldest is deleted, so mail can be read back for a while, and the log's totals stay true for ever.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

_SEGMENTS = 8  # the bound is kept in eighths: this much of it may be missing, never more
_MIN_SEGMENT_BYTES = 131_072


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message lies."""

    segment: int
    offset: int
    length: int


def spool_folder(data_dir: Path) -> Path:
    """Where the segments of this data folder lie."""
    return data_dir / "sandbox" / "mail"


class SpoolWriter:
    """Appends messages within ``keep_bytes``. One process writes."""

    def __init__(self, data_dir: Path, keep_bytes: int) -> None:
        self._folder = spool_folder(data_dir)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._segment_bytes = max(keep_bytes // _SEGMENTS, _MIN_SEGMENT_BYTES)
        self._keep_segments = max(keep_bytes // self._segment_bytes, 2)
        self._segment = max(_segments(self._folder), default=1)
        self._open()

    def append(self, message: bytes) -> Place:
        """Store one message with one ``write``. Raises ``OSError`` when the disk is full."""
        packed = zlib.compress(message, 1)
        if self._offset and self._offset + len(packed) > self._segment_bytes:
            os.close(self._descriptor)
            self._segment += 1
            self._open()
            for old in _segments(self._folder):
                if old <= self._segment - self._keep_segments:
                    _path(self._folder, old).unlink(missing_ok=True)
        place = Place(self._segment, self._offset, len(packed))
        written = os.write(self._descriptor, packed)
        self._offset += written
        if written != len(packed):
            raise OSError(28, "no space left for the sandbox's mail")
        return place

    def close(self) -> None:
        """Writes nothing."""
        os.close(self._descriptor)

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._descriptor = os.open(_path(self._folder, self._segment), flags, 0o600)
        self._offset = os.fstat(self._descriptor).st_size


class SpoolReader:
    """Reads messages back; keeps the last segment open, since neighbours lie side by side."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = spool_folder(data_dir)
        self._segment = 0
        self._descriptor = -1

    def read(self, place: Place) -> bytes | None:
        """The message, or ``None`` when it was never stored or its segment has been deleted since."""
        if not place.segment:
            return None
        if place.segment != self._segment:
            self.close()
            try:
                self._descriptor = os.open(_path(self._folder, place.segment), os.O_RDONLY)
            except FileNotFoundError:
                return None
            self._segment = place.segment
        try:
            return zlib.decompress(os.pread(self._descriptor, place.length, place.offset))
        except zlib.error:
            return None  # lost with the machine's power: neither file is synced

    def close(self) -> None:
        """Harmless when nothing is open."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._segment = -1, 0


def _segments(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.spool") if path.stem.isdigit()]


def _path(folder: Path, segment: int) -> Path:
    return folder / f"{segment:06d}.spool"
