"""The queue under every order of its verbs: after each step tallies are counts, events tell the states, no lease is shared."""

from __future__ import annotations

import random

import pytest

from mailfleet.policy.lifecycle import DeliveryState, FlowState
from mailfleet.store import queue, tenants
from mailfleet.store.database import Tx
from mailfleet.store.queue import Backlog, Claimed
from tests.store.rows import NOW_MS, check_laws, follow, new_delivery, running_campaign, settlement, states

S = DeliveryState
FLOWS = {50: 5, 51: 6, 52: 0}  # flow -> campaign; flow 52 holds single messages
OUTCOMES = [S.DELIVERED, S.DELIVERED, S.QUEUED, S.QUEUED, S.QUEUED, S.BOUNCED, S.EXPIRED, S.SUPPRESSED]


class World:
    """Two delivery processes that claim, settle, die and come too late, while people pause and cancel. ``rng`` says what is next."""

    def __init__(self, tx: Tx, rng: random.Random) -> None:
        self.rng = rng
        self.tx = tx
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

    def insert(self) -> None:
        flow_id = self.rng.choice(sorted(FLOWS))
        new = []
        for _ in range(self.rng.randint(1, 6)):
            self.count += 1
            new.append(
                new_delivery(
                    flow_id * 1000 + self.count,
                    flow_id=flow_id,
                    campaign_id=FLOWS[flow_id],
                    site_id=self.rng.choice([7, 7, 8, 0]),
                    priority=self.rng.choice([0, 10]),
                    due_ms=self.now_ms + self.rng.randint(-3, 3),
                    state=self.rng.choice([S.QUEUED] * 9 + [S.SUPPRESSED]),
                )
            )
        queue.insert(self.tx, new, now_ms=self.now_ms)

    def pause_or_resume(self) -> None:
        flow_id, state = self.rng.choice(sorted(FLOWS)), self.rng.choice([FlowState.ACTIVE, FlowState.PAUSED])
        if self.flow_states[flow_id] is not FlowState.CANCELLED:
            tenants.set_flow_state(self.tx, flow_id, state)
            self.flow_states[flow_id] = state

    def time_passes(self) -> None:
        self.now_ms += self.rng.randint(0, 4)

    def claim(self) -> None:
        waiting = queue.backlog(self.tx)
        if not waiting:
            return
        chosen, limit, lease = self.rng.choice(waiting), self.rng.randint(1, 6), self.rng.choice(self.leases)
        due = self.tx.rows(
            "SELECT id, due_ms FROM delivery WHERE state = 1 AND site_id = ? AND priority = ? AND flow_id = ?"
            " AND way = ? AND due_ms <= ?",
            (*chosen[:4], self.now_ms),
        )
        claimed = queue.claim(self.tx, chosen, limit=limit, now_ms=self.now_ms, lease_id=lease)
        if self.flow_states[chosen.flow_id] is not FlowState.ACTIVE:
            assert claimed == []
            return
        assert len(claimed) == min(limit, len(due))
        due_of: dict[int, int] = dict(row[:2] for row in due)
        assert sorted(due_of[one.id] for one in claimed) == sorted(due_of.values())[: len(claimed)]
        for one in claimed:
            assert not any(one.id in held for held in self.held.values()), "claimed twice"
            self.held[lease][one.id] = one

    def settle(self) -> None:
        lease = self.rng.choice(self.leases)
        some = list(self.held[lease].values())[: self.rng.randint(1, 5)]
        due_ms = self.now_ms + self.rng.randint(0, 3)
        batch = [settlement(one, self.rng.choice(OUTCOMES), due_ms=due_ms) for one in some]
        assert queue.settle(self.tx, batch, lease_id=lease, now_ms=self.now_ms) == []
        now = states(self.tx)
        for one in batch:
            del self.held[lease][one.claimed.id]
            assert now[one.claimed.id] is one.state

    def hand_back(self) -> None:
        lease = self.rng.choice(self.leases)
        left = list(self.held[lease].values())[: self.rng.randint(0, 4)]
        queue.hand_back(self.tx, left, lease_id=lease, now_ms=self.now_ms)
        for one in left:
            del self.held[lease][one.id]

    def die_and_be_released(self) -> None:
        which, limit = self.rng.randint(0, 1), self.rng.randint(1, 3)
        lease = self.leases[which]
        on_wire = frozenset(list(self.held[lease])[: self.rng.randint(0, 3)])
        while queue.release(self.tx, lease, now_ms=self.now_ms, on_wire=on_wire, limit=limit) == limit:
            check_laws(self.tx)
        self.late += [(lease, one) for one in self.held.pop(lease).values()]
        self.leases[which] = queue.new_lease(self.tx, f"deliver-{which}", which, 0)
        self.held[self.leases[which]] = {}

    def settle_too_late(self) -> None:
        if not self.late:
            return
        lease, one = self.late.pop(self.rng.randrange(len(self.late)))
        state = self.rng.choice(OUTCOMES)
        before = states(self.tx)
        assert len(queue.settle(self.tx, [settlement(one, state)], lease_id=lease, now_ms=self.now_ms)) == 1
        after = states(self.tx)
        assert after.pop(one.id) is (S.DELIVERED if state is S.DELIVERED else before.pop(one.id))
        before.pop(one.id, None)
        assert after == before
        if state is S.DELIVERED:  # whoever holds it now finds its lease gone, exactly as we did
            for holder, held in self.held.items():
                if one.id in held:
                    self.late.append((holder, held.pop(one.id)))

    def cancel(self) -> None:
        flow_id, limit = self.rng.choice([50, 51]), self.rng.randint(1, 5)
        if self.flow_states[flow_id] is not FlowState.CANCELLED and self.rng.random() < 0.9:
            return  # rarely, or nothing would be left to do
        tenants.set_flow_state(self.tx, flow_id, FlowState.CANCELLED)
        self.flow_states[flow_id] = FlowState.CANCELLED
        queued = "SELECT count(*) FROM delivery WHERE flow_id = ? AND state = 1"
        before = self.tx.value(queued, (flow_id,))
        count = queue.cancel(self.tx, flow_id, now_ms=self.now_ms, limit=limit)
        assert count == min(limit, before)
        assert self.tx.value(queued, (flow_id,)) == before - count

    def check(self) -> None:
        check_laws(self.tx)
        every = self.tx.rows(
            "SELECT site_id, priority, flow_id, way, min(due_ms) FROM delivery WHERE state = 1 AND site_id > 0"
            " GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
        )
        assert queue.backlog(self.tx) == [Backlog(*row) for row in every]
        for lease, held in self.held.items():
            rows = self.tx.rows("SELECT id FROM delivery WHERE state = 2 AND lease_id = ?", (lease,))
            assert {row[0] for row in rows} == set(held)


@pytest.mark.parametrize("seed", range(12))
def test_the_laws_hold_in_every_order(tx: Tx, seed: int) -> None:
    rng = random.Random(seed)
    world = World(tx, rng)
    often = [world.insert, world.claim, world.claim, world.claim, world.settle, world.settle, world.time_passes]
    rarely = [world.pause_or_resume, world.hand_back, world.die_and_be_released, world.settle_too_late, world.cancel]
    for _ in range(200):
        rng.choice(often * 2 + rarely)()
        world.check()
    reached = set(states(world.tx).values())
    assert len(reached) >= 4, "the run got about"


def test_follow_refuses_a_story_that_cannot_be() -> None:
    assert follow(["accepted", "deferred", "lease_released", "delivered"]) is S.DELIVERED
    for story in (
        ["delivered"],
        ["accepted", "delivered", "deferred"],
        ["accepted", "accepted"],
        ["suppressed", "lease_released"],
    ):
        with pytest.raises(AssertionError):
            follow(story)
