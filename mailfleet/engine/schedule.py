"""Claiming: looking what waits, and taking whose turn it is under lease, some hundreds in a commit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from functools import partial

import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError, CommitUnknownError
from mailfleet.base.gauges import Gauges
from mailfleet.engine import ways
from mailfleet.engine.catalog import Catalog
from mailfleet.engine.lane_edges import LaneEdges
from mailfleet.engine.lanes import Lanes, LimitsFor, WayOf
from mailfleet.engine.orders import Order, Planner, Waiting
from mailfleet.engine.settle import Settler
from mailfleet.engine.sharing import Sharing
from mailfleet.engine.take import Taker
from mailfleet.engine.warming import Warming
from mailfleet.policy.transport import TlsDemand
from mailfleet.store import queue, sites
from mailfleet.store.database import Database, Tx
from mailfleet.store.queue import Claimed

log = structlog.get_logger()

TICK_S = 0.1
GATHER_S = 0.005  # hungry lanes are waited for a little: one commit serves them all
LANE_IDLE_TICKS = 600


class Scheduler:
    """The claiming loop of one delivery process: it owns the sites whose id leaves ``slot`` when divided by ``slots``."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        settler: Settler,
        edges: LaneEdges,
        warming: Warming,
        *,
        way_of: WayOf,
        limits_for: LimitsFor,
        slot: int,
        slots: int,
        lease_id: int,
        clock: Clock,
        rng: random.Random,
        demands: Mapping[str, TlsDemand] | None = None,
    ) -> None:
        self._database, self._catalog, self._settler, self._edges = database, catalog, settler, edges
        self._warming, self._lease_id, self._clock = warming, lease_id, clock
        self._sharing = Sharing(database, slot=slot, slots=slots, clock=clock)
        self.lanes = Lanes(
            catalog,
            edges,
            self._sharing,
            way_of=way_of,
            limits_for=limits_for,
            slots=slots,
            demands=demands or {},
        )
        self._planner = Planner(catalog, self.lanes.of, rng, edges.time_scale)
        self._taker = Taker(warming, lease_id=lease_id, time_scale=edges.time_scale)
        self._providers: dict[int, str] = {}
        self._waiting = Waiting()
        self._turn = 0
        self._woken = False
        self._unsure = False  # a claim may have been committed that we do not know of
        self._stopping = False

    @property
    def held(self) -> int:
        """Claimed deliveries that wait in memory."""
        return sum(lane.held for lane in self.lanes.all)

    def watched(self, gauges: Gauges) -> None:
        """Show what is in memory."""
        lanes = self.lanes
        gauges.watch("held_deliveries", lambda: self.held)
        gauges.watch("lanes", lambda: len(lanes.all))
        gauges.watch("lanes_cooling", lambda: sum(lane.cooling for lane in lanes.all))
        gauges.watch("smtp_connections", lambda: sum(lane.open_connections for lane in lanes.all))
        gauges.watch("settlements_waiting", lambda: self._settler.waiting)

    async def run(self) -> None:
        """Scan and claim, for ever: every tick, at once when somebody woke us, and when a lane runs low."""
        self._database.on_wake(self._wake)
        due_s = may_s = 0.0
        while not self._stopping:
            now_s = self._clock.monotonic_s()
            if now_s >= due_s or (self._woken and now_s >= may_s):
                self._woken = False
                await self._scan()
                # A scan of very many sites takes its time: it never takes more than a fifth of it, or half when woken.
                end_s = self._clock.monotonic_s()
                may_s, due_s = end_s + (end_s - now_s), now_s + max(TICK_S, 5 * (end_s - now_s))
            self._edges.hungry.clear()
            more = await self._claim()
            wait_s = 0.0 if more else max(0.001, (may_s if self._woken else due_s) - self._clock.monotonic_s())
            try:
                async with asyncio.timeout(wait_s):
                    await self._edges.hungry.wait()
                if not self._woken:
                    await asyncio.sleep(GATHER_S)
            except TimeoutError:
                pass

    def _wake(self) -> None:
        """Urgent mail was accepted, or its domain located, by whatever process."""
        self._woken = True
        self._edges.gate.hurry()
        self._edges.hungry.set()

    async def stop(self, grace_s: float) -> None:
        """Claim no more, hand back what was not tried, let attempts under way end within ``grace_s``, then drop them."""
        self._stopping = True
        self._edges.hungry.set()
        await self._hand_back([claimed for lane in self.lanes.all for claimed in lane.stop()])
        try:
            async with asyncio.timeout(grace_s):
                for lane in self.lanes.all:
                    await lane.drained()
                await self._settler.drained()
        except TimeoutError:
            log.warning("stopped with attempts under way")
            for lane in self.lanes.all:
                await lane.abandon()

    async def _scan(self) -> None:
        now_ms = self._clock.now_ms()
        day, share = self._warming.day(now_ms), self._warming.share(now_ms)
        if self._turn % LANE_IDLE_TICKS == 0:
            self._providers.clear()  # a site may have another one by now
        newest = max(self._providers, default=0)

        def look(tx: Tx) -> tuple[list[queue.Backlog], dict[int, int], ways.Ways, list[tuple[int, str]]]:
            return (
                queue.backlog(tx),
                sites.shared(tx),
                ways.read(tx, day=day, share=share),
                sites.providers(tx, newest),
            )

        found, shared, seen, providers = await self._database.read(look)
        self._providers.update(providers)
        for relay in ways.without_site(seen):
            await self._database.write(partial(sites.put_relay_site, egress_id=relay.id))
        self._sharing.learn(shared, self.lanes.homes(self._providers, seen))
        await self._hand_back(self.lanes.follow(seen))
        for lane in self.lanes.all:
            lane.look()
        everybodys = self.lanes.takes_any
        self._waiting = Waiting(one for one in found if everybodys or self._sharing.ours(one.site_id))
        self._turn += 1
        waiting = self._waiting.sites
        await self._sharing.look(self.lanes.by_site, waiting)
        if self._turn % LANE_IDLE_TICKS == 0:
            self.lanes.forget_idle(waiting)
            self._planner.forget(waiting)

    async def _hand_back(self, left: list[Claimed]) -> None:
        if left:
            now_ms = self._clock.now_ms()
            await self._database.write(lambda tx: queue.hand_back(tx, left, lease_id=self._lease_id, now_ms=now_ms))

    async def _claim(self) -> bool:
        """Claim what is due for lanes that have room; true when there is more than one commit should hold."""
        if self._unsure:
            await self._hand_back_unknown()
        made = await self._orders()
        if not made:
            return False
        try:
            count, dead = await self._database.write(lambda tx: self._taker.take(tx, made, self._clock.now_ms()))
        except BusyError as error:
            self._unsure = self._unsure or isinstance(error, CommitUnknownError)
            log.error("claiming waits", reason=error.reason)
            await self._clock.sleep(1)
            return False
        for one in dead:
            self._settler.put(one)
        single = [one.content_id for order in made[:count] for one in order.claimed if not one.campaign_id]
        if single:
            await self._catalog.preload(single)
        self._planner.claimed(made[:count])
        for order in made[:count]:
            if order.emptied:
                self._waiting.emptied(order.backlog)
            if order.claimed:
                self.lanes.offer(order.lane, order.backlog.priority, order.claimed)
        return count < len(made)

    async def _hand_back_unknown(self) -> None:
        """After a claim whose commit was never heard of: what is under our lease and not in our hands goes back."""
        held = self._settler.holds()
        for lane in self.lanes.all:
            held |= lane.holds()

        def hand_back(tx: Tx) -> int:
            unknown = [one for one in queue.leased_ids(tx, self._lease_id) if one not in held]
            rows = queue.leased_by(tx, self._lease_id, unknown)
            queue.hand_back(tx, rows, lease_id=self._lease_id, now_ms=self._clock.now_ms())
            return len(rows)

        try:
            count = await self._database.write(hand_back)
        except BusyError as error:
            log.error("handing back waits", reason=error.reason)
            return
        self._unsure = False
        log.warning("a claim of unknown fate was looked after", handed_back=count)

    async def _orders(self) -> list[Order]:
        return await self._planner.orders(
            self._waiting,
            self.lanes.ways,
            self._providers,
            now_ms=self._clock.now_ms(),
            turn=self._turn,
            held=self.held,
        )
