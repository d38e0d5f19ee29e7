"""Splitting a lane that one process cannot keep up with over all delivery processes of the node, and taking part in such lanes.

The owner keeps to its part first, and only when it does are the others told, so at no instant is there one connection too many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from mailfleet.base.clock import Clock
from mailfleet.engine.lane import Lane
from mailfleet.engine.limits import LaneLimits
from mailfleet.policy.rates import Rate, part
from mailfleet.policy.sharing import WINDOW_S, Load, part_of, place_of, wants_help
from mailfleet.store import sites
from mailfleet.store.database import Database

log = structlog.get_logger()


class Sharing:
    """Of one delivery process, ``slot`` of ``slots``. ``cpu_s`` tells how much processor time it has used so far, in seconds."""

    def __init__(
        self, database: Database, *, slot: int, slots: int, clock: Clock, cpu_s: Callable[[], float] = time.process_time
    ) -> None:
        self._database, self._slot, self._slots, self._clock, self._cpu_s = database, slot, slots, clock, cpu_s
        self._shared: dict[int, int] = {}
        self._homes: dict[int, int] = {}
        self._from = (clock.monotonic_s(), cpu_s())
        self._settled: dict[int, int] = {}
        self._shrinking: set[int] = set()

    def learn(self, shared: dict[int, int], homes: dict[int, int]) -> None:
        """Which sites are shared, as the database has it, and which must stay together: ``homes`` has the slot of each."""
        self._shared = {site_id: parts for site_id, parts in shared.items() if site_id not in homes}
        self._homes = homes

    def ours(self, site_id: int) -> bool:
        """Whether this process delivers to a site."""
        return self.owns(site_id) or self._shared.get(site_id, 1) > 1

    @property
    def state(self) -> tuple[dict[int, int], dict[int, int], set[int]]:
        """What parts depend on: who shares, what stays together, and what is about to be shared."""
        return self._shared.copy(), self._homes.copy(), self._shrinking.copy()

    def owns(self, site_id: int) -> bool:
        """Whether a site is this process's own."""
        return self._homes.get(site_id, site_id % self._slots) == self._slot

    def part(self, site_id: int, limits: LaneLimits) -> LaneLimits:
        """The limits that this process keeps to."""
        if self._shared.get(site_id, 1) == 1 and site_id not in self._shrinking:
            return limits
        return self.split(site_id, limits)

    def split(self, site_id: int, limits: LaneLimits) -> LaneLimits:
        """This process's part of what all of them share."""
        connections, rates = self.portion(site_id, limits.connections, limits.rates)
        return replace(limits, connections=connections, rates=rates)

    def portion(self, key: int, connections: int, rates: Sequence[Rate]) -> tuple[int, tuple[Rate, ...]]:
        """This process's part of limits that all keep together; ``key`` decides who has what cannot be divided."""
        place = place_of(self._slot, key, self._slots)
        return part_of(connections, self._slots, place), part(rates, self._slots, place)

    async def look(self, lanes_by_site: Callable[[], dict[int, list[Lane]]], waiting: set[int]) -> None:
        """Once a window: is there a lane that this process cannot keep up with? ``waiting``: sites with more to claim."""
        for site_id in list(self._shrinking):
            await self._tell(site_id, lanes_by_site().get(site_id, []))
        now_s, cpu_s = self._clock.monotonic_s(), self._cpu_s()
        if now_s - self._from[0] < WINDOW_S:
            return
        lanes = lanes_by_site()
        counts = {site_id: sum(lane.settled for lane in some) for site_id, some in lanes.items()}
        gained = {site_id: count - self._settled.get(site_id, 0) for site_id, count in counts.items()}
        settled, wall_s, used_s = sum(gained.values()), now_s - self._from[0], cpu_s - self._from[1]
        self._from, self._settled = (now_s, cpu_s), counts
        for site_id, some in lanes.items():
            if (
                not self.owns(site_id)
                or site_id in self._homes
                or site_id in self._shared
                or site_id in self._shrinking
            ):
                continue
            load = Load(used_s, wall_s, settled, gained[site_id])
            connections = min(lane.limits.connections for lane in some)
            if wants_help(load, connections=connections, waiting=site_id in waiting, slots=self._slots):
                self._shrinking.add(site_id)
                for lane in some:
                    lane.keep_to(self.split(site_id, lane.limits), lane.permille)

    async def _tell(self, site_id: int, lanes: list[Lane]) -> None:
        """Let the others in, as soon as this process keeps to its part."""
        for lane in lanes:
            together = sum(one.open_connections for one in (lane, *lane.beside.values()))
            if together > lane.limits.connections:
                return
        await self._database.write(lambda tx: sites.set_shares(tx, site_id, self._slots))
        self._shrinking.discard(site_id)
        self._shared[site_id] = self._slots
        log.info("a site is too much for one process: all take part", site=lanes[0].site.key if lanes else site_id)
