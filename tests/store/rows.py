"""Rows to begin with: a flow and deliveries in it, and the laws that must hold of whatever was done to them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from mailfleet.policy.lifecycle import MOVES, DeliveryState, EventKind, FlowState, move
from mailfleet.store import campaigns, queue, tenants
from mailfleet.store.campaigns import Campaign
from mailfleet.store.database import Tx

TENANT = tenants.DEFAULT_TENANT
NOW_MS = 1_800_000_000_000
CONTENT = 900


def new_campaign(campaign_id: int, flow_id: int, state: str = "loading", **values: object) -> Campaign:
    """A campaign row with its defaults."""
    row = Campaign(
        id=campaign_id,
        tenant_id=TENANT,
        flow_id=flow_id,
        content_id=CONTENT + campaign_id,
        name=f"campaign {campaign_id}",
        stream="bulk",
        state=state,
        rows=0,
        invalid=0,
        duplicates=0,
        first_delivery_id=0,
        last_delivery_id=0,
        told_to_id=0,
        created_ms=NOW_MS,
        send_at_ms=None,
        finished_ms=None,
        pause_reason="",
    )
    return row._replace(**values)  # type: ignore[arg-type]  # names and types are the caller's care


def running_campaign(tx: Tx, campaign_id: int, flow_id: int, ids: Sequence[int], *, weight: int = 1) -> Campaign:
    """A campaign that sends, whose deliveries have these ids (inserted by the caller)."""
    made = new_campaign(campaign_id, flow_id, "sending")._replace(
        first_delivery_id=min(ids), last_delivery_id=max(ids), rows=len(ids)
    )
    campaigns.start_loading(tx, made, stream_id=2, priority=10, weight=weight)
    tenants.set_flow_state(tx, flow_id, FlowState.ACTIVE)
    return made


def new_delivery(delivery_id: int, **values: object) -> queue.NewDelivery:
    """A queued delivery of flow 50, site 7, domain 3."""
    row = queue.NewDelivery(
        id=delivery_id,
        tenant_id=TENANT,
        flow_id=50,
        campaign_id=0,
        content_id=CONTENT,
        priority=10,
        domain_id=3,
        site_id=7,
        state=DeliveryState.QUEUED,
        due_ms=NOW_MS,
        expires_ms=NOW_MS + 86_400_000,
        accepted_ms=NOW_MS,
        address=f"user{delivery_id}@example.org",
        address_key=f"user{delivery_id}@example.org",
        fields=None,
        envelope=None,
    )
    return row._replace(**values)  # type: ignore[arg-type]  # names and types are the caller's care


def settlement(
    claimed: queue.Claimed, state: DeliveryState, *, due_ms: int = NOW_MS, bounce_class: str = "x"
) -> queue.Settlement:
    """What came of an attempt."""
    return queue.Settlement(claimed, state, claimed.attempts + 1, due_ms, bounce_class, "said so", '{"attempt":1}')


def states(tx: Tx) -> dict[int, DeliveryState]:
    """Every delivery's state."""
    return {row[0]: DeliveryState(row[1]) for row in tx.rows("SELECT id, state FROM delivery")}


def kinds(tx: Tx, delivery_id: int) -> list[str]:
    """The events of a delivery, oldest first."""
    return [row[0] for row in tx.rows("SELECT kind FROM event WHERE delivery_id = ? ORDER BY id", (delivery_id,))]


def check_laws(tx: Tx) -> None:
    """What holds at every instant, whatever was done: tallies are counts, and the events alone lead to the state."""
    counted: Counter[tuple[int, int]] = Counter()
    for campaign_id, state, n in tx.rows("SELECT campaign_id, state, count(*) FROM delivery GROUP BY 1, 2"):
        counted[campaign_id, state] = n
    for campaign_id, n in tx.rows(
        "SELECT campaign_id, count(*) FROM delivery WHERE state = 1 AND attempts > 0 GROUP BY 1"
    ):
        counted[campaign_id, queue.DEFERRED_TALLY] = n
    for key in [key for key in counted if not key[0]]:
        del counted[key]
    tallied = Counter(
        {
            (row[0], row[1]): row[2]
            for row in tx.rows("SELECT campaign_id, state, sum(n) FROM tally GROUP BY 1, 2 HAVING sum(n) <> 0")
        }
    )
    assert tallied == counted
    assert not tx.value("SELECT count(*) FROM delivery WHERE (state = 2) <> (lease_id <> 0)"), (
        "a lease without a holder"
    )
    told: dict[int, list[str]] = defaultdict(list)
    for delivery_id, kind in tx.rows("SELECT delivery_id, kind FROM event WHERE delivery_id <> 0 ORDER BY id"):
        told[delivery_id].append(kind)
    for delivery_id, state in states(tx).items():
        assert follow(told[delivery_id]) == (DeliveryState.QUEUED if state is DeliveryState.LEASED else state)


def follow(told: Sequence[str]) -> DeliveryState | None:
    """The state that these events lead to, every one a legal move; leasing is silent, so leased counts as queued."""
    state: DeliveryState | None = None
    for kind in told:
        if kind in (EventKind.DSN_SENT, EventKind.SUPPRESSION_ADDED):
            continue
        state = _after(state, kind)
    return state


def _after(state: DeliveryState | None, kind: str) -> DeliveryState:
    starts = [state] if state is not DeliveryState.QUEUED else [DeliveryState.LEASED, DeliveryState.QUEUED]
    if kind in (EventKind.LEASE_RELEASED, EventKind.REPEAT_POSSIBLE):
        assert state is DeliveryState.QUEUED
        on_wire = kind == EventKind.REPEAT_POSSIBLE
        assert move(DeliveryState.LEASED, DeliveryState.QUEUED, attempted=False, on_wire=on_wire) == kind
        return DeliveryState.QUEUED
    for (start, end), written in MOVES.items():
        if start in starts and written == kind:
            return end
    raise AssertionError(f"{kind} cannot follow {state}")
