"""Streams as a person sets them: the pool they leave through, where they spill, their rates and weight."""

from __future__ import annotations

from typing import NamedTuple

from mailfleet.store.database import Tx


class StreamRow(NamedTuple):
    """A stream with its settings; ``pool_id`` 0 is the tenant's, ``tenant_pool_id`` 0 the default."""

    id: int
    name: str
    kind: str
    weight: int
    pool_id: int
    spill: str
    rates: str
    tenant_pool_id: int


def of_tenant(tx: Tx, tenant_id: int) -> list[StreamRow]:
    """Every stream of a tenant."""
    rows = tx.rows(
        "SELECT s.id, s.name, s.kind, s.weight, s.pool_id, s.spill, s.rates, t.pool_id FROM stream s"
        " JOIN tenant t ON t.id = s.tenant_id WHERE s.tenant_id = ? ORDER BY s.id",
        (tenant_id,),
    )
    return [StreamRow(*row) for row in rows]


def update(tx: Tx, row: StreamRow) -> None:
    """What can be set of a stream."""
    tx.run(
        "UPDATE stream SET weight = ?, pool_id = ?, spill = ?, rates = ? WHERE id = ?",
        (row.weight, row.pool_id, row.spill, row.rates, row.id),
    )


def using_pool(tx: Tx, pool_id: int) -> list[str]:
    """Names of the streams that send through a pool: by their own choice, their tenant's, or for want of one."""
    rows = tx.rows(
        "SELECT s.name FROM stream s JOIN tenant t ON t.id = s.tenant_id WHERE ? ="
        " CASE WHEN s.pool_id > 0 THEN s.pool_id WHEN t.pool_id > 0 THEN t.pool_id ELSE 1 END ORDER BY s.id",
        (pool_id,),
    )
    return [str(row[0]) for row in rows]
