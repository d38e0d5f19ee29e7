"""Deliveries as people ask for them: listings, one story, the backlog. Reads only."""

from __future__ import annotations

from typing import Any, NamedTuple

from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.store.database import Tx
from mailfleet.store.statements import Pair


class DeliveryRow(NamedTuple):
    """A delivery with what belongs to it by name."""

    id: int
    campaign_id: int
    content_id: int
    stream: str
    flow_state: int
    state: int
    due_ms: int
    expires_ms: int
    accepted_ms: int
    attempts: int
    address: str
    bounce_class: str | None
    reason: str | None
    site_id: int
    site_key: str | None
    provider: str | None


# Flow state 1 is LOADING: what may yet be refused is shown to nobody.
_SELECT = (
    "SELECT d.id, d.campaign_id, d.content_id, s.name, f.state, d.state, d.due_ms, d.expires_ms, d.accepted_ms,"
    " d.attempts, d.address, d.bounce_class, d.reason, d.site_id, t.key, t.provider"
    " FROM delivery d JOIN flow f ON f.id = d.flow_id AND f.state <> 1 JOIN stream s ON s.id = f.stream_id"
    " LEFT JOIN site t ON t.id = d.site_id"
)
# As ``policy.lifecycle.effective_state`` shows them: what is queued of a paused or cancelled flow is paused or cancelled.
_SHOWN_AS = {
    DeliveryState.QUEUED: "(d.state = 1 AND f.state NOT IN (3, 4))",
    DeliveryState.PAUSED: "(d.state = 8 OR d.state = 1 AND f.state = 3)",
    DeliveryState.CANCELLED: "(d.state = 6 OR d.state = 1 AND f.state = 4)",
}


# An address is indexed block by block (``queue.stage``): a seek to each.
_OF_ADDRESS = (
    "d.id IN (WITH RECURSIVE block (number) AS (SELECT min(address_block) FROM delivery UNION ALL"
    " SELECT (SELECT min(address_block) FROM delivery WHERE address_block > block.number) FROM block"
    " WHERE block.number IS NOT NULL) SELECT a.id FROM block JOIN delivery a"
    " ON a.address_block = block.number AND a.address_key = :address_key)"
)


def one(tx: Tx, tenant_id: int, delivery_id: int) -> DeliveryRow | None:
    """One delivery."""
    row = tx.row(f"{_SELECT} WHERE d.id = ? AND d.tenant_id = ?", (delivery_id, tenant_id))
    return DeliveryRow(*row) if row else None


class Left(NamedTuple):
    """A delivery as it left, by number."""

    id: int
    flow_id: int
    campaign_id: int
    content_id: int
    site_id: int
    egress_id: int
    state: int
    address: str
    address_key: str


def left(tx: Tx, tenant_id: int, delivery_id: int) -> Left | None:
    """One delivery, by number."""
    columns = ", ".join(Left._fields)
    row = tx.row(f"SELECT {columns} FROM delivery WHERE id = ? AND tenant_id = ?", (delivery_id, tenant_id))
    return Left(*row) if row else None


def of_content(tx: Tx, tenant_id: int, content_id: int, limit: int) -> list[DeliveryRow]:
    """The deliveries of a content, newest first."""
    rows = tx.rows(
        f"{_SELECT} WHERE d.content_id = ? AND d.tenant_id = ? ORDER BY d.id DESC LIMIT ?",
        (content_id, tenant_id, limit),
    )
    return [DeliveryRow(*row) for row in rows]


