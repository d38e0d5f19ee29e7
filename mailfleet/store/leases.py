"""Leases: what one run of a delivery process has claimed, given back when it was not tried or when the run is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mailfleet.policy.lifecycle import DeliveryState, move
from mailfleet.store import tally, warmups
from mailfleet.store.database import Row, Tx
from mailfleet.store.events import EventRow, append
from mailfleet.store.rows import Claimed
from mailfleet.store.statements import Pair


def new_lease(tx: Tx, owner: str, slot: int, expires_ms: int) -> int:
    """Open a lease for one run of a delivery process."""
    return int(
        tx.value("INSERT INTO lease (owner, slot, expires_ms) VALUES (?, ?, ?) RETURNING id", (owner, slot, expires_ms))
    )


def lease_owner(tx: Tx, lease_id: int) -> str:
    """Who opened a lease; empty when there is none."""
    return str(tx.value("SELECT owner FROM lease WHERE id = ?", (lease_id,)) or "")


def renew_lease(tx: Tx, lease_id: int, expires_ms: int) -> bool:
    """Give a sign of life; false when the lease was already ended by somebody else."""
    return tx.run("UPDATE lease SET expires_ms = ? WHERE id = ?", (expires_ms, lease_id)) == 1


def ended_leases(tx: Tx, now_ms: int) -> list[tuple[int, int]]:
    """Leases that ran out: ``(lease_id, slot)``."""
    return [(int(a), int(b)) for a, b in tx.rows("SELECT id, slot FROM lease WHERE expires_ms <= ?", (now_ms,))]


def leases_of_slot(tx: Tx, slot: int, but: int) -> list[int]:
    """Leases of earlier runs of this slot."""
    return [int(row[0]) for row in tx.rows("SELECT id FROM lease WHERE slot = ? AND id <> ?", (slot, but))]


def leased_by(tx: Tx, lease_id: int, ids: Sequence[int]) -> list[Claimed]:
    """The rows among ``ids`` that are still under this lease: what a replayed journal may settle."""
    rows = tx.rows(
        f"SELECT {', '.join(Claimed._fields)} FROM delivery WHERE id = ANY (?) AND state = 2 AND lease_id = ?",
        (list(ids), lease_id),
    )
    return [Claimed(*row) for row in rows]


def leased_ids(tx: Tx, lease_id: int) -> list[int]:
    """Everything under this lease. Whoever does not know whether a claim was committed finds here what it was not told of."""
    return [int(row[0]) for row in tx.rows("SELECT id FROM delivery WHERE state = 2 AND lease_id = ?", (lease_id,))]


# Written so that the index of leased rows does not serve: a planner that believes it to be small walks all of it for each row.
BY_ID_ONLY = "d.state + 0 = 2 AND d.lease_id + 0 = n.lease_id"
_HAND_BACK = Pair(
    "UPDATE delivery SET state = 1, lease_id = 0 WHERE id = ? AND state = 2 AND lease_id = ? RETURNING id",
    "UPDATE delivery d SET state = 1, lease_id = 0 FROM unnest(?::bigint[], ?::bigint[]) AS n (id, lease_id)"
    f" WHERE d.id = n.id AND {BY_ID_ONLY} RETURNING d.id",
)


def hand_back(tx: Tx, claimed: Sequence[Claimed], *, lease_id: int, now_ms: int) -> None:
    """Put deliveries that were claimed and not tried back in the queue, due as they were."""
    rows = sorted((one.id, lease_id) for one in claimed)
    held = {row[0] for row in tx.batch(_HAND_BACK, rows)} if rows else set()
    _count_released(
        tx,
        [
            (one.id, one.tenant_id, one.campaign_id, one.attempts, one.egress_id, one.site_id)
            for one in claimed
            if one.id in held
        ],
        now_ms,
    )


def _count_released(
    tx: Tx, rows: Sequence[Row], now_ms: int, on_wire: frozenset[int] = frozenset(), day: int = 0
) -> None:
    """Tell and count what went back from a lease: ``(id, tenant_id, campaign_id, attempts, egress_id, site_id)`` of each."""
    deltas: Counter[tuple[int, int]] = Counter()
    events = []
    for delivery_id, tenant_id, campaign_id, attempts, *_ in rows:
        deltas[campaign_id, DeliveryState.LEASED] -= 1
        deltas[campaign_id, DeliveryState.QUEUED] += 1
        if attempts:
            deltas[campaign_id, tally.DEFERRED] += 1
        kind = move(DeliveryState.LEASED, DeliveryState.QUEUED, attempted=False, on_wire=delivery_id in on_wire)
        events.append(EventRow(now_ms, tenant_id, kind, campaign_id, delivery_id, None))
    tally.add(tx, deltas)
    append(tx, events)
    maybe_taken = Counter((row[4], row[5]) for row in rows if row[0] in on_wire)
    warmups.given_back(tx, Counter((row[4], row[5]) for row in rows), maybe_taken, day)


_DEAD = "SELECT id FROM delivery WHERE state = 2 AND lease_id = ? LIMIT ?"
_FREE = "UPDATE delivery SET state = 1, lease_id = 0, due_ms = CASE WHEN due_ms < ? THEN due_ms ELSE ? END WHERE"
_FREED = "RETURNING id, tenant_id, campaign_id, attempts, egress_id, site_id"
_RELEASE = Pair(
    f"{_FREE} id IN ({_DEAD}) {_FREED}",
    f"{_FREE} id = ANY (ARRAY({_DEAD} FOR UPDATE SKIP LOCKED)) {_FREED}",
)


def release(
    tx: Tx, lease_id: int, *, now_ms: int, on_wire: frozenset[int] = frozenset(), day: int = 0, limit: int = 2000
) -> int:
    """Put up to ``limit`` deliveries of a dead lease back in the queue, due at once; removes the lease when none is left.

    ``on_wire`` are those whose message may have reached the remote: their event says that a repeat is possible, and they count
    as delivered on ``day`` of a warm-up.
    """
    rows = tx.rows(_RELEASE, (now_ms, now_ms, lease_id, limit))
    _count_released(tx, rows, now_ms, on_wire, day)
    if len(rows) < limit:
        tx.run("DELETE FROM lease WHERE id = ?", (lease_id,))
    return len(rows)
