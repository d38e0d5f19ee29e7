"""Instants as text: there and back to the millisecond, and no time without an offset."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.clock import SystemClock, parse_rfc3339, rfc3339

INSTANTS_MS = st.integers(min_value=-62_135_596_800_000, max_value=253_402_300_799_999)  # years 1 to 9999


def test_the_shown_form() -> None:
    assert rfc3339(1_767_225_600_123) == "2026-01-01T00:00:00.123Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"


@given(INSTANTS_MS)
def test_there_and_back(at_ms: int) -> None:
    assert parse_rfc3339(rfc3339(at_ms)) == at_ms


@given(st.integers(0, 4_102_444_800_000), st.integers(0, 4_102_444_800_000))
def test_text_sorts_like_time(one_ms: int, other_ms: int) -> None:
    assert (one_ms < other_ms) == (rfc3339(one_ms) < rfc3339(other_ms))


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("2026-01-31T09:00:00Z", 1_769_850_000_000),
        ("2026-01-31T10:00:00+01:00", 1_769_850_000_000),
        ("2026-01-31T03:30:00.5-05:30", 1_769_850_000_500),
        ("  2026-01-31 09:00:00+00:00  ", 1_769_850_000_000),
        ("2026-01-31T09:00:00.123456Z", 1_769_850_000_123),
    ],
)
def test_offsets_count(text: str, at_ms: int) -> None:
    assert parse_rfc3339(text) == at_ms


@pytest.mark.parametrize(
    "text", ["2026-01-31T09:00:00", "2026-01-31", "tomorrow", "", "1767225600", "2026-13-01T00:00:00Z"]
)
def test_no_offset_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"offset|Invalid|month"):
        parse_rfc3339(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_the_ends_of_the_calendar_are_no_crash(text: str) -> None:
    assert isinstance(parse_rfc3339(text), int)


@given(st.text(max_size=40))
def test_garbage_is_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_rfc3339(text)


async def test_the_machines_clock() -> None:
    clock = SystemClock()
    before_s, before_ms = clock.monotonic_s(), clock.now_ms()
    await clock.sleep(0.002)
    assert clock.monotonic_s() > before_s
    assert clock.now_ms() >= before_ms > 1_704_067_200_000
