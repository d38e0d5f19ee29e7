"""Rates of tenants, streams and campaigns, kept by the commits that claim: exact over any number of processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mailfleet.store.database import Tx
from mailfleet.store.statements import for_update


class Allowance(NamedTuple):
    """When the next delivery of somebody with a rate may leave."""

    whose: str  # tenant | stream | campaign
    whose_id: int
    period_ms: int
    next_ms: int


_HELD = for_update(
    "SELECT whose, whose_id, period_ms, next_ms FROM allowance WHERE whose = ? AND whose_id = ? AND period_ms = ?"
)


def hold(tx: Tx, wanted: Iterable[tuple[str, int, int]], now_ms: int) -> list[Allowance]:
    """The rows of ``(whose, whose_id, period_ms)``, made where they are new, held until the commit."""
    found = []
    for key in sorted(set(wanted)):
        tx.run(
            "INSERT INTO allowance (whose, whose_id, period_ms, next_ms) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*key, now_ms),
        )
        row = tx.row(_HELD, key)
        assert row is not None
        found.append(Allowance(*row))
    return found


def put(tx: Tx, changed: Iterable[Allowance]) -> None:
    """When the next may leave from now on."""
    for one in changed:
        tx.run(
            "UPDATE allowance SET next_ms = ? WHERE whose = ? AND whose_id = ? AND period_ms = ?",
            (one.next_ms, one.whose, one.whose_id, one.period_ms),
        )


def forget(tx: Tx, before_ms: int, limit: int = 5000) -> int:
    """Remove rows that hold nobody back any more; returns how many."""
    return tx.run(
        "DELETE FROM allowance WHERE (whose, whose_id, period_ms) IN"
        " (SELECT whose, whose_id, period_ms FROM allowance WHERE next_ms < ? LIMIT ?)",
        (before_ms, limit),
    )
