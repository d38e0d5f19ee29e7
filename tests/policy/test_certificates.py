"""When certificates are renewed, tried again, and complained about; which host a name is good for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.policy.certificates import DAY_MS, MINUTE_MS, covers, renewal_ms, retry_ms, state

HOUR_MS = 60 * MINUTE_MS
LIVES = st.integers(MINUTE_MS, 4000 * DAY_MS)


@pytest.mark.parametrize(("life_ms", "after_ms"), [(90 * DAY_MS, 60 * DAY_MS), (6 * DAY_MS, 3 * DAY_MS), (10, 5)])
def test_a_third_of_its_life_is_left_at_renewal(life_ms: int, after_ms: int) -> None:
    assert renewal_ms(1000, 1000 + life_ms) == 1000 + after_ms


@given(st.integers(0, 2**42), LIVES)
def test_it_is_renewed_while_it_is_good_and_before_anybody_complains(begin_ms: int, life_ms: int) -> None:
    end_ms = begin_ms + life_ms
    at_ms = renewal_ms(begin_ms, end_ms)
    assert begin_ms < at_ms < end_ms
    assert state(begin_ms, end_ms, at_ms) == "ok"


@given(st.integers(1, 2**42), LIVES, st.lists(st.integers(0, 5000 * DAY_MS), min_size=2))
def test_it_only_gets_worse(begin_ms: int, life_ms: int, ages_ms: list[int]) -> None:
    order = ["ok", "expiring", "expired"]
    found = [order.index(state(begin_ms, begin_ms + life_ms, begin_ms + age)) for age in sorted(ages_ms)]
    assert found == sorted(found)


def test_how_it_stands() -> None:
    end_ms = 90 * DAY_MS
    assert state(0, 0, 5) == "waiting"
    assert state(0, end_ms, end_ms - 14 * DAY_MS - 1) == "ok"
    assert state(0, end_ms, end_ms - 14 * DAY_MS) == "expiring"
    assert state(0, end_ms, end_ms - 1) == "expiring"
    assert state(0, end_ms, end_ms) == "expired"
    assert state(0, 398 * DAY_MS, 398 * DAY_MS - 15 * DAY_MS) == "ok"  # fourteen days at most
    assert state(0, 4 * HOUR_MS, 3 * HOUR_MS - 1) == "ok"
    assert state(0, 4 * HOUR_MS, 3 * HOUR_MS) == "expiring"


def test_failures_are_tried_again_later_and_later() -> None:
    assert [retry_ms(n) // MINUTE_MS for n in range(11)] == [0, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 1440]
    assert retry_ms(10_000) == DAY_MS


@pytest.mark.parametrize(
    ("pattern", "host", "good"),
    [
        ("mail.shop.test", "mail.shop.test", True),
        ("mail.shop.test", "shop.test", False),
        ("*.shop.test", "mail.shop.test", True),
        ("*.shop.test", "shop.test", False),
        ("*.shop.test", "a.mail.shop.test", False),
        ("*.shop.test", "mail.shop.test.evil", False),
        ("*.shop.test", "mailshop.test", False),
        ("*.shop.test", "*.shop.test", True),
        ("*.", "localhost", True),
        ("f*.shop.test", "foo.shop.test", False),
        ("*", "localhost", False),
        ("", "mail.shop.test", False),
    ],
)
def test_what_a_name_is_good_for(pattern: str, host: str, good: bool) -> None:
    assert covers(pattern, host) == good
