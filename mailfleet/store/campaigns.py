"""Campaigns: their rows, their tallies, and the moves between their states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from mailfleet.policy.lifecycle import DeliveryState, EventKind, FlowState
from mailfleet.store import tally as tallies
from mailfleet.store.database import Tx
from mailfleet.store.events import EventRow, append
from mailfleet.store.statements import Pair, for_update
from mailfleet.store.tenants import set_flow_state


class Campaign(NamedTuple):
    """A campaign as stored; ``state`` is one of engine.views.CampaignState."""

    id: int
    tenant_id: int
    flow_id: int
    content_id: int
    name: str
    stream: str
    state: str
    rows: int
    invalid: int
    duplicates: int
    first_delivery_id: int
    last_delivery_id: int
    told_to_id: int  # accepted events are written up to this delivery
    created_ms: int
    send_at_ms: int | None
    finished_ms: int | None
    pause_reason: str
    rates: str = ""


_COLUMNS = (
    "id, tenant_id, flow_id, content_id, name, stream, state, rows, invalid, duplicates, first_delivery_id,"
    " last_delivery_id, told_to_id, created_ms, send_at_ms, finished_ms, pause_reason, rates"
)


def start_loading(tx: Tx, campaign: Campaign, *, stream_id: int, priority: int, weight: int) -> None:
    """Make a campaign whose rows are still coming in: nothing of it can be claimed."""
    tx.run(
        "INSERT INTO flow (id, tenant_id, stream_id, campaign_id, priority, weight, state) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (campaign.flow_id, campaign.tenant_id, stream_id, campaign.id, priority, weight, int(FlowState.LOADING)),
    )
    marks = ", ".join("?" * len(campaign))
    tx.run(f"INSERT INTO campaign ({_COLUMNS}) VALUES ({marks})", campaign)


def seal(tx: Tx, campaign: Campaign) -> None:
    """Decide that a loaded campaign goes: its state becomes ``sealing`` and its counts stand. ``go_on_sealing`` does the rest."""
    tx.run(
        "UPDATE campaign SET state = 'sealing', rows = ?, invalid = ?, duplicates = ?, first_delivery_id = ?,"
        " last_delivery_id = ? WHERE id = ?",
        (
            campaign.rows,
            campaign.invalid,
            campaign.duplicates,
            campaign.first_delivery_id,
            campaign.last_delivery_id,
            campaign.id,
        ),
    )


_TELL = (
    "INSERT INTO event (at_ms, tenant_id, kind, campaign_id, delivery_id, data)"
    f" SELECT ?, tenant_id, CASE state WHEN {int(DeliveryState.SUPPRESSED)} THEN '{EventKind.SUPPRESSED}'"
    f" ELSE '{EventKind.ACCEPTED}' END, campaign_id, id, CASE WHEN reason IS NULL THEN NULL ELSE {{}} END"
    " FROM delivery WHERE id BETWEEN ? AND ? AND campaign_id = ? ORDER BY id"
)
_TELL_NEXT = Pair(
    _TELL.format("json_object('reason', reason)"),
    _TELL.format("""'{"reason":' || to_json(reason)::text || '}'"""),
)
SEAL_STEP = 10_000


def go_on_sealing(tx: Tx, campaign_id: int, *, now_ms: int) -> bool:
    """Tell of the next ``SEAL_STEP`` deliveries; after the last the campaign can be claimed. True when it is done.

    Steps, because a million events in one commit would hold up everybody else's. Each step is a whole: after a crash
    anybody may go on.
    """
    campaign = held(tx, campaign_id)
    if campaign is None or campaign.state != "sealing":
        return True
    start = max(campaign.first_delivery_id, campaign.told_to_id + 1)
    end = tx.value(
        "SELECT max(id) FROM (SELECT id FROM delivery WHERE id BETWEEN ? AND ? AND campaign_id = ? ORDER BY id LIMIT ?) AS step",
        (start, campaign.last_delivery_id, campaign_id, SEAL_STEP),
    )
    if end is not None:
        tx.lock_log()
        tx.run(_TELL_NEXT, (now_ms, start, end, campaign_id))
        tx.run("UPDATE campaign SET told_to_id = ? WHERE id = ?", (end, campaign_id))
        if end < campaign.last_delivery_id:
            return False
    state = "scheduled" if campaign.send_at_ms and campaign.send_at_ms > now_ms else "sending"
    tx.run("UPDATE campaign SET state = ? WHERE id = ?", (state, campaign_id))
    set_flow_state(tx, campaign.flow_id, FlowState.ACTIVE)
    append(tx, [EventRow(now_ms, campaign.tenant_id, EventKind.CAMPAIGN_CREATED, campaign_id, 0, None)])
    finish_where_done(tx, [campaign_id], now_ms=now_ms)  # everybody on the list may be suppressed
    return True


def discard_some(tx: Tx, campaign: Campaign, limit: int = 2000) -> bool:
    """Remove up to ``limit`` rows of a campaign that was never sealed; true when nothing of it is left to remove.

    A campaign that was sealed is left alone: who gives up while it is sealed may not know that it is decided.
    """
    stored = held(tx, campaign.id)
    if stored is None or stored.state != "loading":
        return True
    removed = tx.rows(
        "DELETE FROM delivery WHERE id IN (SELECT id FROM delivery WHERE content_id = ? LIMIT ?) RETURNING id",
        (campaign.content_id, limit),
    )
    if len(removed) == limit:
        return False
    tx.run("DELETE FROM tally WHERE campaign_id = ?", (campaign.id,))
    tx.run("DELETE FROM flow WHERE id = ?", (campaign.flow_id,))
    tx.run("DELETE FROM content WHERE id = ?", (campaign.content_id,))
    tx.run("DELETE FROM campaign WHERE id = ?", (campaign.id,))
    return True


def get(tx: Tx, campaign_id: int) -> Campaign | None:
    """One campaign."""
    row = tx.row(f"SELECT {_COLUMNS} FROM campaign WHERE id = ?", (campaign_id,))
    return Campaign(*row) if row else None


_HELD = for_update(f"SELECT {_COLUMNS} FROM campaign WHERE id = ?")


def held(tx: Tx, campaign_id: int) -> Campaign | None:
    """One campaign that nobody else changes before this commit: for whoever decides by what it is now."""
    row = tx.row(_HELD, (campaign_id,))
    return Campaign(*row) if row else None


def newest(tx: Tx, tenant_id: int, *, before: int | None, limit: int) -> list[Campaign]:
    """Sealed campaigns, newest first, with an id below ``before``."""
    rows = tx.rows(
        f"SELECT {_COLUMNS} FROM campaign WHERE tenant_id = ? AND id < ? AND state <> 'loading'"
        " ORDER BY id DESC LIMIT ?",
        (tenant_id, before or 1 << 62, limit),
    )
    return [Campaign(*row) for row in rows]


def in_state(tx: Tx, state: str) -> list[Campaign]:
    """Every campaign in a state."""
    rows = tx.rows(f"SELECT {_COLUMNS} FROM campaign WHERE state = ?", (state,))
    return [Campaign(*row) for row in rows]


def unfinished_cancelled(tx: Tx) -> list[Campaign]:
    """Cancelled campaigns that may still have queued deliveries."""
    rows = tx.rows(f"SELECT {_COLUMNS} FROM campaign WHERE state = 'cancelled' AND finished_ms IS NULL")
    return [Campaign(*row) for row in rows]


def tally(tx: Tx, campaign_id: int) -> dict[int, int]:
    """``DeliveryState (or DEFERRED_TALLY) -> deliveries``."""
    return tallies.of(tx, campaign_id)


def move(tx: Tx, campaign: Campaign, state: str, kind: str, *, now_ms: int, reason: str = "") -> None:
    """Set a campaign's state and write the event; the flow follows."""
    flow_state = {"paused": FlowState.PAUSED, "cancelled": FlowState.CANCELLED}.get(state, FlowState.ACTIVE)
    tx.run("UPDATE campaign SET state = ?, pause_reason = ? WHERE id = ?", (state, reason, campaign.id))
    set_flow_state(tx, campaign.flow_id, flow_state)
    data = None
    if reason:
        data = orjson.dumps({"reason": reason}).decode()
    append(tx, [EventRow(now_ms, campaign.tenant_id, kind, campaign.id, 0, data)])


