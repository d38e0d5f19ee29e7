"""Tenants, their streams, and the flows in which deliveries take turns."""

from __future__ import annotations

from typing import NamedTuple

from mailfleet.policy.lifecycle import FlowState
from mailfleet.store.database import Tx

DEFAULT_TENANT = 1
URGENT = 0
PRIORITY = {"transactional": URGENT, "bulk": 10}


class Stream(NamedTuple):
    """A kind of mail of a tenant; ``kind`` is transactional or bulk."""

    id: int
    tenant_id: int
    name: str
    kind: str
    weight: int

    @property
    def priority(self) -> int:
        """0 leaves first."""
        return PRIORITY[self.kind]


class Flow(NamedTuple):
    """Deliveries that take turns as one."""

    id: int
    tenant_id: int
    stream_id: int
    campaign_id: int
    priority: int
    weight: int
    state: int


def ensure_default(tx: Tx) -> None:
    """The tenant and the two streams that every install has."""
    tx.run("INSERT INTO tenant (id, name) VALUES (?, 'default') ON CONFLICT DO NOTHING", (DEFAULT_TENANT,))
    for stream_id, name in ((1, "transactional"), (2, "bulk")):
        tx.run(
            "INSERT INTO stream (id, tenant_id, name, kind) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (stream_id, DEFAULT_TENANT, name, name),
        )


def stream(tx: Tx, tenant_id: int, name: str) -> Stream | None:
    """A stream by name."""
    row = tx.row(
        "SELECT id, tenant_id, name, kind, weight FROM stream WHERE tenant_id = ? AND name = ?", (tenant_id, name)
    )
    return Stream(*row) if row else None


def stream_by_id(tx: Tx, stream_id: int) -> Stream:
    """A stream that a flow names."""
    row = tx.row("SELECT id, tenant_id, name, kind, weight FROM stream WHERE id = ?", (stream_id,))
    assert row is not None, f"stream {stream_id} of a flow is gone"
    return Stream(*row)


def stream_names(tx: Tx, tenant_id: int) -> list[str]:
    """The names a request may use."""
    return [str(row[0]) for row in tx.rows("SELECT name FROM stream WHERE tenant_id = ? ORDER BY id", (tenant_id,))]


def flow_of_stream(tx: Tx, stream: Stream, new_id: int) -> int:
    """The flow of a stream's single messages, made with ``new_id`` at first use."""
    tx.run(
        "INSERT INTO flow (id, tenant_id, stream_id, campaign_id, priority, weight, state) VALUES (?, ?, ?, 0, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (new_id, stream.tenant_id, stream.id, stream.priority, stream.weight, int(FlowState.ACTIVE)),
    )
    return int(
        tx.value(
            "SELECT id FROM flow WHERE tenant_id = ? AND stream_id = ? AND campaign_id = 0",
            (stream.tenant_id, stream.id),
        )
    )


def flow(tx: Tx, flow_id: int) -> Flow | None:
    """One flow."""
    row = tx.row(
        "SELECT id, tenant_id, stream_id, campaign_id, priority, weight, state FROM flow WHERE id = ?", (flow_id,)
    )
    return Flow(*row) if row else None


def set_flow_state(tx: Tx, flow_id: int, state: FlowState) -> None:
    """Activate, pause or cancel: one row, however many deliveries it has."""
    tx.run("UPDATE flow SET state = ? WHERE id = ?", (int(state), flow_id))


class WayOfFlow(NamedTuple):
    """Through which pool a flow leaves (its stream's, else its tenant's), and the rates of its tenant, stream and campaign."""

    pool_id: int
    tenant_pool_id: int
    spill: str
    rates: tuple[str, str, str]


def way_of_flow(tx: Tx, flow: Flow) -> WayOfFlow:
    """How a flow leaves."""
    row = tx.row(
        "SELECT s.pool_id, t.pool_id, s.spill, t.rates, s.rates, coalesce(c.rates, '') FROM stream s"
        " JOIN tenant t ON t.id = s.tenant_id LEFT JOIN campaign c ON c.id = ? WHERE s.id = ?",
        (flow.campaign_id, flow.stream_id),
    )
    assert row is not None, f"stream {flow.stream_id} of a flow is gone"
    return WayOfFlow(row[0], row[1], row[2], (row[3], row[4], row[5]))
