"""Who waits for work is called as there is some: as many as can have a piece of it, those first who waited longest."""

from __future__ import annotations

import asyncio
from collections import deque


class Waiters:
    """For one event loop. Whoever was called takes something, or calls another in its place."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        """How many wait, called ones left out; some may be about to go."""
        return len(self._waiting)

    async def wait(self) -> None:
        """Until called. One that is cancelled just then passes the call on."""
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(called)
        try:
            await called
        except asyncio.CancelledError:
            if not called.cancelled():
                self.call(1)
            elif called in self._waiting:
                self._waiting.remove(called)
            raise

    def call(self, count: int) -> None:
        """Call so many, if there are as many."""
        while count > 0 and self._waiting:
            called = self._waiting.popleft()
            if not called.done():  # or whoever waited is about to go
                called.set_result(None)
                count -= 1

    def call_all(self) -> None:
        """Call everybody."""
        self.call(len(self._waiting))
