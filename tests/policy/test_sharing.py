"""Splitting a site over processes: limits stay exact, and only who is overwhelmed by one site asks for help."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.policy.sharing import Load, part_of, place_of, wants_help

BUSY = Load(cpu_s=1.9, wall_s=2.0, settled=1000, lane_settled=900)


@given(st.integers(0, 500), st.integers(1, 64), st.integers(0, 10_000))
def test_the_parts_add_up_and_nobody_stands_twice(total: int, slots: int, site_id: int) -> None:
    places = [place_of(slot, site_id, slots) for slot in range(slots)]
    assert sorted(places) == list(range(slots))
    assert places[site_id % slots] == 0, "the owner comes first"
    parts = [part_of(total, slots, place) for place in places]
    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1


def test_one_site_that_fills_a_core_is_shared() -> None:
    assert wants_help(BUSY, connections=10, waiting=True, slots=2)


@pytest.mark.parametrize(
    ("load", "connections", "waiting", "slots"),
    [
        (BUSY, 10, True, 1),  # nobody to share with
        (BUSY, 1, True, 2),  # one connection cannot be divided
        (BUSY, 10, False, 2),  # nothing waits
        (BUSY._replace(cpu_s=1.0), 10, True, 2),  # there is time left
        (BUSY._replace(lane_settled=150), 10, True, 2),  # others keep it busy as well
        (BUSY._replace(wall_s=1.0, cpu_s=1.0), 10, True, 2),  # too short to tell
    ],
)
def test_otherwise_a_site_stays_with_its_owner(load: Load, connections: int, waiting: bool, slots: int) -> None:
    assert not wants_help(load, connections=connections, waiting=waiting, slots=slots)
