"""Listings on block lists, from opening to closing, and the last look at each target in each list."""

from __future__ import annotations

from typing import NamedTuple

from mailfleet.store.database import Tx


class Listing(NamedTuple):
    """An address or domain on a block list; ``ended_ms`` 0 while it is."""

    id: int
    egress_id: int
    target: str
    list: str
    state: str  # open | closed
    codes: str
    words: str
    evidence: str  # JSON
    action: str
    brake_id: int
    since_ms: int
    seen_ms: int
    ended_ms: int
    ended_why: str


class Look(NamedTuple):
    """The last look; ``target`` empty: at the list itself."""

    list: str
    target: str
    outcome: str  # listed | clear | refused | silent | broken
    detail: str
    at_ms: int
    next_ms: int


_COLUMNS = ", ".join(Listing._fields)
_LOOK = ", ".join(Look._fields)


def looks(tx: Tx) -> dict[tuple[str, str], Look]:
    """Every last look, by list and target."""
    return {(row[0], row[1]): Look(*row) for row in tx.rows(f"SELECT {_LOOK} FROM list_check")}


def put_look(tx: Tx, look: Look) -> None:
    """The last look at a target."""
    changed = ", ".join(f"{name} = excluded.{name}" for name in Look._fields[2:])
    tx.run(
        f"INSERT INTO list_check ({_LOOK}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (list, target) DO UPDATE SET {changed}",
        tuple(look),
    )


def open_listing(tx: Tx, list_name: str, target: str) -> Listing | None:
    """The one that has not ended."""
    row = tx.row(f"SELECT {_COLUMNS} FROM listing WHERE ended_ms = 0 AND list = ? AND target = ?", (list_name, target))
    return Listing(*row) if row else None


def draining(tx: Tx, egress_id: int) -> list[Listing]:
    """Those for which a way out was to take nothing new, whether they have ended or not."""
    rows = tx.rows(f"SELECT {_COLUMNS} FROM listing WHERE egress_id = ? AND action = 'drain'", (egress_id,))
    return [Listing(*row) for row in rows]


def put(tx: Tx, listing: Listing) -> None:
    """A new one, or what became of it."""
    changed = ", ".join(f"{name} = excluded.{name}" for name in Listing._fields[1:])
    tx.run(
        f"INSERT INTO listing ({_COLUMNS}) VALUES ({', '.join('?' * len(listing))}) ON CONFLICT (id) DO UPDATE SET {changed}",
        tuple(listing),
    )


def page(tx: Tx, *, before_id: int, limit: int) -> list[Listing]:
    """Newest first, from ``before_id`` (0: the newest) on."""
    rows = tx.rows(
        f"SELECT {_COLUMNS} FROM listing WHERE ? = 0 OR id < ? ORDER BY id DESC LIMIT ?", (before_id, before_id, limit)
    )
    return [Listing(*row) for row in rows]


def hurry(tx: Tx) -> int:
    """Have everything looked at now; returns how many targets."""
    return tx.run("UPDATE list_check SET next_ms = 0")
