"""The queue: deliveries inserted, claimed, settled. State and event change in the same transaction, and so does the tally.

Claims walk the index ``(site_id, priority, flow_id, way, due_ms)`` of queued rows, so their cost does not depend on how much
is queued; which flow's turn it is, is decided above (``engine``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from mailfleet.policy.egress import deal
from mailfleet.policy.lifecycle import DeliveryState, EventKind, FlowState, move
from mailfleet.store import campaigns, tally, warmups, whole
from mailfleet.store.database import Tx
from mailfleet.store.events import EventRow, append
from mailfleet.store.leases import ended_leases as ended_leases
from mailfleet.store.leases import hand_back as hand_back
from mailfleet.store.leases import lease_owner as lease_owner
from mailfleet.store.leases import leased_by as leased_by
from mailfleet.store.leases import leased_ids as leased_ids
from mailfleet.store.leases import leases_of_slot as leases_of_slot
from mailfleet.store.leases import new_lease as new_lease
from mailfleet.store.leases import release as release
from mailfleet.store.leases import renew_lease as renew_lease
from mailfleet.store.rows import Backlog as Backlog
from mailfleet.store.rows import Claimed as Claimed
from mailfleet.store.rows import NewDelivery as NewDelivery
from mailfleet.store.rows import Settlement as Settlement
from mailfleet.store.statements import Pair

DEFERRED_TALLY = tally.DEFERRED
_DAY_MS = 86_400_000


_COLUMNS = (*NewDelivery._fields, "address_block")


def insert(tx: Tx, deliveries: Sequence[NewDelivery], *, now_ms: int) -> None:
    """Insert deliveries (queued or suppressed) with their first event each, and count them in the tally."""
    stage(tx, deliveries)
    append(
        tx,
        [
            EventRow(
                now_ms,
                new.tenant_id,
                EventKind.ACCEPTED if new.state == DeliveryState.QUEUED else EventKind.SUPPRESSED,
                new.campaign_id,
                new.id,
                None if new.reason is None else orjson.dumps({"reason": new.reason}).decode(),
            )
            for new in deliveries
        ],
    )


def stage(tx: Tx, deliveries: Sequence[NewDelivery], *, block: int = 0) -> None:
    """Insert deliveries of a campaign that is still loading: counted, but nothing is told of them before it is sealed.

    Rows with the same ``block`` lie together in the index of addresses, so a long list whose rows share one by the
    ten thousand fills it page after page; looking an address up costs a seek per block. Without one: a block per day.
    """
    if deliveries:
        block = block or deliveries[0].accepted_ms // _DAY_MS
        tx.fill("delivery", _COLUMNS, [(*new, block) for new in deliveries])
        tally.add(tx, Counter((new.campaign_id, new.state) for new in deliveries))


# Four seeks rather than one comparison of rows: SQLite seeks by the first column of (a, b) > (x, y) only and walks the rest.
_BACKLOG_BY_SEEKS = """
WITH RECURSIVE step (id) AS (
  SELECT (SELECT id FROM delivery WHERE state = 1 AND site_id > 0
          ORDER BY site_id, priority, flow_id, way, due_ms LIMIT 1)
  UNION ALL
  SELECT coalesce(
    (SELECT id FROM delivery WHERE state = 1 AND site_id = c.site_id AND priority = c.priority AND flow_id = c.flow_id
       AND way > c.way ORDER BY way, due_ms LIMIT 1),
    (SELECT id FROM delivery WHERE state = 1 AND site_id = c.site_id AND priority = c.priority AND flow_id > c.flow_id
       ORDER BY flow_id, way, due_ms LIMIT 1),
    (SELECT id FROM delivery WHERE state = 1 AND site_id = c.site_id AND priority > c.priority
       ORDER BY priority, flow_id, way, due_ms LIMIT 1),
    (SELECT id FROM delivery WHERE state = 1 AND site_id > c.site_id
       ORDER BY site_id, priority, flow_id, way, due_ms LIMIT 1))
  FROM step JOIN delivery c ON c.id = step.id
)
SELECT d.site_id, d.priority, d.flow_id, d.way, d.due_ms FROM step JOIN delivery d ON d.id = step.id
"""


# PostgreSQL seeks by a comparison of rows as it should.
_PLACE = "site_id, priority, flow_id, way"
_FIRST = f"ORDER BY {_PLACE}, due_ms LIMIT 1"
_BACKLOG = Pair(
    _BACKLOG_BY_SEEKS,
    f"WITH RECURSIVE step AS ((SELECT {_PLACE}, due_ms FROM delivery WHERE state = 1 AND site_id > 0 {_FIRST})"
    f" UNION ALL SELECT n.* FROM step s CROSS JOIN LATERAL (SELECT {_PLACE}, due_ms FROM delivery WHERE state = 1"
    f" AND ({_PLACE}) > (s.site_id, s.priority, s.flow_id, s.way) {_FIRST}) n) SELECT * FROM step",
)


def backlog(tx: Tx) -> list[Backlog]:
    """Every (site, priority, flow, way) with queued deliveries in that order, a few index seeks each however many are queued."""
    return sorted(Backlog(*row) for row in tx.rows(_BACKLOG))


# Shared with other claims and not with a pause, which waits for this commit or is seen here.
_RUNNING_FLOWS = (
    "SELECT f.id, coalesce(c.id, 0), coalesce(c.state, '') FROM flow f LEFT JOIN campaign c ON c.id = f.campaign_id"
    f" WHERE f.id = ANY (?) AND f.state = {int(FlowState.ACTIVE)}"
)
_RUNNING = Pair(_RUNNING_FLOWS, f"{_RUNNING_FLOWS} ORDER BY f.id FOR SHARE OF f")


class Order(NamedTuple):
    """Claim up to ``limit`` of a backlog for one way out."""

    backlog: Backlog
    egress_id: int
    limit: int


def claim_many(tx: Tx, orders: Sequence[Order], *, now_ms: int, lease_id: int) -> list[list[Claimed]]:
    """Lease due deliveries of several backlogs, up to a limit of each; one list per order, in the same order.

    None where the flow is not active (paused, cancelled, loading). What several ways out claim of one backlog is dealt
    to them evenly; no way out may name a backlog twice.
    """
    by_backlog: dict[tuple[int, ...], dict[int, int]] = {}
    for order in orders:
        limits = by_backlog.setdefault(order.backlog[:4], {})
        assert order.egress_id not in limits, "a backlog was named twice"
        limits[order.egress_id] = order.limit
    wanted = sorted({backlog.flow_id for backlog, _, _ in orders})
    running = {flow_id: (campaign_id, state) for flow_id, campaign_id, state in tx.rows(_RUNNING, (wanted,))}
    rows = [
        (*key, now_ms, sum(limits.values()), lease_id, next(iter(limits)))
        for key, limits in by_backlog.items()
        if key[2] in running
    ]
    found: dict[tuple[int, ...], list[Claimed]] = {row[:4]: [] for row in rows}
    deltas: Counter[tuple[int, int]] = Counter()
    for row in whole.lease_due(tx, rows) if rows else ():
        one = Claimed(*row[:-2])
        found[one.site_id, row[-2], one.flow_id, row[-1]].append(one)
        deltas[one.campaign_id, DeliveryState.QUEUED] -= 1
        deltas[one.campaign_id, DeliveryState.LEASED] += 1
        if one.attempts:
            deltas[one.campaign_id, DEFERRED_TALLY] -= 1
    waiting = {campaign_id for campaign_id, state in running.values() if state == "scheduled"}
    campaigns.start_scheduled(tx, *sorted(waiting & {campaign for campaign, _ in deltas}), now_ms=now_ms)
    tally.add(tx, deltas)
    dealt = _dealt(tx, by_backlog, found)
    return [dealt.get((order.backlog[:4], order.egress_id), []) for order in orders]


def _dealt(
    tx: Tx, by_backlog: dict[tuple[int, ...], dict[int, int]], found: dict[tuple[int, ...], list[Claimed]]
) -> dict[tuple[tuple[int, ...], int], list[Claimed]]:
    """What was leased, by backlog and way out."""
    made: dict[tuple[tuple[int, ...], int], list[Claimed]] = {}
    moved: list[tuple[int, int]] = []
    for key, claimed in found.items():
        limits = by_backlog[key]
        if len(limits) == 1:
            made[key, next(iter(limits))] = claimed
            continue
        claimed.sort(key=lambda one: one.id)
        for one, egress_id in zip(claimed, deal(len(claimed), limits), strict=True):
            if one.egress_id != egress_id:
                moved.append((one.id, egress_id))
            made.setdefault((key, egress_id), []).append(one._replace(egress_id=egress_id))
    whole.deal_to(tx, sorted(moved))
    return made


def claim(tx: Tx, backlog: Backlog, *, limit: int, now_ms: int, lease_id: int, egress_id: int = 1) -> list[Claimed]:
    """Lease up to ``limit`` due deliveries of one backlog; none when its flow is not active (paused, cancelled, loading)."""
    return claim_many(tx, [Order(backlog, egress_id, limit)], now_ms=now_ms, lease_id=lease_id)[0]


_WATCH = Pair(
    "UPDATE mail_domain SET next_locate_ms = 1 WHERE id = ANY (?) AND next_locate_ms = 0",
    "UPDATE mail_domain SET next_locate_ms = 1 WHERE id IN"
    " (SELECT id FROM mail_domain WHERE id = ANY (?) AND next_locate_ms = 0 ORDER BY id FOR UPDATE)",
)


def settle(tx: Tx, settlements: Sequence[Settlement], *, lease_id: int, now_ms: int) -> list[Settlement]:
    """End leases with what came of them, each with its event. Returns those whose lease had been lost meanwhile.

    A delivery that another process has taken over after our lease ran out is left to it, except that a remote's 250 we
    did read is never thrown away: the row is made delivered, whatever was decided meanwhile. A second time changes nothing.
    """
    in_order = sorted(settlements, key=lambda one: one.claimed.id)  # of rows: everybody locks them in this order
    rows = [
        (int(one.state), one.attempts, one.due_ms, one.bounce_class, one.reason, one.way, one.claimed.id, lease_id)
        for one in in_order
    ]
    held = whole.end_leases(tx, rows, lease_id)
    events: list[EventRow] = []
    lost: list[Settlement] = []
    deltas: Counter[tuple[int, int]] = Counter()
    watch: set[int] = set()
    for one in settlements:
        row = one.claimed
        if row.id not in held:
            lost.append(one)
            continue
        held.discard(row.id)  # settled twice in one batch, the second comes too late
        events.append(
            EventRow(now_ms, row.tenant_id, move(DeliveryState.LEASED, one.state), row.campaign_id, row.id, one.event)
        )
        deltas[row.campaign_id, DeliveryState.LEASED] -= 1
        deltas[row.campaign_id, one.state] += 1
        if one.state == DeliveryState.QUEUED:
            deltas[row.campaign_id, DEFERRED_TALLY] += 1
            watch.add(row.domain_id)
    events += _take_late_deliveries(tx, lost, deltas, now_ms)
    warmups.settled(tx, [one for one in settlements if one not in lost])
    append(tx, events)
    tally.add(tx, deltas)
    if watch:  # a deferred delivery may outlive its domain's location: have it looked up again in time
        tx.run(_WATCH, (sorted(watch),))
    return lost


_STATES = Pair(
    "SELECT id, state, attempts FROM delivery WHERE id = ANY (?)",
    "SELECT id, state, attempts FROM delivery WHERE id = ANY (?) ORDER BY id FOR UPDATE",
)


def _take_late_deliveries(
    tx: Tx, lost: Sequence[Settlement], deltas: Counter[tuple[int, int]], now_ms: int
) -> list[EventRow]:
    late = {one.claimed.id: one for one in lost if one.state == DeliveryState.DELIVERED}
    events = []
    for delivery_id, number, attempts in tx.rows(_STATES, (sorted(late),)) if late else ():
        one, state = late[delivery_id], DeliveryState(number)
        if state is DeliveryState.DELIVERED:
            continue
        row = one.claimed
        tx.run(
            "UPDATE delivery SET state = ?, attempts = ?, bounce_class = ?, reason = ?, lease_id = 0 WHERE id = ?",
            (int(one.state), one.attempts, one.bounce_class, one.reason, row.id),
        )
        events.append(EventRow(now_ms, row.tenant_id, move(state, one.state), row.campaign_id, row.id, one.event))
        deltas[row.campaign_id, state] -= 1
        deltas[row.campaign_id, DeliveryState.DELIVERED] += 1
        if state is DeliveryState.QUEUED and attempts:
            deltas[row.campaign_id, DEFERRED_TALLY] -= 1
    return events


def set_envelope(tx: Tx, delivery_id: int, envelope: str) -> None:
    """Replace what is stored of a delivery's envelope."""
    tx.run("UPDATE delivery SET envelope = ? WHERE id = ?", (envelope, delivery_id))


