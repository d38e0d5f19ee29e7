"""One commit of claims: within what warm-up and rates leave, without what was suppressed meanwhile."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import orjson

from mailfleet.engine.orders import Order
from mailfleet.engine.settle import Settled
from mailfleet.engine.warming import Warming
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.policy.rates import Rate
from mailfleet.store import allowances, queue, suppressions, warmups
from mailfleet.store.allowances import Allowance
from mailfleet.store.database import Tx
from mailfleet.store.queue import Claimed, Settlement

MAX_CLAIM = 500  # deliveries of one commit: while it lasts nobody else can accept or settle
CLAIM_ORDERS = 20


class Taken(NamedTuple):
    """How many of the orders had their turn, and what was claimed but must not be tried."""

    served: int
    dead: list[Settled]


class Taker:
    """Claims for one delivery process."""

    def __init__(self, warming: Warming, *, lease_id: int, time_scale: float) -> None:
        self._warming, self._lease_id, self._time_scale = warming, lease_id, time_scale

    def take(self, tx: Tx, made: list[Order], now_ms: int) -> Taken:
        """Claim, order by order, until it is enough for one commit.

        What was suppressed since it was accepted comes back decided: it must not be tried. What waited past its expiry is
        tried once all the same: a server that was down for days loses no mail by that.
        """
        dead: list[Settled] = []
        count = claimed = 0
        while count < len(made) and claimed < MAX_CLAIM:
            some = made[count : count + CLAIM_ORDERS]
            count += len(some)
            self._take_some(tx, some, now_ms)
            for order in some:
                claimed += len(order.claimed)
                if order.claimed:
                    dead += _without_suppressed(tx, order, now_ms)
        return Taken(count, dead)

    def _take_some(self, tx: Tx, some: list[Order], now_ms: int) -> None:
        keys = {(order.lane.way.egress_id, order.provider) for order in some}
        left = self._warming.left(tx, keys, now_ms)
        meter = _Meter(tx, some, now_ms, self._time_scale)
        wanted = []
        for order in some:
            order.claimed = []
            key = order.lane.way.egress_id, order.provider
            limit = meter.reserve(order, min(order.limit, left.get(key, order.limit)))
            if key in left:
                left[key] -= limit
            if limit > 0:
                wanted.append((order, limit))
        asked = [queue.Order(order.backlog, order.lane.way.egress_id, limit) for order, limit in wanted]
        found = queue.claim_many(tx, asked, now_ms=now_ms, lease_id=self._lease_id) if asked else []
        reserved: Counter[warmups.Key] = Counter()
        for (order, limit), taken in zip(wanted, found, strict=True):
            order.emptied = len(taken) < limit
            order.claimed = taken
            meter.used(order, len(taken))
            key = order.lane.way.egress_id, order.provider
            if key in left and taken:
                reserved[key] += len(taken)
        warmups.reserve(tx, reserved)
        meter.write(tx)


class _Meter:
    """The rates of tenants, streams and campaigns in one commit."""

    def __init__(self, tx: Tx, some: list[Order], now_ms: int, scale: float) -> None:
        self._now_ms, self._scale = now_ms, scale
        self._rates: dict[tuple[str, int, int], Rate] = {}
        for order in some:
            for one in order.view.allowances:
                self._rates[one.whose, one.whose_id, one.rate.period_ms] = one.rate
        self._rows = {row[:3]: row for row in allowances.hold(tx, self._rates, now_ms)} if self._rates else {}
        self._left = {key: self._free(row) for key, row in self._rows.items()}
        self._used: Counter[tuple[str, int, int]] = Counter()

    def reserve(self, order: Order, limit: int) -> int:
        """As much of ``limit`` as every rate of the order's flow leaves."""
        keys = self._keys(order)
        limit = min([limit, *(self._left[key] for key in keys)])
        for key in keys:
            self._left[key] -= max(0, limit)
        return limit

    def used(self, order: Order, count: int) -> None:
        """So many were claimed."""
        for key in self._keys(order):
            self._used[key] += count

    def write(self, tx: Tx) -> None:
        """When the next may leave."""
        allowances.put(tx, [self._after(self._rows[key], count) for key, count in self._used.items() if count])

    @staticmethod
    def _keys(order: Order) -> list[tuple[str, int, int]]:
        return [(one.whose, one.whose_id, one.rate.period_ms) for one in order.view.allowances]

    def _gap_ms(self, row: Allowance) -> float:
        return self._rates[row[:3]].gap_ms / self._scale

    def _burst(self, row: Allowance) -> int:
        """A second's worth may leave at once: claims come some times a second."""
        return max(1, int(1000 / self._gap_ms(row)))

    def _free(self, row: Allowance) -> int:
        if row.next_ms > self._now_ms:
            return 0
        return min(self._burst(row), 1 + int((self._now_ms - row.next_ms) / self._gap_ms(row)))

    def _after(self, row: Allowance, count: int) -> Allowance:
        gap_ms = self._gap_ms(row)
        start_ms = max(row.next_ms, self._now_ms - (self._burst(row) - 1) * gap_ms)
        return row._replace(next_ms=-int(-(start_ms + count * gap_ms) // 1))


def _without_suppressed(tx: Tx, order: Order, now_ms: int) -> list[Settled]:
    taken = order.claimed
    blocked = suppressions.matching(tx, taken[0].tenant_id, order.view.stream, [one.address_key for one in taken])
    if not blocked:
        return []
    order.claimed = [one for one in taken if one.address_key not in blocked]
    return [
        _suppressed(one, blocked[one.address_key], order.provider, now_ms)
        for one in taken
        if one.address_key in blocked
    ]


def _suppressed(claimed: Claimed, why: suppressions.Suppression, provider: str, now_ms: int) -> Settled:
    reason = f"{why.reason}: {why.evidence}"
    data = orjson.dumps({"reason": reason}).decode()
    state = DeliveryState.SUPPRESSED
    return Settled(Settlement(claimed, state, claimed.attempts, now_ms, "", reason, data, provider=provider))
