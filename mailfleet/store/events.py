"""Events: appended in the transaction that makes them true, read by cursor."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from mailfleet.store.database import Tx

_DAY_MS = 86_400_000


class EventRow(NamedTuple):
    """An event to append; ``data`` is JSON text or ``None``."""

    at_ms: int
    tenant_id: int
    kind: str
    campaign_id: int
    delivery_id: int
    data: str | None


class StoredEvent(NamedTuple):
    """An event as read, with the address of its delivery."""

    id: int
    at_ms: int
    kind: str
    campaign_id: int
    delivery_id: int
    data: str | None
    address: str | None


def append(tx: Tx, events: Sequence[EventRow]) -> None:
    """Append events; their ids follow the order of commits, which is what makes a cursor safe."""
    if events:
        tx.log("event", EventRow._fields, events)


def make_parts(tx: Tx, *, now_ms: int, days: int = 7) -> int:
    """Make the parts of the table for today and the days to come, where the engine has parts; how many were made.

    Raises ``BusyError`` when somebody reads so long that it would have to wait: the next time is soon enough.
    """
    if tx.engine == "sqlite":
        return 0
    made = 0
    tx.run("SET LOCAL lock_timeout = '2s'")
    for day in range(now_ms // _DAY_MS, now_ms // _DAY_MS + days):
        name = f"event_{datetime.fromtimestamp(day * 86_400, UTC):%Y%m%d}"
        bounds = (day * _DAY_MS, (day + 1) * _DAY_MS)
        # What came before there was a part lies in the part for the rest, and the day stays there.
        if tx.value("SELECT to_regclass(?::text)::text", (name,)) or tx.value(
            "SELECT 1 FROM event_default WHERE at_ms >= ? AND at_ms < ? LIMIT 1", bounds
        ):
            continue
        tx.run(f"CREATE TABLE {name} PARTITION OF event FOR VALUES FROM ({bounds[0]}) TO ({bounds[1]})")
        made += 1
    return made


def after(
    tx: Tx,
    tenant_id: int,
    *,
    cursor: int,
    limit: int,
    kinds: frozenset[str] = frozenset(),
    campaign_id: int = 0,
    delivery_id: int = 0,
) -> list[StoredEvent]:
    """Events with an id above ``cursor``, oldest first. A negative cursor ``-n`` means: the last ``n`` events."""
    wheres = ["e.tenant_id = :tenant_id"]
    params: dict[str, Any] = {"tenant_id": tenant_id, "cursor": cursor, "limit": limit}
    if kinds:
        wheres.append("e.kind = ANY (:kinds)")
        params["kinds"] = [str(kind) for kind in sorted(kinds)]
    if campaign_id:
        wheres.append("e.campaign_id = :campaign_id")
        params["campaign_id"] = campaign_id
    if delivery_id:
        wheres.append("e.delivery_id = :delivery_id")
        params["delivery_id"] = delivery_id
    columns = "e.id, e.at_ms, e.kind, e.campaign_id, e.delivery_id, e.data, d.address"
    source = f"FROM event e LEFT JOIN delivery d ON d.id = e.delivery_id WHERE {' AND '.join(wheres)}"
    if cursor < 0:
        params["limit"] = min(limit, -cursor)
        rows = tx.rows(f"SELECT {columns} {source} ORDER BY e.id DESC LIMIT :limit", params)[::-1]
    else:
        rows = tx.rows(f"SELECT {columns} {source} AND e.id > :cursor ORDER BY e.id LIMIT :limit", params)
    return [StoredEvent(*row) for row in rows]


def has(tx: Tx, delivery_id: int, kind: str) -> bool:
    """Whether such a thing was told of a delivery."""
    return tx.value("SELECT 1 FROM event WHERE delivery_id = ? AND kind = ? LIMIT 1", (delivery_id, kind)) is not None
