"""What a delivery process claims next: which lanes have room, and whose turn it is in each. The claim itself looks again."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from mailfleet.engine.catalog import Catalog, FlowView
from mailfleet.engine.lane import Lane
from mailfleet.engine.ways import Ways
from mailfleet.policy.egress import FRESH, Weights, may_take
from mailfleet.policy.lifecycle import FlowState
from mailfleet.policy.turns import shares, shares_by_tenant
from mailfleet.store.queue import Backlog, Claimed

MAX_HELD = 20_000  # claimed deliveries in memory over all lanes; beyond it a lane gets a trickle
TRICKLE = 2
MAX_PLANNED = 2000  # orders of one round ask for no more than this: with ten thousand sites a round stays short

Place = tuple[int, int]
"""``(pool_id, site_id)``: where the members of a pool take turns."""


@dataclass(slots=True)
class Order:
    """Claims to make for one lane and flow."""

    lane: Lane
    backlog: Backlog
    limit: int
    view: FlowView
    provider: str
    place: Place
    emptied: bool = False
    claimed: list[Claimed] = field(default_factory=list)


LaneOf = Callable[[int, int], Awaitable[Lane | None]]
"""The lane by which a way out serves a recipients' site; None where another process does."""


@dataclass(slots=True)
class _Group:
    """Backlogs of one site that leave through one pool, and the lanes that could take them."""

    place: Place
    provider: str
    members: dict[int, int]
    lanes: dict[int, Lane]
    waiting: list[tuple[Backlog, FlowView]]


class Waiting:
    """What waits for the lanes of this process, as the last scan found it, less what was claimed since."""

    def __init__(self, found: Iterable[Backlog] = ()) -> None:
        self._by_priority: dict[int, dict[int, set[Backlog]]] = defaultdict(lambda: defaultdict(set))
        for one in found:
            self._by_priority[one.priority][one.site_id].add(one)

    @property
    def sites(self) -> set[int]:
        """Sites for which something waits."""
        return {site_id for by_site in self._by_priority.values() for site_id in by_site}

    def emptied(self, one: Backlog) -> None:
        """Nothing due is left of it until the next scan."""
        by_site = self._by_priority[one.priority]
        by_site[one.site_id].discard(one)
        if not by_site[one.site_id]:
            del by_site[one.site_id]

    def due(self, priority: int, site_id: int, now_ms: int) -> list[Backlog]:
        """What may leave now."""
        return sorted(one for one in self._by_priority[priority][site_id] if one.due_ms <= now_ms)

    @property
    def priorities(self) -> list[int]:
        """The urgent first."""
        return sorted(self._by_priority)

    def sites_of(self, priority: int) -> list[int]:
        """Sites for which something of this priority waits."""
        return list(self._by_priority[priority])


class Planner:
    """Makes the orders of one delivery process."""

    def __init__(self, catalog: Catalog, lane_of: LaneOf, rng: random.Random, time_scale: float) -> None:
        self._catalog, self._lane_of, self._rng, self._time_scale = catalog, lane_of, rng, time_scale
        self._weights: dict[Place, Weights] = {}

    async def orders(
        self, waiting: Waiting, ways: Ways, providers: dict[int, str], *, now_ms: int, turn: int, held: int
    ) -> list[Order]:
        """What to claim now: the urgent of all lanes first, sites of one priority in no fixed order."""
        spare = min(MAX_HELD - held, MAX_PLANNED)
        made: list[Order] = []
        planned: dict[Lane, int] = defaultdict(int)
        for priority in waiting.priorities:
            site_ids = waiting.sites_of(priority)
            self._rng.shuffle(site_ids)
            for site_id in site_ids:
                due = waiting.due(priority, site_id, now_ms)
                if not due:
                    continue
                provider = providers.get(site_id, "")
                for group in await self._groups(due, ways, provider, site_id, now_ms):
                    some = self._of_group(group, priority, turn, planned, trickle=held >= MAX_HELD)
                    for order in some:
                        planned[order.lane] += order.limit
                        spare -= order.limit
                    made += some
                if spare <= 0 and held < MAX_HELD:
                    return made
        return made

    def claimed(self, orders: Iterable[Order]) -> None:
        """Remember who had how much, so that over time each way out has its share."""
        taken: dict[Place, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for order in orders:
            taken[order.place][order.lane.way.egress_id] += len(order.claimed)
        for place, counts in taken.items():
            if place in self._weights:
                self._weights[place].claimed(counts)

    def forget(self, sites: set[int]) -> None:
        """Sites that nothing waits for."""
        for place in [place for place in self._weights if place[1] not in sites]:
            del self._weights[place]

    async def _groups(self, due: list[Backlog], ways: Ways, provider: str, site_id: int, now_ms: int) -> list[_Group]:
        """Those that run, by the pool they leave through."""
        groups: dict[int, _Group] = {}
        for one in due:
            view = await self._catalog.flow(one.flow_id)
            if view is None or view.flow.state != FlowState.ACTIVE:
                continue
            pool_id, members = ways.choices(view, provider, site_id)
            group = groups.get(pool_id)
            if group is None:
                lanes = {}
                for egress_id in members:
                    lane = await self._lane_of(egress_id, site_id)
                    if lane is not None:
                        lane.others = len(members) > 1
                        lanes[egress_id] = lane
                group = groups[pool_id] = _Group((pool_id, site_id), provider, members, lanes, [])
            if ways.flow_may_go(view, 0, provider, site_id, now_ms, self._time_scale):
                group.waiting.append((one, view))
        return [group for group in groups.values() if group.lanes and group.waiting]

    def _of_group(
        self, group: _Group, priority: int, turn: int, planned: dict[Lane, int], *, trickle: bool
    ) -> list[Order]:
        room = {}
        for egress_id, lane in group.lanes.items():
            room[egress_id] = lane.room(priority) - planned[lane]
            if trickle:
                room[egress_id] = min(room[egress_id], TRICKLE - lane.held)
        room = {one: max(0, places) for one, places in room.items()}
        limits = room
        if len(group.lanes) > 1:
            weights = self._weights.setdefault(group.place, Weights())
            full = {one: lane.full for one, lane in group.lanes.items()}
            limits = weights.limits(room, group.members, full)
        made: list[Order] = []
        for egress_id, limit in limits.items():
            if limit > 0:
                made += _of_lane(group, egress_id, limit, turn)
        return made


def _of_lane(group: _Group, egress_id: int, room: int, turn: int) -> list[Order]:
    """Share ``room`` among the flows that run: tenants in turn, their flows by weight."""
    by_flow: dict[int, list[Backlog]] = defaultdict(list)
    views: dict[int, FlowView] = {}
    for one, view in group.waiting:
        if one.way == FRESH or may_take(one.way, egress_id, group.members):
            by_flow[one.flow_id].append(one)
            views[one.flow_id] = view
    flows = [views[flow_id].flow for flow_id in by_flow]
    parts = shares_by_tenant(room, [(flow.tenant_id, flow.weight) for flow in flows], turn)
    made = []
    for (flow_id, ones), part in zip(by_flow.items(), parts, strict=True):
        # Retries and fresh mail of a flow take turns: neither waits until the other has run out.
        halves = shares(part, [1] * len(ones), turn)
        made += [
            Order(group.lanes[egress_id], one, half, views[flow_id], group.provider, group.place)
            for one, half in zip(ones, halves, strict=True)
            if half
        ]
    return made
