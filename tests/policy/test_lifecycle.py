"""The lifecycle table: what may follow what, and which event each move writes."""

from __future__ import annotations

import pytest

from mailfleet.policy.lifecycle import (
    MOVES,
    SILENT_MOVES,
    DeliveryState,
    EventKind,
    FlowState,
    effective_state,
    move,
)

S = DeliveryState
FINAL = {S.DELIVERED, S.BOUNCED, S.EXPIRED, S.CANCELLED, S.SUPPRESSED}


def test_stored_numbers_and_words_never_change() -> None:
    assert {state.word: int(state) for state in S} == {
        "queued": 1,
        "leased": 2,
        "delivered": 3,
        "bounced": 4,
        "expired": 5,
        "cancelled": 6,
        "suppressed": 7,
        "paused": 8,
    }
    assert {state.name: int(state) for state in FlowState} == {"LOADING": 1, "ACTIVE": 2, "PAUSED": 3, "CANCELLED": 4}


@pytest.mark.parametrize(
    ("from_state", "to_state", "kind"),
    [
        (None, S.QUEUED, "accepted"),
        (None, S.SUPPRESSED, "suppressed"),
        (S.LEASED, S.QUEUED, "deferred"),
        (S.LEASED, S.DELIVERED, "delivered"),
        (S.LEASED, S.BOUNCED, "bounced"),
        (S.LEASED, S.EXPIRED, "expired"),
        (S.QUEUED, S.CANCELLED, "cancelled"),
        (S.QUEUED, S.PAUSED, "paused"),
        (S.PAUSED, S.QUEUED, "resumed"),
        (S.EXPIRED, S.DELIVERED, "delivered"),
    ],
)
def test_each_move_writes_its_event(from_state: S | None, to_state: S, kind: str) -> None:
    assert move(from_state, to_state) == kind


def test_a_lease_given_back_is_not_a_deferral() -> None:
    assert move(S.LEASED, S.QUEUED, attempted=False) is EventKind.LEASE_RELEASED
    assert move(S.LEASED, S.QUEUED, attempted=False, on_wire=True) is EventKind.REPEAT_POSSIBLE


def test_every_pair_outside_the_table_is_a_bug() -> None:
    for from_state in [None, *S]:
        for to_state in S:
            if (from_state, to_state) not in MOVES:
                with pytest.raises(ValueError, match=to_state.word):
                    move(from_state, to_state)
    assert not SILENT_MOVES & MOVES.keys()


def test_a_final_state_is_left_only_by_a_delivery_that_had_happened_already() -> None:
    assert {state for state in S if state.final} == FINAL
    left = {pair for pair in MOVES if pair[0] in FINAL}
    assert {to_state for _, to_state in left} == {S.DELIVERED}
    assert (S.DELIVERED, S.DELIVERED) not in left


def test_every_state_is_reachable_and_every_waiting_state_can_end() -> None:
    moves = MOVES.keys() | SILENT_MOVES
    assert {to_state for _, to_state in moves} == set(S)
    for state in set(S) - FINAL:
        assert any(pair[0] is state and pair[1] in FINAL for pair in moves)


@pytest.mark.parametrize("state", list(S))
@pytest.mark.parametrize("flow_state", [None, *FlowState])
def test_a_flow_shows_only_on_its_queued_deliveries(state: S, flow_state: FlowState | None) -> None:
    shown = {FlowState.PAUSED: S.PAUSED, FlowState.CANCELLED: S.CANCELLED}
    expected = shown.get(flow_state, state) if state is S.QUEUED and flow_state is not None else state
    assert effective_state(state, flow_state) is expected
