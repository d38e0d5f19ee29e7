"""What one way out keeps to towards a provider as a whole, over all its sites: connections at a time and rates.

Some providers have thousands of sites (each customer of Microsoft 365 is one) behind the same machines. Lanes that come too late wait
in line here; lanes with connections to spare give way to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from mailfleet.policy.rates import SHORTEST_MS, Pace, Rate


class Member(Protocol):
    """A lane under the ceiling."""

    def wake(self) -> None:
        """There may be room again."""

    def make_room(self) -> None:
        """Somebody else waits for a connection: what is idle is to go."""


class Ceiling:
    """Of one way out, one provider and one process. ``connections`` 0: any number. ``now_ms``: a clock that never goes back."""

    def __init__(self, now_ms: Callable[[], float]) -> None:
        self._now_ms = now_ms
        self._connections = 0
        self._open = 0
        self._pace = Pace((), now_ms())
        self._members: dict[Member, int] = {}  # with the connections each has
        self._for_connection: dict[Member, None] = {}
        self._for_pace: dict[Member, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def rates(self) -> tuple[Rate, ...]:
        """What it keeps to at present."""
        return self._pace.rates

    def keep_to(self, connections: int, rates: Sequence[Rate]) -> None:
        """From now on; connections beyond it close as they become idle."""
        self._connections = connections
        if tuple(rates) != self._pace.rates:
            self._pace = self._pace.like(rates, self._now_ms())
        self._call()

    def joined(self, lane: Member, connections: int, pace: Pace) -> None:
        """A lane that was not under it counts from now on, with what it has open and what it took lately."""
        if connections:
            self._open += connections
            self._members[lane] = self._members.get(lane, 0) + connections
        self._pace = pace.like(pace.rates, self._now_ms())

    def opens(self, lane: Member) -> bool:
        """Whether the lane may have one more connection now, which is then counted; if not, it is woken when it may."""
        if not self._connections or self._open < self._connections:
            self._open += 1
            self._members[lane] = self._members.get(lane, 0) + 1
            self._for_connection.pop(lane, None)
            return True
        self._for_connection.setdefault(lane)
        for other in [one for one in self._members if one is not lane]:
            other.make_room()
        return False

    def closed(self, lane: Member) -> None:
        """A connection of the lane is gone."""
        self._open -= 1
        self._members[lane] -= 1
        if not self._members[lane]:
            del self._members[lane]
        self._call()

    def wanted(self, lane: Member) -> bool:
        """Whether a connection of this lane is waited for by another."""
        if not self._for_connection or not self._connections:
            return False
        return self._open > self._connections or len(self._for_connection) > (lane in self._for_connection)

    def in_pace(self, lane: Member) -> bool:
        """Whether the rates let one more leave now; if not, the lane is woken when it is its turn."""
        wait_ms = self._pace.wait_ms(self._now_ms()) if self._pace.rates else 0
        if wait_ms <= 0:
            return True
        self._for_pace.setdefault(lane)
        self._wait(wait_ms)
        return False

    def took(self) -> None:
        """A message begins."""
        self._pace.take(self._now_ms())

    def done(self) -> None:
        """A message is over, whatever came of it."""
        self._pace.done(self._now_ms())

    def _call(self) -> None:
        """Those who waited longest first; each that still wants more than there is goes to the end of the line."""
        while self._for_connection and (not self._connections or self._open < self._connections):
            lane = next(iter(self._for_connection))
            del self._for_connection[lane]
            lane.wake()

    def _wait(self, wait_ms: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self._next_may_go)

    def _next_may_go(self) -> None:
        """As many lanes as there may be messages: not all of a thousand for one place."""
        self._timer = None
        together = min((max(1, int(SHORTEST_MS / rate.gap_ms)) for rate in self._pace.rates), default=1)
        for lane in list(self._for_pace)[:together]:
            del self._for_pace[lane]
            lane.wake()
        if self._for_pace:
            self._wait(max(SHORTEST_MS, self._pace.wait_ms(self._now_ms())))


class Ceilings:
    """All that a lane is under: none for most lanes, and then asking costs next to nothing."""

    def __init__(self, *over: Ceiling) -> None:
        self._over = over

    def add(self, ceiling: Ceiling) -> None:
        """One more from now on."""
        self._over = (*self._over, ceiling)

    @property
    def all(self) -> tuple[Ceiling, ...]:
        """Each of them."""
        return self._over

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Of all."""
        return tuple(rate for one in self._over for rate in one.rates)

    def opens(self, lane: Member) -> bool:
        """Whether the lane may have one more connection now, which is then counted under each."""
        for place, one in enumerate(self._over):
            if not one.opens(lane):
                for counted in self._over[:place]:
                    counted.closed(lane)
                return False
        return True

    def closed(self, lane: Member) -> None:
        """A connection of the lane is gone."""
        for one in self._over:
            one.closed(lane)

    def wanted(self, lane: Member) -> bool:
        """Whether a connection of this lane is waited for by another."""
        return bool(self._over) and any(one.wanted(lane) for one in self._over)

    def in_pace(self, lane: Member) -> bool:
        """Whether the rates let one more leave now; if not, the lane is woken when it is its turn."""
        return not self._over or all(one.in_pace(lane) for one in self._over)

    def took(self) -> None:
        """A message begins."""
        for one in self._over:
            one.took()

    def done(self) -> None:
        """A message is over, whatever came of it."""
        for one in self._over:
            one.done()
