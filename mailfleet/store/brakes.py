"""Brakes as rows: what holds mail back now, and what did."""

from __future__ import annotations

from mailfleet.policy.brakes import Brake
from mailfleet.store.database import Tx, hold_table

_COLUMNS = ", ".join(Brake._fields)


def in_force(tx: Tx) -> list[Brake]:
    """All that are on."""
    return [Brake(*row) for row in tx.rows(f"SELECT {_COLUMNS} FROM brake WHERE ended_ms = 0 ORDER BY id")]


def hold(tx: Tx) -> None:
    """Whoever decides by what is on does so alone until the commit: two would put on one brake each for the same mail."""
    hold_table(tx, "brake")


def get(tx: Tx, brake_id: int) -> Brake | None:
    """One of them, or one that has ended."""
    row = tx.row(f"SELECT {_COLUMNS} FROM brake WHERE id = ?", (brake_id,))
    return Brake(*row) if row else None


def put(tx: Tx, brake: Brake) -> None:
    """A new one, or what became of it; one that has ended stays ended."""
    changed = ", ".join(f"{name} = excluded.{name}" for name in Brake._fields[1:])
    tx.run(
        f"INSERT INTO brake ({_COLUMNS}) VALUES ({', '.join('?' * len(brake))})"
        f" ON CONFLICT (id) DO UPDATE SET {changed} WHERE brake.ended_ms = 0",
        tuple(brake),
    )


def ended(tx: Tx, *, before_id: int, limit: int) -> list[Brake]:
    """Those that are over, newest first, from ``before_id`` (0: the newest) on."""
    rows = tx.rows(
        f"SELECT {_COLUMNS} FROM brake WHERE ended_ms > 0 AND (? = 0 OR id < ?) ORDER BY id DESC LIMIT ?",
        (before_id, before_id, limit),
    )
    return [Brake(*row) for row in rows]
