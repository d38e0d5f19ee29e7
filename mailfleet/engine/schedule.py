"""Claiming: looking what waits, and taking whose turn it is under lease, some hundreds in a commit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import orjson
import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError, CommitUnknownError
from mailfleet.base.gauges import Gauges
from mailfleet.engine.catalog import Catalog
from mailfleet.engine.lane import Lane, LaneEdges, LaneLimits
from mailfleet.engine.orders import Order, Waiting
from mailfleet.engine.settle import Settled, Settler
from mailfleet.engine.sharing import Sharing
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.store import queue, sites, suppressions
from mailfleet.store.database import Database, Tx
from mailfleet.store.queue import Claimed, Settlement

log = structlog.get_logger()

TICK_S = 0.1
GATHER_S = 0.005  # hungry lanes are waited for a little: one commit serves them all
LANE_IDLE_TICKS = 600
MAX_CLAIM = 500  # deliveries of one commit: while it lasts nobody else can accept or settle
CLAIM_ORDERS = 20


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
        self._limits_for, self._lease_id, self._clock, self._rng = limits_for, lease_id, clock, rng
        self._sharing = Sharing(database, slot=slot, slots=slots, clock=clock)
        self._lanes: dict[int, Lane] = {}
        self._waiting = Waiting()
        self._turn = 0
        self._woken = False
        self._unsure = False  # a claim may have been committed that we do not know of
        self._stopping = False

    @property
    def held(self) -> int:
        """Claimed deliveries that wait in memory."""
        return sum(lane.held for lane in self._lanes.values())

    def watched(self, gauges: Gauges) -> None:
        """Show what is in memory."""
        lanes = self._lanes
        gauges.watch("held_deliveries", lambda: self.held)
        gauges.watch("lanes", lambda: len(lanes))
        gauges.watch("lanes_cooling", lambda: sum(lane.cooling for lane in lanes.values()))
        gauges.watch("smtp_connections", lambda: sum(lane.open_connections for lane in lanes.values()))
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
        found, shared = await self._database.read(lambda tx: (queue.backlog(tx), sites.shared(tx)))
        self._sharing.learn(shared)
        self._waiting = Waiting(one for one in found if self._sharing.ours(one))
        self._turn += 1
        waiting = self._waiting.sites
        for site_id in waiting - self._lanes.keys():
            site = await self._catalog.site(site_id)
            if site is not None:
                limits = self._sharing.part(site_id, self._limits_for(site.provider))
                self._lanes[site_id] = Lane(site, limits, self._edges)
        await self._sharing.look(self._lanes, waiting, lambda lane: self._limits_for(lane.site.provider))
        if self._turn % LANE_IDLE_TICKS == 0:
            for site_id in [key for key, lane in self._lanes.items() if not lane.busy and key not in waiting]:
                del self._lanes[site_id]

    async def _claim(self) -> bool:
        """Claim what is due for lanes that have room; true when there is more than one commit should hold."""
        if self._unsure:
            await self._hand_back_unknown()
        made = await self._orders()
        if not made:
            return False
        try:
            count, dead = await self._database.write(lambda tx: self._take(tx, made))
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
        for order in made[:count]:
            if order.emptied:
                self._waiting.emptied(order.backlog)
            if order.claimed:
                order.lane.offer(order.backlog.priority, order.claimed)
        return count < len(made)

    async def _hand_back_unknown(self) -> None:
        """After a claim whose commit was never heard of: what is under our lease and not in our hands goes back."""
        held = self._settler.holds()
        for lane in self._lanes.values():
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
        return await self._waiting.orders(
            self._lanes,
            self._catalog,
            now_ms=self._clock.now_ms(),
            turn=self._turn,
            held=self.held,
            rng=self._rng,
        )

    def _take(self, tx: Tx, made: list[Order]) -> tuple[int, list[Settled]]:
        """Claim, order by order, until it is enough for one commit; returns how many orders that were.

        What was suppressed since it was accepted comes back decided: it must not be tried. What waited past its expiry is
        tried once all the same: a server that was down for days loses no mail by that.
        """
        now_ms = self._clock.now_ms()
        dead: list[Settled] = []
        count = claimed = 0
        while count < len(made) and claimed < MAX_CLAIM:
            some = made[count : count + CLAIM_ORDERS]
            count += len(some)
            wanted = [(order.backlog, order.limit) for order in some]
            found = queue.claim_many(tx, wanted, now_ms=now_ms, lease_id=self._lease_id)
            for order, taken in zip(some, found, strict=True):
                order.emptied = len(taken) < order.limit
                order.claimed = taken
                claimed += len(taken)
                if taken:
                    dead += self._without_suppressed(tx, order, now_ms)
        return count, dead

    @staticmethod
    def _without_suppressed(tx: Tx, order: Order, now_ms: int) -> list[Settled]:
        taken = order.claimed
        blocked = suppressions.matching(tx, taken[0].tenant_id, order.stream, [one.address_key for one in taken])
        if not blocked:
            return []
        order.claimed = [one for one in taken if one.address_key not in blocked]
        return [_suppressed(one, blocked[one.address_key], now_ms) for one in taken if one.address_key in blocked]


def _suppressed(claimed: Claimed, why: suppressions.Suppression, now_ms: int) -> Settled:
    reason = f"{why.reason}: {why.evidence}"
    data = orjson.dumps({"reason": reason}).decode()
    return Settled(Settlement(claimed, DeliveryState.SUPPRESSED, claimed.attempts, now_ms, "", reason, data))
