"""The numbers of a role between processes: each role writes ``run/metrics-<role>.json``, whoever answers a scrape reads them all.

A file is replaced in one step and not synced: after a power cut counters may begin again, which is what counters may do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mailfleet.base.gauges import Series

STALE_AFTER_S = 10.0
MAX_FILE_BYTES = 4_000_000  # some hundred times what a role writes: anything larger is not ours


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a role wrote last. ``age_s`` is how long ago it gave a sign of life."""

    role: str
    series: tuple[Series, ...]
    age_s: float

    @property
    def alive(self) -> bool:
        """Its process is there and its event loop turns."""
        return self.age_s < STALE_AFTER_S


def path_of(run_folder: Path, role: str) -> Path:
    """The file of one role."""
    return run_folder / f"metrics-{role}.json"


def write(run_folder: Path, role: str, series: Sequence[Series]) -> None:
    """Replace the file of ``role``. On a full disk the old one stays and is marked as fresh, then ``OSError`` is raised."""
    path = path_of(run_folder, role)
    fresh = path.with_suffix(".new")
    try:
        fresh.write_bytes(orjson.dumps({"role": role, "series": [tuple(one) for one in series]}))
        fresh.replace(path)
    except OSError:
        # The process is alive all the same, and this needs no room.
        if path.exists():
            os.utime(path)
        raise


def read(run_folder: Path, role: str) -> Snapshot | None:
    """What ``role`` wrote last; None when there is nothing, or nothing that can be read."""
    path = path_of(run_folder, role)
    try:
        found = path.stat()
        if found.st_size > MAX_FILE_BYTES:
            return None
        series = tuple(_series(one) for one in orjson.loads(path.read_bytes())["series"])
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return Snapshot(role, series, max(0.0, time.time() - found.st_mtime))


def _series(stored: list[Any]) -> Series:
    name, labels, value, counts, bounds = stored
    if not isinstance(value, int | float):
        raise TypeError(name)
    return Series(str(name), tuple(map(str, labels)), value, tuple(map(int, counts)), tuple(bounds))
