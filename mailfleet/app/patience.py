"""Work of a role that a full or failing disk holds up: it waits for better times where it stands, for to crash helps nobody."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from mailfleet.base.errors import BusyError

T = TypeVar("T")
AGAIN_AFTER_S = 1.0
_PASSES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})

log = structlog.get_logger()


async def patiently(name: str, work: Callable[[], Awaitable[T]]) -> T:
    """The result of ``work``, which is begun anew every ``AGAIN_AFTER_S`` while disk, database or descriptors do not let it.

    ``work`` must stand being broken off at any await. Whatever else it raises comes out.
    """
    while True:
        try:
            return await work()
        except (BusyError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _PASSES:
                raise
            log.error(f"{name} waits", reason=str(error))
        await asyncio.sleep(AGAIN_AFTER_S)


async def unless_stopped(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The result of ``work``, or None when ``stop`` is set first; ``work`` is cancelled then."""
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.wait({working})
    return None
