"""When a number of messages would be out: by hand-made sums."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailfleet.policy.forecast import Carrier, forecast
from mailfleet.policy.warmup import Plan

PLAN = Plan("hundreds", (100, 200, 400), enough=100_000)


def test_without_limits_all_leave_by_weight() -> None:
    found = forecast({"gmail": 900}, {"gmail": [Carrier("s1", 1), Carrier("s2", 2)]}, spill=False)
    assert (found.days, found.by_day, dict(found.by_carrier)) == (1, [900], {"s1": 300, "s2": 600})
    assert found.share == 0


def test_a_warm_up_spreads_over_days() -> None:
    found = forecast({"gmail": 500}, {"gmail": [Carrier("s1", 1, PLAN, 0, today=100, limit="plan")]}, spill=False)
    assert (found.days, found.by_day) == (3, [100, 200, 200])
    assert found.share == 0.5, "on the third day 200 of 400"
    last = found.last["s1"]
    assert (last.day, last.messages, last.cap, last.provider) == (2, 200, 400, "gmail")


def test_a_rate_is_a_limit_of_a_day() -> None:
    carrier = Carrier("s1", 1, per_day=1000, limit="1000/d")
    found = forecast({"gmail": 1500}, {"gmail": [carrier]}, spill=False, left_of_day=0.25)
    assert (found.days, found.by_day, found.share) == (3, [250, 1000, 250], 0.25)


def test_a_campaigns_own_rate_holds_for_all_of_it() -> None:
    carriers = {"gmail": [Carrier("s1", 1)], "yahoo": [Carrier("s1", 1)]}
    found = forecast({"gmail": 600, "yahoo": 600}, carriers, spill=False, most_a_day=500)
    assert (found.days, found.by_day) == (3, [500, 500, 200])
    assert found.share == 0.4


def test_the_overflow_pool_takes_the_rest_where_it_may() -> None:
    carriers = {"gmail": [Carrier("s1", 1, PLAN, 0, today=100), Carrier("old", 1, overflow=True)]}
    assert forecast({"gmail": 500}, carriers, spill=True).by_carrier == {"s1": 100, "old": 400}
    assert "old" not in forecast({"gmail": 500}, carriers, spill=False).by_carrier


def test_what_nobody_carries_never_ends() -> None:
    assert forecast({"gmail": 1}, {}, spill=True).days is None
    assert forecast({"gmail": 1}, {"gmail": [Carrier("s1", 0)]}, spill=True).days is None


@given(
    st.dictionaries(st.sampled_from(["gmail", "yahoo", ""]), st.integers(0, 5000), min_size=1),
    st.lists(
        st.tuples(st.integers(1, 5), st.booleans(), st.integers(0, 3), st.none() | st.integers(1, 3000)), max_size=4
    ),
    st.booleans(),
    st.none() | st.integers(1, 4000),
)
def test_nothing_is_lost_and_no_day_holds_too_much(
    messages: dict[str, int], made: list[tuple[int, bool, int, int | None]], spill: bool, most: int | None
) -> None:
    carriers = [
        Carrier(f"s{number}", weight, PLAN if warming else None, stage, PLAN.cap(stage), False, per_day)
        for number, (weight, warming, stage, per_day) in enumerate(made)
    ]
    found = forecast(messages, dict.fromkeys(messages, carriers), spill=spill, most_a_day=most)
    assert sum(found.by_day) == sum(found.by_carrier.values())
    assert found.days is None or sum(found.by_day) == sum(messages.values())
    assert most is None or all(day <= most for day in found.by_day)
    assert 0 <= found.share <= 1
