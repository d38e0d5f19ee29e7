"""Who renders next: the lines of a process take turns, the urgent first, and never so many in a row that replies wait.

Rendering and signing is nearly all that a delivery costs, and it is done on the event loop: a thread would cost the
hand-over and gain nothing while every core has a process. So the loop is held for ``BURST`` copies at the most before it
looks at its sockets again.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

BURST = 4


class Gate:
    """One for all lines of a process."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._left = BURST
        self._armed = False  # a next burst is on its way

    async def turn(self, priority: int) -> None:
        """Wait until it is this caller's turn; lower priorities first, equal ones in order of asking."""
        if self._left and not self._waiting:
            self._left -= 1
            self._arm()
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), future))
        self._arm()
        await future

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._burst)

    def _burst(self) -> None:
        """Let the next ones go. What is called soon runs after the loop has looked at its sockets."""
        self._armed = False
        self._left = BURST
        while self._left and self._waiting:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():  # whoever waited may have been cancelled
                self._left -= 1
                future.set_result(None)
        if self._waiting:
            self._arm()