_QUEUED_OF_FLOW = (
    "SELECT d.id FROM delivery d JOIN campaign c ON c.flow_id = d.flow_id"
    " WHERE c.flow_id = ? AND d.id BETWEEN c.first_delivery_id AND c.last_delivery_id"
    " AND d.flow_id = ? AND d.state = 1 LIMIT ?"
)
_CANCEL = Pair(
    f"UPDATE delivery SET state = ? WHERE id IN ({_QUEUED_OF_FLOW}) RETURNING id, tenant_id, campaign_id, attempts",
    f"UPDATE delivery SET state = ? WHERE id = ANY (ARRAY({_QUEUED_OF_FLOW} FOR UPDATE OF d SKIP LOCKED))"
    " RETURNING id, tenant_id, campaign_id, attempts",
)


def cancel(tx: Tx, flow_id: int, *, now_ms: int, limit: int = 2000) -> int:
    """Cancel up to ``limit`` queued deliveries of a cancelled flow; returns how many were."""
    rows = tx.rows(_CANCEL, (int(DeliveryState.CANCELLED), flow_id, flow_id, limit))
    deltas: Counter[tuple[int, int]] = Counter()
    for _, _, campaign_id, attempts in rows:
        deltas[campaign_id, DeliveryState.QUEUED] -= 1
        deltas[campaign_id, DeliveryState.CANCELLED] += 1
        if attempts:
            deltas[campaign_id, DEFERRED_TALLY] -= 1
    tally.add(tx, deltas)
    kind = move(DeliveryState.QUEUED, DeliveryState.CANCELLED)
    append(tx, [EventRow(now_ms, tenant, kind, campaign, delivery, None) for delivery, tenant, campaign, _ in rows])
    return len(rows)
