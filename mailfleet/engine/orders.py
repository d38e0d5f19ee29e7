"""What a delivery process claims next: which lanes have room, and whose turn it is in each. The claim itself looks again."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mailfleet.engine.catalog import Catalog
from mailfleet.engine.lane import Lane
from mailfleet.policy.lifecycle import FlowState
from mailfleet.policy.turns import shares, shares_by_tenant
from mailfleet.store.queue import Backlog, Claimed

MAX_HELD = 20_000  # claimed deliveries in memory over all lanes; beyond it a lane gets a trickle
TRICKLE = 2
MAX_PLANNED = 2000  # orders of one round ask for no more than this: with ten thousand sites a round stays short


@dataclass(slots=True)
class Order:
    """Claims to make for one lane and flow."""

    lane: Lane
    backlog: Backlog
    limit: int
    stream: str
    emptied: bool = False
    claimed: list[Claimed] = field(default_factory=list)


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

    async def orders(
        self,
        lanes: Mapping[int, Lane],
        catalog: Catalog,
        *,
        now_ms: int,
        turn: int,
        held: int,
        rng: random.Random,
    ) -> list[Order]:
        """What to claim now: the urgent of all lanes first, lanes of one priority in no fixed order."""
        spare = min(MAX_HELD - held, MAX_PLANNED)
        made: list[Order] = []
        planned: dict[int, int] = defaultdict(int)
        for priority in sorted(self._by_priority):
            by_site = self._by_priority[priority]
            sites = list(by_site)
            rng.shuffle(sites)
            for site_id in sites:
                lane = lanes.get(site_id)
                due = [one for one in by_site[site_id] if one.due_ms <= now_ms]
                if lane is None or not due:
                    continue
                room = lane.room(priority) - planned[site_id]
                if held >= MAX_HELD:
                    room = min(room, TRICKLE - lane.held)
                if room <= 0:
                    continue
                some = await _orders_of(lane, sorted(due), room, catalog, turn)
                planned[site_id] += sum(order.limit for order in some)
                spare -= sum(order.limit for order in some)
                made += some
                if spare <= 0 and held < MAX_HELD:
                    return made
        return made


async def _orders_of(lane: Lane, waiting: list[Backlog], room: int, catalog: Catalog, turn: int) -> list[Order]:
    """Share ``room`` among the flows that run: tenants in turn, their flows by weight."""
    by_flow: dict[int, list[Backlog]] = defaultdict(list)
    for one in waiting:
        by_flow[one.flow_id].append(one)
    found = [(ones, await catalog.flow(flow_id)) for flow_id, ones in by_flow.items()]
    running = [(ones, view) for ones, view in found if view is not None and view.flow.state == FlowState.ACTIVE]
    parts = shares_by_tenant(room, [(view.flow.tenant_id, view.flow.weight) for _, view in running], turn)
    made = []
    for (ones, view), part in zip(running, parts, strict=True):
        # Retries and fresh mail of a flow take turns: neither waits until the other has run out.
        halves = shares(part, [1] * len(ones), turn)
        made += [Order(lane, one, half, view.stream) for one, half in zip(ones, halves, strict=True) if half]
    return made
