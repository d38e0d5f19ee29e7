"""What authorities say about renewal is read, and taken where it is earlier than our own margin; when they are asked again."""

from __future__ import annotations

import contextlib
from email.utils import formatdate
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.clock import rfc3339
from mailfleet.base.errors import InputError
from mailfleet.policy.certificates import DAY_MS, renewal_ms
from mailfleet.policy.renewal_info import (
    HOUR_S,
    MOST_EXPLANATION,
    ROUND_S,
    Suggestion,
    Window,
    chosen_ms,
    least_pause_s,
    pause_s,
    planned_ms,
    read_again_s,
    read_window,
    wish,
)  # fmt: skip

NOW_MS = 1_767_225_600_000
HOUR_MS = HOUR_S * 1000
PAGE = "https://authority.example/incident"
TIMES = st.integers(0, 2**42)
WINDOWS = st.builds(lambda start, life: Window(start, start + life), TIMES, st.integers(1, 400 * DAY_MS))
HOSTS = st.text("abc.-", min_size=1, max_size=20)
PAUSES = st.integers(0, 40 * HOUR_S)


def told(start: str, end: str, **more: object) -> bytes:
    return orjson.dumps({"suggestedWindow": {"start": start, "end": end}, **more})


# What it says


@given(WINDOWS)
def test_what_it_says_is_read(window: Window) -> None:
    found = read_window(told(rfc3339(window.start_ms), rfc3339(window.end_ms), explanationURL=PAGE, more=[1]))
    assert found == window._replace(explanation=PAGE)


@pytest.mark.parametrize(
    "page", [None, 5, "", "http://authority.example/", "javascript:x", f"{PAGE} x", f"{PAGE}\n", PAGE + "é", PAGE * 20]
)
def test_no_address_is_shown_that_is_none(page: object) -> None:
    assert len(PAGE * 20) > MOST_EXPLANATION
    body = told("2026-01-03T00:00:00Z", "2026-01-04T00:00:00Z", explanationURL=page)
    assert read_window(body).explanation == ""


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b'{"suggestedWindow": null}', b'{"suggestedWindow": []}', b'{"suggestedWindow": {"start": 1}}',
        told("2026-01-03T00:00:00Z", "soon"), told("2026-01-03T00:00:00", "2026-01-04T00:00:00"),
        told("2026-01-03T00:00:00Z", "2026-13-04T00:00:00Z"), told("2026-01-03T00:00:00Z", "2026-01-03T00:00:00Z"),
        told("2026-01-03T00:00:01Z", "2026-01-03T00:00:00Z"), b"\xff", b"[" * 100_000,
    ],
)  # fmt: skip
def test_nonsense_is_told_apart(body: bytes) -> None:
    with pytest.raises(InputError):
        read_window(body)


@given(st.one_of(st.binary(max_size=200), st.builds(told, st.text(max_size=30), st.text(max_size=30))))
def test_garbage_yields_nothing_else(body: bytes) -> None:
    with contextlib.suppress(InputError):
        assert read_window(body).start_ms < read_window(body).end_ms


@given(st.integers(0, 10**8))
def test_seconds_and_dates_say_when_to_ask_again(seconds: int) -> None:
    assert read_again_s(f" {seconds} ", NOW_MS) == seconds
    date = formatdate(NOW_MS / 1000 + seconds, usegmt=True)
    assert read_again_s(date, NOW_MS) == (seconds or None)


@given(st.text(max_size=40))
def test_anything_else_says_nothing_of_it(text: str) -> None:
    found = read_again_s(text, NOW_MS)
    assert found is None or found >= 0


@pytest.mark.parametrize(
    "text", ["", "-5", "1.5", "soon", "9" * 400, "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Jan 2026 00:00:00 GMT"]
)
def test_nothing_and_the_past_say_nothing_of_it(text: str) -> None:
    assert read_again_s(text, NOW_MS) is None


# When it is renewed