def start_scheduled(tx: Tx, *campaign_ids: int, now_ms: int) -> None:
    """Say that campaigns have started, if that is still to be said: they may have been steered or have started meanwhile."""
    if not campaign_ids:
        return
    started = tx.rows(
        "UPDATE campaign SET state = 'sending' WHERE id = ANY (?) AND state = 'scheduled' RETURNING id, tenant_id",
        (list(campaign_ids),),
    )
    append(tx, [EventRow(now_ms, tenant, EventKind.CAMPAIGN_STARTED, one, 0, None) for one, tenant in started])


_DONE = (
    "SELECT id, tenant_id, state FROM campaign c WHERE state IN ('sending', 'scheduled', 'paused', 'cancelled')"
    " AND finished_ms IS NULL AND (SELECT coalesce(sum(n), 0) FROM tally WHERE campaign_id = c.id"
    f" AND state IN ({int(DeliveryState.QUEUED)}, {int(DeliveryState.LEASED)})) = 0"
)


def finish_where_done(tx: Tx, campaign_ids: Sequence[int], *, now_ms: int) -> list[int]:
    """Finish those of the campaigns that have nothing queued or leased any more.

    Two last commits of two processes at the same moment do not see each other: ``done`` finds what both left.
    """
    finished = []
    found = tx.rows(f"{_DONE} AND id = ANY (?)", (list(campaign_ids),)) if campaign_ids else []
    for campaign_id, tenant_id, state in sorted(found):
        if state == "cancelled":
            tx.run("UPDATE campaign SET finished_ms = ? WHERE id = ? AND finished_ms IS NULL", (now_ms, campaign_id))
        elif tx.run(
            "UPDATE campaign SET state = 'finished', finished_ms = ? WHERE id = ? AND state = ?",
            (now_ms, campaign_id, state),
        ):
            append(tx, [EventRow(now_ms, tenant_id, EventKind.CAMPAIGN_FINISHED, campaign_id, 0, None)])
            finished.append(campaign_id)
    return finished


def done(tx: Tx) -> list[int]:
    """Campaigns that have nothing left to do and are not finished yet."""
    return [int(row[0]) for row in tx.rows(_DONE)]


def set_rates(tx: Tx, campaign_id: int, rates: str) -> None:
    """The rates that a campaign keeps to from now on."""
    tx.run("UPDATE campaign SET rates = ? WHERE id = ?", (rates, campaign_id))
