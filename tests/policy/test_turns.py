"""Turns: the room of a lane is shared by weight, wholly and fairly over time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailfleet.policy.turns import shares, shares_by_tenant

WEIGHTS = st.lists(st.integers(1, 20), min_size=1, max_size=12)


def test_equal_flows_get_equal_parts() -> None:
    assert shares(10, [1, 1], 0) == [5, 5]
    assert shares(12, [1, 2, 3], 7) == [2, 4, 6]


def test_nothing_to_share() -> None:
    assert shares(0, [1, 2], 0) == [0, 0]
    assert shares(-3, [1, 2], 0) == [0, 0]
    assert shares(5, [], 0) == []


def test_a_weight_below_one_counts_as_one() -> None:
    assert shares(6, [0, -4, 1], 0) == [2, 2, 2]


@given(st.integers(0, 300), WEIGHTS, st.integers(0, 10_000))
def test_the_room_is_used_whole_and_no_more(room: int, weights: list[int], turn: int) -> None:
    parts = shares(room, weights, turn)
    assert sum(parts) == room
    for part, weight in zip(parts, weights, strict=True):
        assert room * weight // sum(weights) <= part <= room * weight // sum(weights) + 1


@given(st.integers(1, 20), WEIGHTS)
def test_over_a_round_of_turns_nobody_is_passed_over(room: int, weights: list[int]) -> None:
    served = [0] * len(weights)
    for turn in range(len(weights)):
        served = [a + b for a, b in zip(served, shares(room, weights, turn), strict=True)]
    assert all(served)
    heaviest, lightest = max(served), min(served)
    if len(set(weights)) == 1:
        assert heaviest == lightest


def test_a_tenant_gains_nothing_by_more_campaigns() -> None:
    assert shares_by_tenant(12, [(1, 1), (2, 1), (2, 1), (2, 1)], 0) == [6, 2, 2, 2]
    assert shares_by_tenant(12, [(1, 1), (2, 1), (2, 2)], 0) == [6, 2, 4]
    assert shares_by_tenant(5, [], 0) == []


@given(st.integers(0, 300), st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), max_size=12), st.integers(0, 99))
def test_the_room_of_tenants_is_used_whole(room: int, flows: list[tuple[int, int]], turn: int) -> None:
    assert sum(shares_by_tenant(room, flows, turn)) == (room if flows else 0)
