"""Claiming: which lanes have room, whose turn it is in each, and taking those deliveries under lease in one commit."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import orjson
import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError
from mailfleet.engine.catalog import Catalog
from mailfleet.engine.lane import Lane, LaneEdges, LaneLimits
from mailfleet.engine.settle import Settled, Settler
from mailfleet.policy.lifecycle import DeliveryState, FlowState
from mailfleet.policy.turns import shares
from mailfleet.store import queue, suppressions
from mailfleet.store.database import Database, Tx
from mailfleet.store.queue import Backlog, Claimed, Settlement

log = structlog.get_logger()

TICK_S = 0.1
MAX_HELD = 20_000  # claimed deliveries in memory over all lanes; beyond it a lane gets a trickle
TRICKLE = 2
LANE_IDLE_TICKS = 600


@dataclass(slots=True)
class _Order:
    """Claims to make for one lane and flow."""

    lane: Lane
    backlog: Backlog
    limit: int
    stream: str
    emptied: bool = False
    claimed: list[Claimed] = field(default_factory=list)


class Scheduler:
    """The claiming loop of one delivery process: it owns the sites whose id leaves ``slot`` when divided by ``slots``."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        settler: Settler,
        edges: LaneEdges,
        limits_for: Callable[[str], LaneLimits],
        *,
        slot: int,
        slots: int,
        lease_id: int,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._database, self._catalog, self._settler, self._edges = database, catalog, settler, edges
        self._limits_for, self._slot, self._slots = limits_for, slot, slots
        self._lease_id, self._clock, self._rng = lease_id, clock, rng
        self._lanes: dict[int, Lane] = {}
        self._backlog: list[Backlog] = []
        self._turn = 0
        self._stopping = False

    @property
    def held(self) -> int:
        """Claimed deliveries that wait in memory."""
        return sum(lane.held for lane in self._lanes.values())

    async def run(self) -> None:
        """Scan and claim, for ever: every tick, and at once when a lane runs low."""
        next_scan_s = 0.0
        while not self._stopping:
            now_s = self._clock.monotonic_s()
            if now_s >= next_scan_s:
                await self._scan()
                # A scan of very many sites takes its time: it never takes more than a fifth of it.
                next_scan_s = now_s + max(TICK_S, 5 * (self._clock.monotonic_s() - now_s))
            self._edges.hungry.clear()
            await self._claim()
            try:
                async with asyncio.timeout(max(0.005, next_scan_s - self._clock.monotonic_s())):
                    await self._edges.hungry.wait()
                await asyncio.sleep(0.002)  # let hungry lanes gather: one commit serves them all
            except TimeoutError:
                pass

    async def stop(self, grace_s: float) -> None:
        """Claim no more, hand back what was not tried, let attempts under way end within ``grace_s``, then drop them."""
        self._stopping = True
        self._edges.hungry.set()
        left = [claimed for lane in self._lanes.values() for claimed in lane.stop()]
        if left:
            await self._database.write(
                lambda tx: queue.hand_back(tx, left, lease_id=self._lease_id, now_ms=self._clock.now_ms())
            )
        try:
            async with asyncio.timeout(grace_s):
                for lane in self._lanes.values():
                    await lane.drained()
                await self._settler.drained()
        except TimeoutError:
            log.warning("stopped with attempts under way")
            for lane in self._lanes.values():
                await lane.abandon()

    async def _scan(self) -> None:
        found = await self._database.read(queue.backlog)
        self._backlog = [one for one in found if one.site_id % self._slots == self._slot]
        self._turn += 1
        for site_id in {one.site_id for one in self._backlog} - self._lanes.keys():
            site = await self._catalog.site(site_id)
            if site is not None:
                self._lanes[site_id] = Lane(site, self._limits_for(site.provider), self._edges)
        if self._turn % LANE_IDLE_TICKS == 0:
            waiting = {one.site_id for one in self._backlog}
            for site_id in [key for key, lane in self._lanes.items() if not lane.busy and key not in waiting]:
                del self._lanes[site_id]

    async def _claim(self) -> None:
        orders = await self._orders()
        if not orders:
            return
        try:
            dead = await self._database.write(lambda tx: self._take(tx, orders))
        except BusyError as error:
            log.error("claiming waits", reason=error.reason)
            await self._clock.sleep(1)
            return
        for one in dead:
            self._settler.put(one)
        emptied = set()
        for order in orders:
            if order.emptied:
                emptied.add(order.backlog)
            if order.claimed:
                order.lane.offer(order.backlog.priority, order.claimed)
        if emptied:
            self._backlog = [one for one in self._backlog if one not in emptied]

    async def _orders(self) -> list[_Order]:
        """What to claim: for each lane with room, urgent flows first, flows of one priority in turn by weight."""
        now_ms = self._clock.now_ms()
        by_lane: dict[int, dict[int, list[Backlog]]] = defaultdict(lambda: defaultdict(list))
        for one in self._backlog:
            if one.due_ms <= now_ms:
                by_lane[one.site_id][one.priority].append(one)
        spare = MAX_HELD - self.held
        orders: list[_Order] = []
        for site_id, by_priority in self._shuffled(by_lane.items()):
            lane = self._lanes.get(site_id)
            if lane is None:
                continue
            planned = 0
            for priority in sorted(by_priority):
                room = lane.room(priority) - planned
                if spare <= 0:
                    room = min(room, TRICKLE - lane.held)
                made = await self._orders_of(lane, by_priority[priority], room)
                planned += sum(order.limit for order in made)
                orders += made
            spare -= planned
        return orders

    async def _orders_of(self, lane: Lane, waiting: list[Backlog], room: int) -> list[_Order]:
        """Share ``room`` among the flows that run; the claim itself looks again, in its transaction."""
        if room <= 0:
            return []
        by_flow: dict[int, list[Backlog]] = defaultdict(list)
        for one in waiting:
            by_flow[one.flow_id].append(one)
        found = [(ones, await self._catalog.flow(flow_id)) for flow_id, ones in by_flow.items()]
        running = [(ones, view) for ones, view in found if view is not None and view.flow.state == FlowState.ACTIVE]
        parts = shares(room, [view.flow.weight for _, view in running], self._turn)
        orders = []
        for (ones, view), part in zip(running, parts, strict=True):
            # Retries and fresh mail of a flow take turns: neither waits until the other has run out.
            halves = shares(part, [1] * len(ones), self._turn)
            orders += [_Order(lane, one, half, view.stream) for one, half in zip(ones, halves, strict=True) if half]
        return orders

    def _take(self, tx: Tx, orders: list[_Order]) -> list[Settled]:
        """Claim every order. What was suppressed since it was accepted comes back decided: it must not be tried.

        What waited past its expiry is tried once all the same: a server that was down for days loses no mail by that.
        """
        now_ms = self._clock.now_ms()
        dead: list[Settled] = []
        for order in orders:
            taken = queue.claim(tx, order.backlog, limit=order.limit, now_ms=now_ms, lease_id=self._lease_id)
            order.emptied = len(taken) < order.limit
            order.claimed = taken
            if not taken:
                continue
            keys = [one.address_key for one in taken]
            blocked = suppressions.matching(tx, taken[0].tenant_id, order.stream, keys)
            if blocked:
                order.claimed = [one for one in taken if one.address_key not in blocked]
                dead += [
                    _suppressed(one, blocked[one.address_key], now_ms) for one in taken if one.address_key in blocked
                ]
        return dead

    def _shuffled(
        self, lanes: Iterable[tuple[int, dict[int, list[Backlog]]]]
    ) -> list[tuple[int, dict[int, list[Backlog]]]]:
        shuffled = list(lanes)
        self._rng.shuffle(shuffled)
        return shuffled


def _suppressed(claimed: Claimed, why: suppressions.Suppression, now_ms: int) -> Settled:
    reason = f"{why.reason}: {why.evidence}"
    data = orjson.dumps({"reason": reason}).decode()
    return Settled(Settlement(claimed, DeliveryState.SUPPRESSED, claimed.attempts, now_ms, "", reason, data))
