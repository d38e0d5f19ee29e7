"""What providers told of us, by day."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mailfleet.store.database import Tx


class Imported(NamedTuple):
    """A day of a domain or an address."""

    origin: str  # postmaster | snds
    subject: str
    day: int
    data: str  # JSON
    at_ms: int


def put(tx: Tx, rows: Iterable[Imported]) -> None:
    """Keep days; one that is told again is as it was told last."""
    for row in rows:
        tx.run(
            "INSERT INTO imported (origin, subject, day, data, at_ms) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (origin, subject, day) DO UPDATE SET data = excluded.data, at_ms = excluded.at_ms",
            tuple(row),
        )


def newest(tx: Tx, limit: int) -> list[Imported]:
    """The latest days first."""
    rows = tx.rows(
        "SELECT origin, subject, day, data, at_ms FROM imported ORDER BY day DESC, origin, subject LIMIT ?", (limit,)
    )
    return [Imported(*row) for row in rows]
