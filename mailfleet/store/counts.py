"""What came of deliveries by the hour: counted in the commits that settle them, so the counts are as true as the states.

A count is the sum of its parts, as in ``tally``: each process adds to a part of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from mailfleet.store.database import Tx
from mailfleet.store.statements import Pair

HOUR_MS = 3_600_000
DIMENSIONS = ("hour", "source", "provider", "domain", "stream", "campaign")
_COLUMN = dict(zip(DIMENSIONS, ("hour", "egress_id", "provider", "domain", "stream_id", "campaign_id"), strict=True))


class Key(NamedTuple):
    """What is counted apart. ``what``: delivered, deferred, bounced, expired, complaint, or ``class:`` with a bounce class."""

    hour: int  # since 1970
    egress_id: int
    provider: str
    domain: str  # the sending domain; empty where the attempt did not come so far
    stream_id: int
    campaign_id: int
    what: str


_COLUMNS = ", ".join(Key._fields)
_UPSERT = f"ON CONFLICT ({_COLUMNS}, part) DO UPDATE SET n = hourly.n + excluded.n"
_ADD = Pair(
    f"INSERT INTO hourly ({_COLUMNS}, part, n) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) {_UPSERT}",
    f"INSERT INTO hourly ({_COLUMNS}, part, n) SELECT * FROM unnest(?::bigint[], ?::bigint[], ?::text[], ?::text[],"
    f" ?::bigint[], ?::bigint[], ?::text[], ?::bigint[], ?::bigint[]) {_UPSERT}",
)


def add(tx: Tx, counts: Counter[Key]) -> None:
    """Count more of each."""
    rows = sorted((*key, tx.part, count) for key, count in counts.items() if count)
    if rows:
        tx.batch(_ADD, rows)


def by(
    tx: Tx, dimensions: Iterable[str], *, since_hour: int, bulk_only: bool = False
) -> dict[tuple[object, ...], Counter[str]]:
    """Counts since an hour, by what ``DIMENSIONS`` name: ``(value, ...) -> {what: n}``."""
    columns = ", ".join(_COLUMN[one] for one in dimensions)
    only = " AND stream_id IN (SELECT id FROM stream WHERE kind = 'bulk')" if bulk_only else ""
    rows = tx.rows(
        f"SELECT {columns}, what, CAST(sum(n) AS BIGINT) FROM hourly WHERE hour >= ?{only} GROUP BY {columns}, what",
        (since_hour,),
    )
    found: dict[tuple[object, ...], Counter[str]] = {}
    for *place, what, n in rows:
        found.setdefault(tuple(place), Counter())[what] = int(n)
    return found


def last_hours(tx: Tx) -> dict[tuple[int, str], int]:
    """``(egress_id, provider) -> hour``: when each last delivered, as far as it is kept."""
    rows = tx.rows(
        "SELECT egress_id, provider, max(hour) FROM hourly WHERE what = 'delivered' GROUP BY egress_id, provider"
    )
    return {(int(egress_id), str(provider)): int(hour) for egress_id, provider, hour in rows}


def forget(tx: Tx, before_hour: int, limit: int = 5000) -> int:
    """Remove counts of hours before ``before_hour``, some at a time; returns how many rows went."""
    key = f"{_COLUMNS}, part"
    return tx.run(
        f"DELETE FROM hourly WHERE ({key}) IN (SELECT {key} FROM hourly WHERE hour < ? LIMIT ?)", (before_hour, limit)
    )