def page(
    tx: Tx,
    tenant_id: int,
    *,
    campaign: tuple[int, int, int] | None = None,
    state: DeliveryState | None = None,
    address_key: str | None = None,
    before: int | None = None,
    after: int | None = None,
    limit: int = 100,
) -> list[DeliveryRow]:
    """Deliveries that match. ``campaign`` is (id, first delivery id, last delivery id): its rows lie in that range.

    Within a campaign oldest first from ``after``; otherwise newest first from ``before``. ``state`` is the one shown.
    """
    wheres, params = ["d.tenant_id = :tenant_id"], dict[str, Any](tenant_id=tenant_id, limit=limit)
    if campaign is not None:
        wheres.append("d.campaign_id = :campaign_id AND d.id BETWEEN :first AND :last")
        params |= {"campaign_id": campaign[0], "first": max(campaign[1], (after or 0) + 1), "last": campaign[2]}
    elif before is not None:
        wheres.append("d.id < :before")
        params["before"] = before
    if state is not None:
        wheres.append(_SHOWN_AS.get(state, f"d.state = {int(state)}"))
    if address_key is not None:
        wheres.append(_OF_ADDRESS)
        params["address_key"] = address_key
    order = "ASC" if campaign is not None else "DESC"
    rows = tx.rows(f"{_SELECT} WHERE {' AND '.join(wheres)} ORDER BY d.id {order} LIMIT :limit", params)
    return [DeliveryRow(*row) for row in rows]


class BacklogRow(NamedTuple):
    """Backlog of one site and one reason; ``oldest_ms`` is the earliest acceptance, ``next_due_ms`` the earliest due time."""

    site_key: str
    provider: str
    state: int
    deferred: int
    bounce_class: str
    n: int
    oldest_ms: int
    next_due_ms: int


def backlog(tx: Tx, tenant_id: int) -> list[BacklogRow]:
    """Every site with queued or leased deliveries of a tenant, by reason."""
    found: list[BacklogRow] = []
    for state in (DeliveryState.QUEUED, DeliveryState.LEASED):  # one at a time: each has its own partial index
        # Counted by number, named afterwards: grouping a million rows by words costs six times as much.
        rows = tx.rows(
            "SELECT coalesce(t.key, ''), coalesce(t.provider, ''), g.state, g.tried, g.bounce_class, g.n, g.oldest, g.due"
            " FROM (SELECT site_id, state, CASE WHEN way = 0 THEN 0 ELSE 1 END AS tried,"
            " coalesce(bounce_class, '') AS bounce_class, count(*) AS n,"
            f" min(accepted_ms) AS oldest, min(due_ms) AS due FROM delivery WHERE state = {int(state)} AND tenant_id = ?"
            " GROUP BY site_id, state, 3, 4) AS g LEFT JOIN site t ON t.id = g.site_id",
            (tenant_id,),
        )
        found += [BacklogRow(*row) for row in rows]
    return found


class ReportRow(NamedTuple):
    """Deliveries of a campaign that ended (or stand) alike; ``address`` and ``reason`` are those of one of them."""

    provider: str
    located: int
    state: int
    bounce_class: str
    n: int
    address: str
    reason: str


_REPORT = (
    "SELECT coalesce(t.provider, ''), CASE WHEN t.kind IN ('mx', 'implicit') THEN 1 ELSE 0 END, g.state, g.bounce_class,"
    " CAST(sum(g.n) AS BIGINT), min(g.address), {}"
    " FROM (SELECT site_id, state, coalesce(bounce_class, '') AS bounce_class, count(*) AS n, min(address) AS address,"
    " {} AS reason FROM delivery WHERE id BETWEEN ? AND ? AND campaign_id = ? GROUP BY site_id, state, 3) AS g"
    " LEFT JOIN site t ON t.id = g.site_id GROUP BY 1, 2, 3, 4"
)
# SQLite takes a column that stands alone from the row that has the minimum. Elsewhere the two travel as one.
_REPORT_ROWS = Pair(
    _REPORT.format("coalesce(g.reason, '')", "reason"),
    _REPORT.format("coalesce((min(ARRAY[g.address, g.reason]))[2], '')", "(min(ARRAY[address, reason]))[2]"),
)


def report(tx: Tx, campaign: tuple[int, int, int]) -> list[ReportRow]:
    """A campaign, (id, first delivery id, last delivery id), by provider, state and bounce class: one walk over its rows."""
    rows = tx.rows(_REPORT_ROWS, (campaign[1], campaign[2], campaign[0]))
    return [ReportRow(*row) for row in rows]
