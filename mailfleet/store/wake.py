"""Waking other processes beside the embedded database: each listener has a FIFO next to the file, a writer puts a byte into all.

A hint and nothing more. Neither side ever waits; a FIFO that nobody reads any more is removed by whoever finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

_count = itertools.count()


class Listener:
    """One FIFO, read on the event loop that made it."""

    def __init__(self, database: Path, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._path = database.with_name(f"{database.name}.wake-{os.getpid()}-{next(_count)}")
        hidden = self._path.with_name(f".{self._path.name}")  # until it is read: a writer would take it for a stale one
        hidden.unlink(missing_ok=True)
        os.mkfifo(hidden, 0o600)
        # For reading and writing, so that it never ends when the last writer closes it.
        self._descriptor = os.open(hidden, os.O_RDWR | os.O_NONBLOCK)
        hidden.rename(self._path)
        self._loop.add_reader(self._descriptor, self._readable)

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, 65_536)
        self._callback()

    def close(self) -> None:
        """Listen no more."""
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)


def wake_all(database: Path) -> None:
    """Wake every listener of this database."""
    prefix = f"{database.name}.wake-"
    with os.scandir(database.parent) as found:
        names = [entry.name for entry in found if entry.name.startswith(prefix)]
    for name in names:
        with contextlib.suppress(OSError):  # a hint: whatever is wrong with it may stay so
            _wake(database.with_name(name))


def _wake(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # its reader was killed
            path.unlink(missing_ok=True)
        return
    try:
        os.write(descriptor, b"!")  # when it is full its reader is about to be woken anyway
    finally:
        os.close(descriptor)
