"""The two statements that every delivery pays for, claiming and settling, over many rows at once.

PostgreSQL takes arrays and is asked once. SQLite is given the rows as one JSON text and answers with one, although that
costs it more than a row at a time: every step of a statement lets go of Python's lock and has to get it back, and in a
process whose other thread renders all the time that costs both of them far more than the JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from mailfleet.store.database import Tx
from mailfleet.store.leases import BY_ID_ONLY
from mailfleet.store.rows import Claimed
from mailfleet.store.statements import Pair, Row

_CLAIMED = ", ".join(f"delivery.{name}" for name in (*Claimed._fields, "priority", "way"))
_DUE = "state = 1 AND site_id = {} AND priority = {} AND flow_id = {} AND way = {} AND due_ms <= {} ORDER BY due_ms"
_DUE_IDS = (
    "SELECT json_group_array(id) FROM"
    f" (SELECT id FROM delivery WHERE {_DUE.format('?1', '?2', '?3', '?4', '?5')} LIMIT ?6)"
)
_LEASE = (
    "UPDATE delivery SET state = 2, lease_id = ?, egress_id = n.egress_id FROM"
    " (SELECT value->>0 AS id, value->>1 AS egress_id FROM json_each(?)) AS n WHERE delivery.id = n.id"
)
_READ = (
    f"SELECT json_group_array(json_array({_CLAIMED})) FROM delivery WHERE id IN (SELECT value->>0 FROM json_each(?))"
)
# By an array of ids: a join would tempt the planner to walk the table when its statistics are old.
_CLAIM = (
    "WITH wanted AS (SELECT * FROM unnest(?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[],"
    " ?::bigint[], ?::bigint[]) AS w (site_id, priority, flow_id, way, now_ms, n, lease_id, egress_id))"
    " UPDATE delivery SET state = 2, lease_id = (SELECT max(lease_id) FROM wanted), egress_id = (SELECT w.egress_id FROM"
    " wanted w WHERE w.site_id = delivery.site_id AND w.priority = delivery.priority AND w.flow_id = delivery.flow_id"
    " AND w.way = delivery.way) WHERE id = ANY (ARRAY("
    " SELECT d.id FROM wanted w CROSS JOIN LATERAL (SELECT id FROM delivery WHERE"
    f" {_DUE.format('w.site_id', 'w.priority', 'w.flow_id', 'w.way', 'w.now_ms')}"
    f" LIMIT w.n FOR UPDATE SKIP LOCKED) d)) RETURNING {_CLAIMED}"
)


def lease_due(tx: Tx, rows: Sequence[Sequence[int]]) -> list[Row]:
    """Lease what is due. Each row is ``(site_id, priority, flow_id, way, now_ms, limit, lease_id, egress_id)``, of one lease.

    Returns the columns of ``Claimed`` with priority and way behind them, in no order.
    """
    if tx.engine == "postgres":
        return tx.batch(_CLAIM, rows)
    pairs: list[tuple[int, int]] = []
    for row in rows:
        pairs += [(found, row[7]) for found in orjson.loads(tx.value(_DUE_IDS, row[:6]))]
    if not pairs:
        return []
    text = orjson.dumps(pairs).decode()
    tx.run(_LEASE, (rows[0][6], text))
    return [tuple(one) for one in orjson.loads(tx.value(_READ, (text,)))]


_REDEAL = Pair(
    "UPDATE delivery SET egress_id = n.egress_id FROM"
    " (SELECT value->>0 AS id, value->>1 AS egress_id FROM json_each(?)) AS n WHERE delivery.id = n.id",
    "UPDATE delivery d SET egress_id = n.egress_id FROM unnest(?::bigint[], ?::bigint[]) AS n (id, egress_id)"
    " WHERE d.id = n.id RETURNING d.id",
)


def deal_to(tx: Tx, pairs: Sequence[tuple[int, int]]) -> None:
    """Give deliveries under our lease, ``(id, egress_id)``, to another way out than they were leased for."""
    if pairs and tx.engine == "postgres":
        tx.batch(_REDEAL, pairs)
    elif pairs:
        tx.run(_REDEAL, (orjson.dumps(pairs).decode(),))


_SETTLED = "state, attempts, due_ms, bounce_class, reason, way, id, lease_id"
_HELD = (
    "SELECT json_group_array(id) FROM delivery"
    " WHERE id IN (SELECT value FROM json_each(?)) AND state = 2 AND +lease_id = ?"
)
_SETTLE = Pair(
    "UPDATE delivery SET state = n.state, attempts = n.attempts, way = n.way, due_ms = n.due_ms,"
    " bounce_class = n.bounce_class, reason = n.reason, lease_id = 0 FROM (SELECT"
    + ", ".join(f" value->>{place} AS {name}" for place, name in enumerate(_SETTLED.split(", ")))
    + " FROM json_each(?)) AS n WHERE delivery.id = n.id AND delivery.state = 2 AND +delivery.lease_id = n.lease_id",
    "UPDATE delivery d SET state = n.state, attempts = n.attempts, way = n.way, due_ms = n.due_ms,"
    " bounce_class = n.bounce_class, reason = n.reason, lease_id = 0"
    " FROM unnest(?::bigint[], ?::bigint[], ?::bigint[], ?::text[], ?::text[], ?::bigint[], ?::bigint[], ?::bigint[])"
    f" AS n ({_SETTLED}) WHERE d.id = n.id AND {BY_ID_ONLY} RETURNING d.id",
)


def end_leases(tx: Tx, rows: Sequence[Sequence[Any]], lease_id: int) -> set[int]:
    """Settle rows ``(state, attempts, due_ms, bounce_class, reason, way, id, lease_id)``; the ids that were under the lease."""
    if not rows:
        return set()
    if tx.engine == "postgres":
        return {row[0] for row in tx.batch(_SETTLE, rows)}
    held = set(orjson.loads(tx.value(_HELD, (orjson.dumps([row[6] for row in rows]).decode(), lease_id))))
    mine = [row for row in rows if row[6] in held]
    if mine:
        tx.run(_SETTLE, (orjson.dumps(mine).decode(),))
    return held
