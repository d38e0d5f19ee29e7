"""Events: appended in the transaction that makes them true, read by cursor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mailfleet.store.database import Tx


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
