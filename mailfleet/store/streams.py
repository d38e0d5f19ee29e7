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


class TenantRow(NamedTuple):
    """What holds for all streams of a tenant; ``pool_id`` 0 is the default pool."""

    name: str
    pool_id: int
    rates: str


def tenant(tx: Tx, tenant_id: int) -> TenantRow:
    """The settings of a tenant."""
    row = tx.row("SELECT name, pool_id, rates FROM tenant WHERE id = ?", (tenant_id,))
    assert row is not None, "an actor without a tenant"
    return TenantRow(*row)


def update_tenant(tx: Tx, tenant_id: int, row: TenantRow) -> None:
    """Pool and rates of a tenant."""
    tx.run("UPDATE tenant SET pool_id = ?, rates = ? WHERE id = ?", (row.pool_id, row.rates, tenant_id))