@given(WINDOWS, st.text(max_size=10))
def test_the_moment_lies_in_the_window_and_stays(window: Window, certificate: str) -> None:
    assert window.start_ms <= chosen_ms(window, certificate) < window.end_ms
    assert chosen_ms(window, certificate) == chosen_ms(window._replace(explanation=PAGE), certificate)


def test_certificates_spread_over_the_window() -> None:
    window = Window(NOW_MS, NOW_MS + 10 * HOUR_MS)
    hours = [(chosen_ms(window, f"certificate {number}") - NOW_MS) // HOUR_MS for number in range(1000)]
    assert all(50 <= hours.count(hour) <= 150 for hour in range(10))


@given(TIMES, st.integers(1, 4000 * DAY_MS), WINDOWS, TIMES)
def test_an_authority_moves_it_forward_only(begin_ms: int, life_ms: int, window: Window, not_before_ms: int) -> None:
    own_ms = renewal_ms(begin_ms, begin_ms + life_ms)
    at_ms = planned_ms(own_ms, window, "certificate", not_before_ms=not_before_ms)
    assert at_ms <= own_ms
    assert at_ms == own_ms or at_ms >= not_before_ms
    if not_before_ms <= window.start_ms and window.end_ms <= own_ms:
        assert window.start_ms <= at_ms <= window.end_ms


def test_a_window_that_is_over_means_now() -> None:
    over = Window(NOW_MS - 2 * HOUR_MS, NOW_MS - HOUR_MS, PAGE)
    own_ms = NOW_MS + 30 * DAY_MS
    assert planned_ms(own_ms, over, "certificate", not_before_ms=NOW_MS - DAY_MS) < NOW_MS
    assert planned_ms(own_ms, over, "certificate", not_before_ms=NOW_MS + DAY_MS) == NOW_MS + DAY_MS, "it is young"
    assert wish(over, NOW_MS) == f"the authority wants it replaced now: see {PAGE}"
    assert wish(over._replace(explanation=""), over.end_ms) == "the authority wants it replaced now"
    assert wish(over, over.end_ms - 1) == ""


# When it is asked again


@pytest.mark.parametrize(
    ("again_s", "pause_h"), [(None, 6), (0, 6), (1, 1), (2 * HOUR_S, 2), (24 * HOUR_S, 24), (40 * HOUR_S, 24)]
)
def test_what_it_says_holds_between_an_hour_and_a_day(again_s: float | None, pause_h: int) -> None:
    assert least_pause_s(Suggestion(again_s=again_s)) == pause_h * HOUR_S


@given(HOSTS, TIMES, PAUSES)
def test_it_is_asked_no_sooner_and_at_most_a_round_later(host: str, now_ms: int, least_s: int) -> None:
    assert least_s <= pause_s(host, now_ms, least_s, 1) < least_s + ROUND_S
    assert pause_s(host, now_ms, least_s, 1440) < (least_s + ROUND_S) / 1440 + 1


@given(HOSTS, TIMES, st.lists(st.integers(0, 40 * HOUR_MS), min_size=1, max_size=20), st.integers(0, 7 * HOUR_S))
def test_whenever_it_is_started_a_host_is_asked_about_at_its_own_times(
    host: str, now_ms: int, starts_ms: list[int], least_s: int
) -> None:
    asked = {start + now_ms + round(pause_s(host, start + now_ms, 0, 1) * 1000) for start in starts_ms}
    asked |= {one + round(pause_s(host, one + 1000, least_s, 1) * 1000) + 1000 for one in asked}
    assert all((later - before) % (ROUND_S * 1000) == 0 for before, later in pairwise(sorted(asked)))


def test_hosts_are_not_asked_about_all_at_once() -> None:
    hours = [int(pause_s(f"host{number}.shop.test", NOW_MS, 0, 1) // HOUR_S) for number in range(800)]
    assert all(50 <= hours.count(hour) <= 150 for hour in range(8))
