"""The queue: deliveries inserted, claimed, settled. State and event change in the same transaction, and so does the tally.

Claims walk the index ``(site_id, priority, flow_id, tried, due_ms)`` of queued rows, so their cost does not depend on how much
is queued; which flow's turn it is, is decided above (``engine``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from mailfleet.policy.lifecycle import DeliveryState, EventKind, FlowState, move
from mailfleet.store import campaigns
from mailfleet.store.database import Row, Tx
from mailfleet.store.events import EventRow, append

DEFERRED_TALLY = 101  # in ``tally``: queued deliveries that were tried before


class NewDelivery(NamedTuple):
    """A row to insert, columns in this order."""

    id: int
    tenant_id: int
    flow_id: int
    campaign_id: int
    content_id: int
    priority: int
    domain_id: int
    site_id: int
    state: int
    due_ms: int
    expires_ms: int
    accepted_ms: int  # or send_at, where that is later: age and expiry count from here
    address: str
    address_key: str
    fields: str | None
    envelope: str | None
    bounce_class: str | None = None
    reason: str | None = None


class Backlog(NamedTuple):
    """Queued deliveries that compete as one: the earliest is due at ``due_ms``. ``tried`` is 1 for retries, 0 for fresh mail."""

    site_id: int
    priority: int
    flow_id: int
    tried: int
    due_ms: int


class Claimed(NamedTuple):
    """A delivery under lease, with all that an attempt needs."""

    id: int
    tenant_id: int
    flow_id: int
    campaign_id: int
    content_id: int
    domain_id: int
    site_id: int
    attempts: int
    accepted_ms: int
    expires_ms: int
    address: str
    address_key: str
    fields: str | None
    envelope: str | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an attempt came to. ``due_ms`` only for a deferral. ``event`` is the JSON text of the event's data."""

    claimed: Claimed
    state: DeliveryState
    attempts: int
    due_ms: int
    bounce_class: str
    reason: str
    event: str


