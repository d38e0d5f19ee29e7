"""File descriptors of a delivery process: who is about to open a connection or ask DNS waits here while they run out.

Having none is nobody's fault but ours. As an error of ``connect`` or of a name server's socket it would look like the
site's, cost an attempt and slow the lane down; and what the database wants to open next would fail too.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import AsyncIterator

import structlog

from mailfleet.base.clock import Clock

log = structlog.get_logger()

HEADROOM = 12  # kept for the database, the journal and logs
AGAIN_AFTER_S = 0.5
SAY_EVERY_S = 60.0


class Descriptors:
    """Those of this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._say_again_s = 0.0
        self._granted = 0  # to those who have not opened theirs yet, or have closed it again

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Within, one descriptor may be opened and need not be closed. Waits until there is one."""
        while (limit := _limit()) <= _lowest_free() + self._granted + HEADROOM:
            self._say(limit)
            await self._clock.sleep(AGAIN_AFTER_S)
        self._granted += 1
        try:
            yield
        finally:
            self._granted -= 1

    def _say(self, limit: int) -> None:
        """Once in a while, however many wait."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._say_again_s:
            self._say_again_s = now_s + SAY_EVERY_S
            log.error("file descriptors run out: connections wait", limit=limit, mend="raise the limit of open files")


def _limit() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft


def _lowest_free() -> int:
    """The number that the kernel would give next: it gives the lowest."""
    try:
        found = os.dup(0)
    except OSError:
        return 1 << 30
    os.close(found)
    return found
