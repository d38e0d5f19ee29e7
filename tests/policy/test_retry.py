"""Retry times: doubling, spread, floors, what the remote asked for, and the end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.config.retry import Retry, RetrySchedule
from mailfleet.policy.classify import BOUNCE_CLASSES
from mailfleet.policy.retry import FLOOR_S, next_attempt

SCHEDULE = RetrySchedule(first_delay_s=60, max_delay_s=3600, expire_after_s=86400, delay_dsn_after_s=14400)
HOUR_MS = 3_600_000


def wait_s(
    attempts: int,
    bounce_class: str = "undetermined",
    *,
    jitter: float = 0.5,
    retry_after_s: int | None = None,
    schedule: RetrySchedule = SCHEDULE,
) -> float:
    decision = next_attempt(
        schedule,
        attempts=attempts,
        accepted_ms=0,
        now_ms=1000,
        bounce_class=bounce_class,
        jitter=jitter,
        scale=1,
        retry_after_s=retry_after_s,
    )
    assert decision.due_ms is not None
    return (decision.due_ms - 1000) / 1000


@pytest.mark.parametrize(
    ("attempts", "seconds"), [(1, 60), (2, 120), (3, 240), (6, 1920), (7, 3600), (8, 3600), (10**6, 3600)]
)
def test_the_delay_doubles_up_to_its_bound(attempts: int, seconds: float) -> None:
    assert wait_s(attempts) == seconds


def test_the_delay_is_spread_by_a_fifth_either_way() -> None:
    assert wait_s(1, jitter=0) == pytest.approx(48)
    assert wait_s(1, jitter=0.999999) == pytest.approx(72, abs=0.01)


@pytest.mark.parametrize("jitter", [0, 0.5, 0.99])
@pytest.mark.parametrize("schedule", [Retry().transactional, Retry().bulk, SCHEDULE])
def test_the_first_retry_after_greylisting_comes_after_five_minutes(schedule: RetrySchedule, jitter: float) -> None:
    assert 300 <= wait_s(1, "greylisted", jitter=jitter, schedule=schedule) <= 360


def test_greylisting_again_follows_the_schedule() -> None:
    assert wait_s(5, "greylisted") == 960


@pytest.mark.parametrize("bounce_class", sorted(FLOOR_S))
def test_no_class_is_tried_before_its_floor(bounce_class: str) -> None:
    assert bounce_class in BOUNCE_CLASSES
    assert wait_s(1, bounce_class, jitter=0) >= FLOOR_S[bounce_class]


def test_a_full_mailbox_is_tried_more_slowly_than_a_rate_limit_and_that_than_a_lost_connection() -> None:
    assert wait_s(1, "mailbox-full") > wait_s(1, "rate-limited") > wait_s(1, "connection")


def test_what_the_remote_asked_for_is_never_undercut_even_above_the_longest_delay() -> None:
    for jitter in (0, 0.5, 0.99):
        assert 7200 <= wait_s(1, "ip-reputation", jitter=jitter, retry_after_s=7200) <= 8640
    assert wait_s(7, retry_after_s=10) == 3600


def test_one_last_attempt_at_the_expiry_and_then_none() -> None:
    late = next_attempt(
        SCHEDULE, attempts=20, accepted_ms=0, now_ms=24 * HOUR_MS - 1000, bounce_class="dns", jitter=0.5, scale=1
    )
    assert late.due_ms == late.expires_ms == 24 * HOUR_MS
    ended = next_attempt(
        SCHEDULE, attempts=21, accepted_ms=0, now_ms=24 * HOUR_MS, bounce_class="dns", jitter=0.5, scale=1
    )
    assert ended.due_ms is None
    assert ended.expires_ms == 24 * HOUR_MS


def test_the_scale_divides_delays_floors_and_expiry() -> None:
    scaled = next_attempt(
        SCHEDULE, attempts=1, accepted_ms=0, now_ms=0, bounce_class="mailbox-full", jitter=0, scale=1440
    )
    assert scaled.due_ms == 1250
    assert scaled.expires_ms == 60_000


@settings(max_examples=200)
@given(
    attempts=st.integers(1, 10**9),
    age_ms=st.integers(0, 3 * 86_400_000),
    bounce_class=st.sampled_from(sorted(BOUNCE_CLASSES)),
    jitter=st.floats(0, 1, exclude_max=True),
    scale=st.floats(1, 100_000),
    retry_after_s=st.none() | st.integers(0, 10**6),
)
def test_due_is_always_after_now_and_never_after_expiry(
    attempts: int, age_ms: int, bounce_class: str, jitter: float, scale: float, retry_after_s: int | None
) -> None:
    accepted_ms = 1_700_000_000_000
    decision = next_attempt(
        SCHEDULE,
        attempts=attempts,
        accepted_ms=accepted_ms,
        now_ms=accepted_ms + age_ms,
        bounce_class=bounce_class,
        jitter=jitter,
        scale=scale,
        retry_after_s=retry_after_s,
    )
    if decision.due_ms is None:
        assert accepted_ms + age_ms >= decision.expires_ms
    else:
        assert accepted_ms + age_ms < decision.due_ms <= decision.expires_ms
