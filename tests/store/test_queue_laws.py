"""The queue under every order of its verbs: after each step tallies are counts, events tell the states, no lease is shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from mailfleet.policy.lifecycle import DeliveryState, FlowState
from mailfleet.store import queue, tenants
from mailfleet.store.database import _SqliteTx
from mailfleet.store.queue import Backlog, Claimed
from tests.store.rows import NOW_MS, check_laws, new_delivery, running_campaign, settlement, states
from tests.store.test_queue import memory_copy

S = DeliveryState
FLOWS = {50: 5, 51: 6, 52: 0}  # flow -> campaign; flow 52 holds single messages
OUTCOMES = st.sampled_from([S.DELIVERED, S.DELIVERED, S.QUEUED, S.QUEUED, S.BOUNCED, S.EXPIRED, S.SUPPRESSED])


class QueueMachine(RuleBasedStateMachine):
    """Two delivery processes that claim, settle, die and come too late, while people pause and cancel."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.connection = memory_copy(self.template)
        self.tx = _SqliteTx(self.connection)
        self.now_ms = NOW_MS
        self.count = 0
        self.flow_states = dict.fromkeys(FLOWS, FlowState.ACTIVE)
        for flow_id, campaign_id in FLOWS.items():
            if campaign_id:
                running_campaign(self.tx, campaign_id, flow_id, range(flow_id * 1000, flow_id * 1000 + 1000))
            else:
                stream = tenants.stream(self.tx, 1, "transactional")
                assert stream
                assert tenants.flow_of_stream(self.tx, stream, flow_id) == flow_id
        self.leases = [queue.new_lease(self.tx, f"deliver-{slot}", slot, 0) for slot in (0, 1)]
        self.held: dict[int, dict[int, Claimed]] = {lease: {} for lease in self.leases}
        self.late: list[tuple[int, Claimed]] = []  # what a process that lost its lease still believes to hold

    @rule(
        flow_id=st.sampled_from(sorted(FLOWS)),
        rows=st.lists(
            st.tuples(st.sampled_from([7, 7, 8, 0]), st.sampled_from([0, 10]), st.integers(-3, 3), st.booleans()),
            min_size=1,
            max_size=8,
        ),
    )
    def insert(self, flow_id: int, rows: list[tuple[int, int, int, bool]]) -> None:
        new = []
        for site_id, priority, due, suppressed in rows:
            self.count += 1
            new.append(
                new_delivery(
                    flow_id * 1000 + self.count,
                    flow_id=flow_id,
                    campaign_id=FLOWS[flow_id],
                    site_id=site_id,
                    priority=priority,
                    due_ms=self.now_ms + due,
                    state=S.SUPPRESSED if suppressed and due > 1 else S.QUEUED,
                )
            )
        queue.insert(self.tx, new, now_ms=self.now_ms)

    @rule(flow_id=st.sampled_from(sorted(FLOWS)), state=st.sampled_from([FlowState.ACTIVE, FlowState.PAUSED]))
    def pause_or_resume(self, flow_id: int, state: FlowState) -> None:
        if self.flow_states[flow_id] is not FlowState.CANCELLED:
            tenants.set_flow_state(self.tx, flow_id, state)
            self.flow_states[flow_id] = state

    @rule(step_ms=st.integers(0, 4))
    def time_passes(self, step_ms: int) -> None:
        self.now_ms += step_ms

    @rule(which=st.integers(0, 1), choice=st.integers(0, 50), limit=st.integers(2, 8))
    def claim(self, which: int, choice: int, limit: int) -> None:
        waiting = queue.backlog(self.tx)
        if not waiting:
            return
        chosen = waiting[choice % len(waiting)]
        due = [
            (row[1], row[0])
            for row in self.tx.rows(
                "SELECT id, due_ms FROM delivery WHERE state = 1 AND site_id = ? AND priority = ? AND flow_id = ?"
                " AND tried = ? AND due_ms <= ?",
                (*chosen[:4], self.now_ms),
            )
        ]
        claimed = queue.claim(self.tx, chosen, limit=limit, now_ms=self.now_ms, lease_id=self.leases[which])
        if self.flow_states[chosen.flow_id] is not FlowState.ACTIVE:
            assert claimed == []
            return
        assert len(claimed) == min(limit, len(due))
        due_of = {delivery_id: due_ms for due_ms, delivery_id in due}
        assert sorted(due_of[one.id] for one in claimed) == sorted(due_ms for due_ms, _ in due)[: len(claimed)]
        for one in claimed:
            assert not any(one.id in held for held in self.held.values()), "claimed twice"
            self.held[self.leases[which]][one.id] = one

    @rule(which=st.integers(0, 1), outcomes=st.lists(OUTCOMES, min_size=1, max_size=5), due=st.integers(0, 2))
    def settle(self, which: int, outcomes: list[DeliveryState], due: int) -> None:
        lease = self.leases[which]
        batch = [
            settlement(one, state, due_ms=self.now_ms + due)
            for one, state in zip(list(self.held[lease].values()), outcomes, strict=False)
        ]
        assert queue.settle(self.tx, batch, lease_id=lease, now_ms=self.now_ms) == []
        now = states(self.tx)
        for one in batch:
            del self.held[lease][one.claimed.id]
            assert now[one.claimed.id] is one.state

    @rule(which=st.integers(0, 1), count=st.integers(1, 4))
    def hand_back(self, which: int, count: int) -> None:
        lease = self.leases[which]
        left = list(self.held[lease].values())[:count]
        queue.hand_back(self.tx, left, lease_id=lease, now_ms=self.now_ms)
        for one in left:
            del self.held[lease][one.id]

    @rule(which=st.integers(0, 1), limit=st.integers(1, 3), wire=st.integers(0, 3))
    def die_and_be_released(self, which: int, limit: int, wire: int) -> None:
        lease = self.leases[which]
        on_wire = frozenset(list(self.held[lease])[:wire])
        while queue.release(self.tx, lease, now_ms=self.now_ms, on_wire=on_wire, limit=limit) == limit:
            check_laws(self.tx)
        self.late += [(lease, one) for one in self.held.pop(lease).values()]
        self.leases[which] = queue.new_lease(self.tx, f"deliver-{which}", which, 0)
        self.held[self.leases[which]] = {}

    @precondition(lambda self: self.late)
    @rule(choice=st.integers(0, 50), state=OUTCOMES)
    def settle_too_late(self, choice: int, state: DeliveryState) -> None:
        lease, one = self.late.pop(choice % len(self.late))
        before = states(self.tx)
        assert len(queue.settle(self.tx, [settlement(one, state)], lease_id=lease, now_ms=self.now_ms)) == 1
        after = states(self.tx)
        assert after.pop(one.id) is (S.DELIVERED if state is S.DELIVERED else before[one.id])
        del before[one.id]
        assert after == before
        if state is S.DELIVERED:
            # Whoever holds it now finds its lease gone, exactly as we did.
            for holder, held in self.held.items():
                if one.id in held:
                    self.late.append((holder, held.pop(one.id)))

    @rule(flow_id=st.sampled_from([50, 51]), limit=st.integers(1, 5))
    def cancel(self, flow_id: int, limit: int) -> None:
        tenants.set_flow_state(self.tx, flow_id, FlowState.CANCELLED)
        self.flow_states[flow_id] = FlowState.CANCELLED
        queued = "SELECT count(*) FROM delivery WHERE flow_id = ? AND state = 1"
        before = self.tx.value(queued, (flow_id,))
        count = queue.cancel(self.tx, flow_id, now_ms=self.now_ms, limit=limit)
        assert count == min(limit, before)
        assert self.tx.value(queued, (flow_id,)) == before - count

    @invariant()
    def laws_hold(self) -> None:
        check_laws(self.tx)

    @invariant()
    def the_backlog_is_what_is_queued(self) -> None:
        every = self.tx.rows(
            "SELECT site_id, priority, flow_id, tried, min(due_ms) FROM delivery WHERE state = 1 AND site_id > 0"
            " GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
        )
        assert queue.backlog(self.tx) == [Backlog(*row) for row in every]

    @invariant()
    def leased_is_what_is_held(self) -> None:
        for lease, held in self.held.items():
            rows = self.tx.rows("SELECT id FROM delivery WHERE state = 2 AND lease_id = ?", (lease,))
            assert {row[0] for row in rows} == set(held)

    def teardown(self) -> None:
        self.connection.close()


def test_the_laws_hold_in_every_order(upgraded: Path) -> None:
    machine: Any = type("Machine", (QueueMachine,), {"template": upgraded})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_follow_refuses_a_story_that_cannot_be() -> None:
    from tests.store.rows import follow

    assert follow(["accepted", "deferred", "lease_released", "delivered"]) is S.DELIVERED
    for story in (
        ["delivered"],
        ["accepted", "delivered", "deferred"],
        ["accepted", "accepted"],
        ["suppressed", "lease_released"],
    ):
        with pytest.raises(AssertionError):
            follow(story)