_INSERT = (
    "INSERT INTO delivery (id, tenant_id, flow_id, campaign_id, content_id, priority, domain_id, site_id, state, due_ms,"
    " expires_ms, accepted_ms, address, address_key, fields, envelope, bounce_class, reason)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


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


def stage(tx: Tx, deliveries: Sequence[NewDelivery]) -> None:
    """Insert deliveries of a campaign that is still loading: counted, but nothing is told of them before it is sealed."""
    tx.many(_INSERT, deliveries)
    add_to_tally(tx, Counter((new.campaign_id, new.state) for new in deliveries))


def add_to_tally(tx: Tx, deltas: Counter[tuple[int, int]]) -> None:
    """Apply changes of counts, ``(campaign_id, state) -> n``; single messages (campaign 0) are not tallied."""
    tx.many(
        "INSERT INTO tally (campaign_id, state, n) VALUES (?, ?, ?)"
        " ON CONFLICT (campaign_id, state) DO UPDATE SET n = n + excluded.n",
        [(campaign_id, int(state), n) for (campaign_id, state), n in deltas.items() if campaign_id and n],
    )


# Four seeks rather than one comparison of rows: SQLite seeks by the first column of (a, b) > (x, y) only and walks the rest.
_BACKLOG = """
WITH RECURSIVE step (id) AS (
  SELECT (SELECT id FROM delivery WHERE state = 1 AND site_id > 0
          ORDER BY site_id, priority, flow_id, tried, due_ms LIMIT 1)
  UNION ALL
  SELECT coalesce(
    (SELECT id FROM delivery WHERE state = 1 AND site_id = c.site_id AND priority = c.priority AND flow_id = c.flow_id
       AND tried > c.tried ORDER BY tried, due_ms LIMIT 1),
    (SELECT id FROM delivery WHERE state = 1 AND site_id = c.site_id AND priority = c.priority AND flow_id > c.flow_id
       ORDER BY flow_id, tried, due_ms LIMIT 1),
    (SELECT id FROM delivery WHERE state = 1 AND site_id = c.site_id AND priority > c.priority
       ORDER BY priority, flow_id, tried, due_ms LIMIT 1),
    (SELECT id FROM delivery WHERE state = 1 AND site_id > c.site_id
       ORDER BY site_id, priority, flow_id, tried, due_ms LIMIT 1))
  FROM step JOIN delivery c ON c.id = step.id
)
SELECT d.site_id, d.priority, d.flow_id, d.tried, d.due_ms FROM step JOIN delivery d ON d.id = step.id
"""


def backlog(tx: Tx) -> list[Backlog]:
    """Every (site, priority, flow, tried) with queued deliveries, a few index seeks each however many are queued."""
    return [Backlog(*row) for row in tx.rows(_BACKLOG)]


_CLAIM = """
UPDATE delivery SET state = 2, lease_id = ? WHERE id IN (
  SELECT id FROM delivery WHERE state = 1 AND site_id = ? AND priority = ? AND flow_id = ? AND tried = ? AND due_ms <= ?
  ORDER BY due_ms LIMIT ?
)
RETURNING id, tenant_id, flow_id, campaign_id, content_id, domain_id, site_id, attempts, accepted_ms, expires_ms,
  address, address_key, fields, envelope
"""


def claim(tx: Tx, backlog: Backlog, *, limit: int, now_ms: int, lease_id: int) -> list[Claimed]:
    """Lease up to ``limit`` due deliveries of one backlog; none when its flow is not active (paused, cancelled, loading)."""
    flow_state = tx.value("SELECT state FROM flow WHERE id = ?", (backlog.flow_id,))
    if flow_state != FlowState.ACTIVE:
        return []
    place = (backlog.site_id, backlog.priority, backlog.flow_id, backlog.tried)
    rows = tx.rows(_CLAIM, (lease_id, *place, now_ms, limit))
    claimed = [Claimed(*row) for row in rows]
    if claimed and claimed[0].campaign_id:  # a flow has one campaign, or none
        campaigns.start_scheduled(tx, claimed[0].campaign_id, now_ms=now_ms)
    deltas: Counter[tuple[int, int]] = Counter()
    for one in claimed:
        deltas[one.campaign_id, DeliveryState.QUEUED] -= 1
        deltas[one.campaign_id, DeliveryState.LEASED] += 1
        if one.attempts:
            deltas[one.campaign_id, DEFERRED_TALLY] -= 1
    add_to_tally(tx, deltas)
    return claimed


_SETTLE = (
    "UPDATE delivery SET state = ?, attempts = ?, tried = 1, due_ms = ?, bounce_class = ?, reason = ?, lease_id = 0"
    " WHERE id = ? AND state = 2 AND lease_id = ?"
)


_HAND_BACK = "UPDATE delivery SET state = 1, lease_id = 0 WHERE id = ? AND state = 2 AND lease_id = ?"


def settle(tx: Tx, settlements: Sequence[Settlement], *, lease_id: int, now_ms: int) -> list[Settlement]:
    """End leases with what came of them, each with its event. Returns those whose lease had been lost meanwhile.

    A delivery that another process has taken over after our lease ran out is left to it, except that a remote's 250 we
    did read is never thrown away: the row is made delivered, whatever was decided meanwhile.
    """
    events: list[EventRow] = []
    lost: list[Settlement] = []
    deltas: Counter[tuple[int, int]] = Counter()
    watch: set[int] = set()
    for one in settlements:
        row = one.claimed
        changed = tx.run(
            _SETTLE, (int(one.state), one.attempts, one.due_ms, one.bounce_class, one.reason, row.id, lease_id)
        )
        if not changed:
            lost.append(one)
            continue
        events.append(
            EventRow(now_ms, row.tenant_id, move(DeliveryState.LEASED, one.state), row.campaign_id, row.id, one.event)
        )
        deltas[row.campaign_id, DeliveryState.LEASED] -= 1
        deltas[row.campaign_id, one.state] += 1
        if one.state == DeliveryState.QUEUED:
            deltas[row.campaign_id, DEFERRED_TALLY] += 1
            watch.add(row.domain_id)
    events += _take_late_deliveries(tx, lost, deltas, now_ms)
    append(tx, events)
    add_to_tally(tx, deltas)
    # A deferred delivery may outlive its domain's location: have it looked up again in time.
    tx.many("UPDATE mail_domain SET next_locate_ms = 1 WHERE id = ? AND next_locate_ms = 0", [(one,) for one in watch])
    return lost


def _take_late_deliveries(
    tx: Tx, lost: Iterable[Settlement], deltas: Counter[tuple[int, int]], now_ms: int
) -> list[EventRow]:
    events = []
    for one in lost:
        if one.state != DeliveryState.DELIVERED:
            continue
        row = one.claimed
        found = tx.row("SELECT state, attempts FROM delivery WHERE id = ?", (row.id,))
        if found is None or found[0] == DeliveryState.DELIVERED:
            continue
        state, attempts = DeliveryState(found[0]), found[1]
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


def leased_by(tx: Tx, lease_id: int, ids: Sequence[int]) -> list[Claimed]:
    """The rows among ``ids`` that are still under this lease: what a replayed journal may settle."""
    found: list[Claimed] = []
    for one in ids:
        row = tx.row(
            "SELECT id, tenant_id, flow_id, campaign_id, content_id, domain_id, site_id, attempts, accepted_ms,"
            " expires_ms, address, address_key, fields, envelope FROM delivery WHERE id = ? AND state = 2 AND lease_id = ?",
            (one, lease_id),
        )
        if row:
            found.append(Claimed(*row))
    return found


def new_lease(tx: Tx, owner: str, slot: int, expires_ms: int) -> int:
    """Open a lease for one run of a delivery process."""
    return int(
        tx.value("INSERT INTO lease (owner, slot, expires_ms) VALUES (?, ?, ?) RETURNING id", (owner, slot, expires_ms))
    )


def lease_owner(tx: Tx, lease_id: int) -> str:
    """Who opened a lease; empty when there is none."""
    return str(tx.value("SELECT owner FROM lease WHERE id = ?", (lease_id,)) or "")


def leased_ids(tx: Tx, lease_id: int) -> frozenset[int]:
    """Every delivery under this lease."""
    return frozenset(
        int(row[0]) for row in tx.rows("SELECT id FROM delivery WHERE state = 2 AND lease_id = ?", (lease_id,))
    )


def renew_lease(tx: Tx, lease_id: int, expires_ms: int) -> bool:
    """Give a sign of life; false when the lease was already ended by somebody else."""
    return tx.run("UPDATE lease SET expires_ms = ? WHERE id = ?", (expires_ms, lease_id)) == 1


def ended_leases(tx: Tx, now_ms: int) -> list[tuple[int, int]]:
    """Leases that ran out: ``(lease_id, slot)``."""
    return [(int(a), int(b)) for a, b in tx.rows("SELECT id, slot FROM lease WHERE expires_ms <= ?", (now_ms,))]


def leases_of_slot(tx: Tx, slot: int, but: int) -> list[int]:
    """Leases of earlier runs of this slot."""
    return [int(row[0]) for row in tx.rows("SELECT id FROM lease WHERE slot = ? AND id <> ?", (slot, but))]


def hand_back(tx: Tx, claimed: Sequence[Claimed], *, lease_id: int, now_ms: int) -> None:
    """Put deliveries that were claimed and not tried back in the queue, due as they were."""
    held = [one for one in claimed if tx.run(_HAND_BACK, (one.id, lease_id))]
    _count_released(tx, [(one.id, one.tenant_id, one.campaign_id, one.attempts) for one in held], now_ms)


def _count_released(tx: Tx, rows: Sequence[Row], now_ms: int, on_wire: frozenset[int] = frozenset()) -> None:
    deltas: Counter[tuple[int, int]] = Counter()
    events = []
    for delivery_id, tenant_id, campaign_id, attempts in rows:
        deltas[campaign_id, DeliveryState.LEASED] -= 1
        deltas[campaign_id, DeliveryState.QUEUED] += 1
        if attempts:
            deltas[campaign_id, DEFERRED_TALLY] += 1
        kind = move(DeliveryState.LEASED, DeliveryState.QUEUED, attempted=False, on_wire=delivery_id in on_wire)
        events.append(EventRow(now_ms, tenant_id, kind, campaign_id, delivery_id, None))
    add_to_tally(tx, deltas)
    append(tx, events)


def release(tx: Tx, lease_id: int, *, now_ms: int, on_wire: frozenset[int] = frozenset(), limit: int = 2000) -> int:
    """Put up to ``limit`` deliveries of a dead lease back in the queue, due at once; removes the lease when none is left.

    ``on_wire`` are those whose message may have reached the remote: their event says that a repeat is possible.
    """
    rows = tx.rows(
        "UPDATE delivery SET state = 1, lease_id = 0, due_ms = min(due_ms, ?) WHERE id IN"
        " (SELECT id FROM delivery WHERE state = 2 AND lease_id = ? LIMIT ?)"
        " RETURNING id, tenant_id, campaign_id, attempts",
        (now_ms, lease_id, limit),
    )
    _count_released(tx, rows, now_ms, on_wire)
    if len(rows) < limit:
        tx.run("DELETE FROM lease WHERE id = ?", (lease_id,))
    return len(rows)


def cancel(tx: Tx, flow_id: int, *, now_ms: int, limit: int = 2000) -> int:
    """Cancel up to ``limit`` queued deliveries of a cancelled flow; returns how many were."""
    rows = tx.rows(
        "UPDATE delivery SET state = ? WHERE id IN"
        " (SELECT d.id FROM delivery d JOIN campaign c ON c.flow_id = d.flow_id"
        "  WHERE c.flow_id = ? AND d.id BETWEEN c.first_delivery_id AND c.last_delivery_id"
        "  AND d.flow_id = ? AND d.state = 1 LIMIT ?)"
        " RETURNING id, tenant_id, campaign_id, attempts",
        (int(DeliveryState.CANCELLED), flow_id, flow_id, limit),
    )
    deltas: Counter[tuple[int, int]] = Counter()
    for _, _, campaign_id, attempts in rows:
        deltas[campaign_id, DeliveryState.QUEUED] -= 1
        deltas[campaign_id, DeliveryState.CANCELLED] += 1
        if attempts:
            deltas[campaign_id, DEFERRED_TALLY] -= 1
    add_to_tally(tx, deltas)
    kind = move(DeliveryState.QUEUED, DeliveryState.CANCELLED)
    append(tx, [EventRow(now_ms, tenant, kind, campaign, delivery, None) for delivery, tenant, campaign, _ in rows])
    return len(rows)
