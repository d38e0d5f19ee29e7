"""Who renders next: the lines of a process take turns, the urgent first, and never so many in a row that replies wait.

Rendering and signing is nearly all that a delivery costs, and it is done on the event loop: a thread would cost the
hand-over and gain nothing while every core has a process. So the loop is held for ``BURST`` copies at the most, some tens of
milliseconds, before it looks at its sockets again. Looking often is expensive, as every look lets go of Python's lock; it is
done while urgent mail is on its way.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Protocol

from mailfleet.store.tenants import URGENT

BURST, URGENT_BURST = 128, 2
HURRY_S = 0.25  # how long after the last sign of urgent mail


class Caller(Protocol):
    """Who asks for a turn."""

    def granted(self) -> bool:
        """It is the caller's turn; false when it does not want it any more."""
        ...


class Gate:
    """One for all lines of a process."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, Caller]] = []
        self._order = itertools.count()
        self._left = BURST
        self._armed = False  # a next burst is on its way
        self._hurry_until_s = 0.0

    def ask(self, caller: Caller, priority: int) -> None:
        """``caller.granted`` is called when it is its turn, perhaps at once; lower priorities first, equal ones in order of asking.

        Whoever asks again with another priority is granted by whichever comes first, and then no more.
        """
        if priority <= URGENT:
            self.hurry()
        if self._left and not self._waiting and caller.granted():
            self._left -= 1
        else:
            heapq.heappush(self._waiting, (priority, next(self._order), caller))
        self._arm()

    def hurry(self) -> None:
        """Urgent mail is on its way: look at the sockets often for a while."""
        self._hurry_until_s = asyncio.get_running_loop().time() + HURRY_S
        self._left = min(self._left, URGENT_BURST)

    def _arm(self) -> None:
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_soon(self._burst)

    def _burst(self) -> None:
        """Let the next ones go. What is called soon runs after the loop has looked at its sockets."""
        self._armed = False
        hurry = asyncio.get_running_loop().time() < self._hurry_until_s
        self._left = URGENT_BURST if hurry else BURST
        while self._left and self._waiting:
            if heapq.heappop(self._waiting)[2].granted():
                self._left -= 1
        if self._waiting:
            self._arm()
