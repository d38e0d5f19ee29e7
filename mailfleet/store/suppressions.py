"""Suppressions: addresses that must not be mailed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mailfleet.store.database import Tx


class Suppression(NamedTuple):
    """``stream`` empty means the whole tenant."""

    id: int
    tenant_id: int
    address_key: str
    stream: str
    reason: str
    evidence: str
    origin: str
    created_ms: int


def add(tx: Tx, suppression: Suppression) -> bool:
    """Add; false when the same scope was suppressed already (the first reason stands)."""
    return (
        tx.run(
            "INSERT INTO suppression (id, tenant_id, address_key, stream, reason, evidence, origin, created_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            suppression,
        )
        > 0
    )


def remove(tx: Tx, tenant_id: int, address_key: str, stream: str) -> bool:
    """Remove; false when there was none."""
    return (
        tx.run(
            "DELETE FROM suppression WHERE tenant_id = ? AND address_key = ? AND stream = ?",
            (tenant_id, address_key, stream),
        )
        > 0
    )


def matching(tx: Tx, tenant_id: int, stream: str, keys: Sequence[str]) -> dict[str, Suppression]:
    """``address_key -> suppression`` for those of the addresses that this stream must not mail."""
    rows = tx.rows(
        "SELECT id, tenant_id, address_key, stream, reason, evidence, origin, created_ms FROM suppression"
        " WHERE tenant_id = ? AND address_key = ANY (?) AND stream IN ('', ?)",
        (tenant_id, list(keys), stream),
    )
    return {row[2]: Suppression(*row) for row in rows}


def page(tx: Tx, tenant_id: int, *, after: int, limit: int) -> list[Suppression]:
    """Suppressions in order of id."""
    rows = tx.rows(
        "SELECT id, tenant_id, address_key, stream, reason, evidence, origin, created_ms FROM suppression"
        " WHERE tenant_id = ? AND id > ? ORDER BY id LIMIT ?",
        (tenant_id, after, limit),
    )
    return [Suppression(*row) for row in rows]


def exact(tx: Tx, tenant_id: int, address_key: str, stream: str) -> Suppression | None:
    """The suppression of exactly this scope."""
    row = tx.row(
        "SELECT id, tenant_id, address_key, stream, reason, evidence, origin, created_ms FROM suppression"
        " WHERE tenant_id = ? AND address_key = ? AND stream = ?",
        (tenant_id, address_key, stream),
    )
    return Suppression(*row) if row else None
