"""The queue, verb by verb: what is claimed, in which order, and what becomes of a lease."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mailfleet.policy.lifecycle import DeliveryState, FlowState
from mailfleet.store import campaigns, queue, tally, tenants, whole
from mailfleet.store.database import Tx
from mailfleet.store.queue import Backlog
from mailfleet.store.statements import Pair, Sql, for_sqlite
from tests.store.rows import NOW_MS, TENANT, check_laws, kinds, new_delivery, running_campaign, settlement, states

S = DeliveryState
HERE = Backlog(7, 10, 50, 0, 0)


@pytest.fixture(name="tx")
def filled(tx: Tx) -> Iterator[Tx]:
    """One transaction's worth of a database, checked against the laws at the end; flow 50 is campaign 5's."""
    running_campaign(tx, 5, 50, range(1, 1000))
    yield tx
    check_laws(tx)


def insert(tx: Tx, *ids: int, **values: object) -> None:
    queue.insert(tx, [new_delivery(one, campaign_id=5, **values) for one in ids], now_ms=NOW_MS)


def claim(
    tx: Tx, limit: int = 100, *, backlog: Backlog = HERE, now_ms: int = NOW_MS, lease: int = 1
) -> list[queue.Claimed]:
    return queue.claim(tx, backlog, limit=limit, now_ms=now_ms, lease_id=lease)


def test_what_is_inserted_is_told_and_counted(tx: Tx) -> None:
    insert(tx, 1, 2)
    insert(tx, 3, state=S.SUPPRESSED, reason="hard-bounce: 550 no")
    assert kinds(tx, 1) == ["accepted"]
    assert kinds(tx, 3) == ["suppressed"]
    assert tx.value("SELECT data FROM event WHERE delivery_id = 3") == '{"reason":"hard-bounce: 550 no"}'
    assert campaigns.tally(tx, 5) == {S.QUEUED: 2, S.SUPPRESSED: 1}


def test_single_messages_are_not_tallied(tx: Tx) -> None:
    queue.insert(tx, [new_delivery(1)], now_ms=NOW_MS)
    assert tx.rows("SELECT * FROM tally") == []


def test_claims_take_what_is_due_oldest_first_up_to_the_limit(tx: Tx) -> None:
    for number, due_ms in ((1, 0), (2, -5), (3, 1), (4, -9), (5, -1)):
        insert(tx, number, due_ms=NOW_MS + due_ms)
    assert {one.id for one in claim(tx, 2)} == {4, 2}
    assert {one.id for one in claim(tx)} == {5, 1}
    assert claim(tx) == []
    assert [one.id for one in claim(tx, now_ms=NOW_MS + 1)] == [3]


def test_a_claim_carries_all_that_an_attempt_needs(tx: Tx) -> None:
    insert(
        tx,
        1,
        fields='{"name":"Ann"}',
        envelope='{"submitted":true}',
        address='"a b"@example.org',
        accepted_ms=NOW_MS - 5,
    )
    (one,) = claim(tx)
    assert one == queue.Claimed(
        id=1,
        tenant_id=TENANT,
        flow_id=50,
        campaign_id=5,
        content_id=900,
        domain_id=3,
        site_id=7,
        attempts=0,
        accepted_ms=NOW_MS - 5,
        expires_ms=NOW_MS + 86_400_000,
        address='"a b"@example.org',
        address_key="user1@example.org",
        fields='{"name":"Ann"}',
        envelope='{"submitted":true}',
        egress_id=1,
    )
    assert kinds(tx, 1) == ["accepted"], "leasing is silent"


@pytest.mark.parametrize("state", [FlowState.LOADING, FlowState.PAUSED, FlowState.CANCELLED])
def test_a_flow_that_does_not_run_is_not_claimed(tx: Tx, state: FlowState) -> None:
    insert(tx, 1)
    tenants.set_flow_state(tx, 50, state)
    assert claim(tx) == []
    tenants.set_flow_state(tx, 50, FlowState.ACTIVE)
    assert len(claim(tx)) == 1


def test_many_backlogs_are_claimed_at_once(tx: Tx) -> None:
    running_campaign(tx, 6, 60, [100])
    insert(tx, 1, 2, 3)
    insert(tx, 4, priority=0)
    queue.insert(tx, [new_delivery(100, campaign_id=6, flow_id=60)], now_ms=NOW_MS)
    queue.insert(tx, [new_delivery(200, campaign_id=0, flow_id=61)], now_ms=NOW_MS)
    wanted = [(HERE, 2), (HERE._replace(flow_id=61), 5), (HERE._replace(priority=0), 5), (HERE._replace(flow_id=60), 5)]
    orders = [queue.Order(backlog, 1, limit) for backlog, limit in wanted]
    found = queue.claim_many(tx, orders, now_ms=NOW_MS, lease_id=3)
    assert [[one.id for one in some] for some in found] == [[1, 2], [], [4], [100]]
    assert campaigns.tally(tx, 5) == {S.QUEUED: 1, S.LEASED: 3}
    assert campaigns.tally(tx, 6) == {S.QUEUED: 0, S.LEASED: 1}
    assert sorted(queue.leased_ids(tx, 3)) == [1, 2, 4, 100]
    assert queue.leased_ids(tx, 4) == []
    assert queue.claim_many(tx, [], now_ms=NOW_MS, lease_id=3) == []
    again = [queue.Order(HERE, 1, 1), queue.Order(HERE._replace(due_ms=9), 1, 1)]
    with pytest.raises(AssertionError, match="twice"):
        queue.claim_many(tx, again, now_ms=NOW_MS, lease_id=3)


@pytest.mark.parametrize(("there", "dealt"), [(20, (12, 4)), (8, (6, 2)), (1, (1, 0))])
def test_what_several_ways_out_claim_is_dealt_to_them(tx: Tx, there: int, dealt: tuple[int, int]) -> None:
    insert(tx, *range(1, there + 1))
    orders = [queue.Order(HERE, 7, 12), queue.Order(HERE, 8, 4)]
    first, second = queue.claim_many(tx, orders, now_ms=NOW_MS, lease_id=3)
    assert (len(first), len(second)) == dealt
    assert {one.egress_id for one in first} <= {7}
    assert {one.egress_id for one in second} <= {8}
    stored: Any = tx.rows("SELECT id, egress_id FROM delivery WHERE state = 2")
    assert dict(stored) == {one.id: one.egress_id for one in (*first, *second)}
    if there == 20:
        assert 1 < min(one.id for one in second) < 5, "neither is served only after the other"


def test_settling_again_changes_nothing(tx: Tx) -> None:
    """Whoever does not know whether a batch was committed settles it once more."""
    insert(tx, *range(1, 6))
    ends = [S.DELIVERED, S.BOUNCED, S.QUEUED, S.EXPIRED, S.SUPPRESSED]
    batch = [settlement(one, state, due_ms=NOW_MS + 9) for one, state in zip(claim(tx), ends, strict=True)]
    assert queue.settle(tx, batch, lease_id=1, now_ms=NOW_MS) == []
    before = states(tx), campaigns.tally(tx, 5), tx.value("SELECT count(*) FROM event")
    assert len(queue.settle(tx, batch, lease_id=1, now_ms=NOW_MS + 1)) == 5
    assert (states(tx), campaigns.tally(tx, 5), tx.value("SELECT count(*) FROM event")) == before


def test_claims_stay_in_their_own_backlog(tx: Tx) -> None:
    insert(tx, 1)
    insert(tx, 2, site_id=8)
    insert(tx, 3, priority=0)
    assert [one.id for one in claim(tx, backlog=HERE._replace(site_id=8))] == [2]
    assert [one.id for one in claim(tx, backlog=HERE._replace(priority=0))] == [3]
    assert claim(tx, backlog=HERE._replace(flow_id=51)) == []
    assert claim(tx, backlog=HERE._replace(way=1)) == []
    assert [one.id for one in claim(tx)] == [1]


def test_a_deferral_comes_back_when_it_is_due_and_as_a_retry(tx: Tx) -> None:
    insert(tx, 1)
    queue.settle(tx, [settlement(claim(tx)[0], S.QUEUED, due_ms=NOW_MS + 60)], lease_id=1, now_ms=NOW_MS)
    assert kinds(tx, 1) == ["accepted", "deferred"]
    assert campaigns.tally(tx, 5)[queue.DEFERRED_TALLY] == 1
    assert queue.backlog(tx) == [Backlog(7, 10, 50, 1, NOW_MS + 60)]
    retries = queue.backlog(tx)[0]
    assert claim(tx, backlog=retries) == []
    (again,) = claim(tx, backlog=retries, now_ms=NOW_MS + 60)
    assert again.attempts == 1
    assert campaigns.tally(tx, 5)[queue.DEFERRED_TALLY] == 0


@pytest.mark.parametrize(
    ("state", "kind"),
    [(S.DELIVERED, "delivered"), (S.BOUNCED, "bounced"), (S.EXPIRED, "expired"), (S.SUPPRESSED, "suppressed")],
)
def test_an_end_is_told_once(tx: Tx, state: S, kind: str) -> None:
    insert(tx, 1)
    (one,) = claim(tx)
    assert queue.settle(tx, [settlement(one, state)], lease_id=1, now_ms=NOW_MS + 9) == []
    assert kinds(tx, 1) == ["accepted", kind]
    assert tx.row("SELECT at_ms, data FROM event WHERE kind = ?", (kind,)) == (NOW_MS + 9, '{"attempt":1}')
    assert tx.row("SELECT attempts, bounce_class, reason FROM delivery WHERE id = 1") == (1, "x", "said so")
    lost = queue.settle(tx, [settlement(one, S.BOUNCED)], lease_id=1, now_ms=NOW_MS)
    assert [gone.claimed.id for gone in lost] == [1]
    assert kinds(tx, 1) == ["accepted", kind]


def test_an_end_that_is_settled_twice_in_one_batch_counts_once(tx: Tx) -> None:
    insert(tx, 1)
    (one,) = claim(tx)
    twice = [settlement(one, S.QUEUED), settlement(one, S.QUEUED)]
    assert [gone.claimed.id for gone in queue.settle(tx, twice, lease_id=1, now_ms=NOW_MS)] == [1]
    assert kinds(tx, 1) == ["accepted", "deferred"]
    assert {state: n for state, n in tally.of(tx, 5).items() if n} == {S.QUEUED: 1, tally.DEFERRED: 1}


def test_what_was_not_tried_goes_back_as_it_was(tx: Tx) -> None:
    insert(tx, 1, 2, due_ms=NOW_MS - 7)
    held = claim(tx)
    queue.hand_back(tx, held, lease_id=1, now_ms=NOW_MS)
    queue.hand_back(tx, held, lease_id=1, now_ms=NOW_MS)
    assert kinds(tx, 1) == ["accepted", "lease_released"]
    assert tx.row("SELECT state, due_ms, attempts, lease_id FROM delivery WHERE id = 1") == (S.QUEUED, NOW_MS - 7, 0, 0)


def test_another_lease_cannot_settle_or_hand_back(tx: Tx) -> None:
    insert(tx, 1)
    held = claim(tx, lease=1)
    queue.hand_back(tx, held, lease_id=2, now_ms=NOW_MS)
    assert queue.settle(tx, [settlement(held[0], S.BOUNCED)], lease_id=2, now_ms=NOW_MS)
    assert states(tx) == {1: S.LEASED}


def test_a_dead_lease_is_released_in_steps_and_then_gone(tx: Tx) -> None:
    lease = queue.new_lease(tx, "deliver-0", 0, NOW_MS)
    insert(tx, *range(1, 6))
    claim(tx, lease=lease)
    assert queue.release(tx, lease, now_ms=NOW_MS, on_wire=frozenset({2}), limit=3) == 3
    assert queue.leases_of_slot(tx, 0, but=0) == [lease]
    assert queue.release(tx, lease, now_ms=NOW_MS, on_wire=frozenset({2}), limit=3) == 2
    assert queue.leases_of_slot(tx, 0, but=0) == []
    assert queue.release(tx, lease, now_ms=NOW_MS) == 0
    assert [kinds(tx, one)[-1] for one in range(1, 6)] == ["lease_released", "repeat_possible", *["lease_released"] * 3]


def test_leases_show_signs_of_life(tx: Tx) -> None:
    first = queue.new_lease(tx, "deliver-0", 0, NOW_MS + 10)
    second = queue.new_lease(tx, "deliver-1", 1, NOW_MS + 20)
    assert queue.ended_leases(tx, NOW_MS + 10) == [(first, 0)]
    assert queue.renew_lease(tx, first, NOW_MS + 100)
    assert queue.ended_leases(tx, NOW_MS + 20) == [(second, 1)]
    assert queue.leases_of_slot(tx, 0, but=first) == []
    queue.release(tx, second, now_ms=NOW_MS)
    assert not queue.renew_lease(tx, second, NOW_MS)
    third = queue.new_lease(tx, "deliver-1", 1, NOW_MS)
    assert third > second, "the number of a lease that was never comes back"


@pytest.mark.parametrize(
    "meanwhile", ["queued", "deferred", "leased by another", "cancelled", "bounced by another", "delivered by another"]
)
def test_a_250_that_was_read_counts_whatever_was_decided_meanwhile(tx: Tx, meanwhile: str) -> None:
    lease = queue.new_lease(tx, "deliver-0", 0, NOW_MS)
    insert(tx, 1)
    (one,) = claim(tx, lease=lease)
    queue.release(tx, lease, now_ms=NOW_MS)
    if meanwhile == "cancelled":
        tenants.set_flow_state(tx, 50, FlowState.CANCELLED)
        assert queue.cancel(tx, 50, now_ms=NOW_MS) == 1
    elif meanwhile != "queued":
        (other,) = claim(tx, lease=77)
        state = {"deferred": S.QUEUED, "bounced by another": S.BOUNCED, "delivered by another": S.DELIVERED}.get(
            meanwhile
        )
        if state:
            assert not queue.settle(tx, [settlement(other, state)], lease_id=77, now_ms=NOW_MS)
    before = kinds(tx, 1)
    lost = queue.settle(tx, [settlement(one, S.DELIVERED)], lease_id=lease, now_ms=NOW_MS)
    assert [gone.claimed.id for gone in lost] == [1]
    assert states(tx) == {1: S.DELIVERED}
    assert kinds(tx, 1) == before + (["delivered"] if meanwhile != "delivered by another" else [])


def test_any_other_late_outcome_is_left_to_who_holds_it_now(tx: Tx) -> None:
    lease = queue.new_lease(tx, "deliver-0", 0, NOW_MS)
    insert(tx, 1)
    (one,) = claim(tx, lease=lease)
    queue.release(tx, lease, now_ms=NOW_MS)
    claim(tx, lease=77)
    for state in (S.BOUNCED, S.QUEUED, S.EXPIRED):
        assert queue.settle(tx, [settlement(one, state)], lease_id=lease, now_ms=NOW_MS)
    assert states(tx) == {1: S.LEASED}
    assert [left.id for left in queue.leased_by(tx, 77, [1, 2])] == [1]
    assert queue.leased_by(tx, lease, [1]) == []


def test_cancelling_takes_what_is_queued_in_steps_and_nothing_else(tx: Tx) -> None:
    insert(tx, *range(1, 8))
    running_campaign(tx, 6, 60, [100])
    queue.insert(tx, [new_delivery(100, campaign_id=6, flow_id=60)], now_ms=NOW_MS)
    held = claim(tx, 2)
    queue.settle(tx, [settlement(held[0], S.QUEUED, due_ms=NOW_MS + 99)], lease_id=1, now_ms=NOW_MS)
    tenants.set_flow_state(tx, 50, FlowState.CANCELLED)
    assert [queue.cancel(tx, 50, now_ms=NOW_MS, limit=4) for _ in range(3)] == [4, 2, 0]
    found = states(tx)
    assert found.pop(100) is S.QUEUED
    assert found.pop(held[1].id) is S.LEASED
    assert set(found.values()) == {S.CANCELLED}
    queue.settle(tx, [settlement(held[1], S.QUEUED)], lease_id=1, now_ms=NOW_MS)
    assert queue.cancel(tx, 50, now_ms=NOW_MS) == 1, "what comes back from an attempt is cancelled too"


def test_a_deferral_has_its_domain_looked_up_again_in_time(tx: Tx) -> None:
    tx.run("INSERT INTO mail_domain (id, name, site_id, next_locate_ms) VALUES (3, 'example.org', 7, 0)")
    insert(tx, 1)
    queue.settle(tx, [settlement(claim(tx)[0], S.QUEUED)], lease_id=1, now_ms=NOW_MS)
    assert tx.value("SELECT next_locate_ms FROM mail_domain WHERE id = 3") == 1


def plan(tx: Tx, sql: Sql, *params: object) -> list[str]:
    """What the engine says it would do, step by step."""
    if tx.engine == "sqlite":
        text = for_sqlite(sql)
        return [str(row[3]) for row in tx.rows(f"EXPLAIN QUERY PLAN {text}", [0] * text.count("?"))]
    return [str(row[0]) for row in tx.rows(f"EXPLAIN {sql.postgres if isinstance(sql, Pair) else sql}", params)]


def test_claiming_and_looking_never_walk_the_queue(tx: Tx) -> None:
    """The plan seeks: what it costs does not grow with what is queued."""
    insert(tx, *range(1, 900))
    claim(tx, 800)
    asked: list[tuple[Sql, list[Any]]] = [(queue._BACKLOG, [])]
    if tx.engine == "sqlite":
        texts = (
            whole._DUE_IDS.replace("?5", "?").replace("?6", "?"),
            whole._LEASE,
            whole._READ,
            whole._HELD,
            whole._SETTLE,
        )
        asked += [(sql, []) for sql in texts]
    else:
        asked += [(whole._CLAIM, [[0]] * 8), (whole._SETTLE, [[0]] * 3 + [["x"]] * 2 + [[0]] * 3)]
    for sql, params in asked:
        steps = plan(tx, sql, *params)
        walks = [step for step in steps if step.startswith("SCAN delivery") or "delivery_lease" in step]
        assert all(
            "USING COVERING INDEX delivery_claim" in step or "USING INDEX delivery_claim" in step for step in walks
        )
        assert len(walks) <= 1, steps  # the first step of the backlog, which stops at its first row
        assert not [step for step in steps if "TEMP B-TREE" in step or "Seq Scan on delivery" in step], steps
