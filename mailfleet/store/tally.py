"""How many deliveries of a campaign are in which state, kept in the commit that changes the states.

A count is the sum of its parts: each process adds to a part of its own (``Tx.part``), so nobody waits for another's commit,
and a part may be below zero.
"""

from __future__ import annotations

from collections import Counter

from mailfleet.store.database import Tx
from mailfleet.store.statements import Pair

DEFERRED = 101  # beside the states: queued deliveries that were tried before

_UPSERT = "ON CONFLICT (campaign_id, state, part) DO UPDATE SET n = tally.n + excluded.n"
_ADD = Pair(
    f"INSERT INTO tally (campaign_id, state, part, n) VALUES (?, ?, ?, ?) {_UPSERT}",
    "INSERT INTO tally (campaign_id, state, part, n)"
    f" SELECT * FROM unnest(?::bigint[], ?::bigint[], ?::bigint[], ?::bigint[]) {_UPSERT}",
)


def add(tx: Tx, deltas: Counter[tuple[int, int]]) -> None:
    """Apply changes of counts, ``(campaign_id, state) -> n``; single messages (campaign 0) are not tallied."""
    rows = sorted((campaign, int(state), tx.part, n) for (campaign, state), n in deltas.items() if campaign and n)
    if rows:
        tx.batch(_ADD, rows)


def of(tx: Tx, campaign_id: int) -> dict[int, int]:
    """``DeliveryState (or DEFERRED) -> deliveries``."""
    rows = tx.rows(
        "SELECT state, CAST(sum(n) AS BIGINT) FROM tally WHERE campaign_id = ? GROUP BY state", (campaign_id,)
    )
    return {int(state): int(n) for state, n in rows}
