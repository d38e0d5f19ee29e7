"""Rates are read and written as people do, and kept to in every period."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.policy.rates import Pace, Rate, parse, part, scaled, shown

RATES = st.builds(Rate, st.integers(1, 400), st.sampled_from([1000, 60_000, 3_600_000]))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("10/s", (Rate(10, 1000),)),
        ("10/s, 20000/d", (Rate(10, 1000), Rate(20_000, 86_400_000))),
        ("5/10min", (Rate(5, 600_000),)),
        (" 1 0/s", None),
    ],
)
def test_reading(text: str, found: tuple[Rate, ...] | None) -> None:
    if found is None:
        with pytest.raises(ValueError, match="write it as"):
            parse(text)
    else:
        assert parse(text) == found


@pytest.mark.parametrize("text", ["0/s", "10/0s", "10/week", "fast", "-3/s", "10/s;5/h", "1e3/s"])
def test_what_is_no_rate_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 10/s"):
        parse(text)


@given(st.lists(RATES, max_size=3))
def test_what_is_shown_is_read_back(rates: list[Rate]) -> None:
    assert parse(shown(rates)) == tuple(rates)


@given(RATES, st.integers(1, 7))
def test_parts_add_up(rate: Rate, parts: int) -> None:
    whole = sum(one.messages / one.period_ms for place in range(parts) for one in part([rate], parts, place))
    assert whole <= rate.messages / rate.period_ms * 1.01
    assert whole >= rate.messages / rate.period_ms * 0.99


@given(st.lists(RATES, min_size=1, max_size=2), st.lists(st.integers(0, 700), min_size=1, max_size=400))
def test_no_period_holds_more_than_the_rate(rates: list[Rate], pauses: list[int]) -> None:
    pace, now, sent = Pace(rates, 0), 0.0, []
    for pause in pauses:
        now = max(now + pause * 0.5, now + pace.wait_ms(now))
        assert pace.wait_ms(now) < 1e-6
        pace.take(now)
        sent.append(now)
        pace.done(now)
    for rate in rates:
        for index, first in enumerate(sent):
            assert sum(1 for one in sent[index:] if one < first + rate.period_ms) <= rate.messages


@given(RATES)
def test_the_rate_is_reached_nearly(rate: Rate) -> None:
    pace, now = Pace([rate], 0), 0.0
    for _ in range(5 * rate.messages):
        now += pace.wait_ms(now)
        pace.take(now)
        pace.done(now)
    assert now <= 5 * rate.period_ms * 1.08


@given(st.sampled_from(["100/s", "50/s", "400/s", "1500/min", "40/s 2000/min"]), st.integers(20, 90))
def test_a_process_that_looks_late_reaches_it_too(text: str, every_ms: int) -> None:
    """As one does whose event loop is busy: it asks now and then, and lets go of as many as may leave."""
    pace, sent = Pace(parse(text), 0), 0
    for now in range(0, 60_000, every_ms):
        while pace.wait_ms(now) <= 0:
            pace.take(now)
            pace.done(now)
            sent += 1
    least = min(rate.messages * 60_000 / rate.period_ms for rate in parse(text))
    assert sent >= 0.85 * least


def test_a_slower_rate_does_not_give_a_start() -> None:
    pace = Pace([Rate(1, 1000)], 0)
    pace.take(0)
    pace.done(0)
    slower = pace.like(scaled([Rate(1, 1000)], permille=100), 10)
    assert 900 < slower.wait_ms(10) <= 10_200
    assert Pace([], 0).like([Rate(2, 1000)], 5).wait_ms(5) == 0


@given(RATES, st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3000)), min_size=1, max_size=300))
def test_however_long_each_takes_the_other_side_sees_no_more(rate: Rate, steps: list[tuple[int, int]]) -> None:
    """It arrives at some instant between its start and its end: at the latest possible one first, at the earliest next."""
    pace, now, ends, seen = Pace([rate], 0), 0.0, list[float](), list[float]()
    for number, (pause, takes) in enumerate(steps):
        now += pause
        while (wait := pace.wait_ms(now)) > 0:
            now += wait
            for end in [one for one in ends if one <= now]:
                ends.remove(end)
                pace.done(end)
        pace.take(now)
        ends.append(now + takes)
        seen.append(now if number % 2 else now + takes)
    seen.sort()
    for index, first in enumerate(seen):
        assert sum(1 for one in seen[index:] if one < first + rate.period_ms) <= rate.messages
