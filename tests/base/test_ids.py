"""Ids: unique and ascending whatever the clock does, and a public form that is read back as it was written."""

from __future__ import annotations

import contextlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base import ids
from mailfleet.base.errors import InputError
from mailfleet.base.ids import EPOCH_MS, PREFIX, IdGenerator

NOW_MS = EPOCH_MS + 1_000_000
VALUES = st.integers(0, (1 << 63) - 1)


class Hands:
    """A clock that stands where it is put."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def test_a_process_that_starts_with_a_clock_set_back_makes_none_twice() -> None:
    earlier = IdGenerator(7, Hands(NOW_MS + 3_600_000)).take(40_000)
    made = IdGenerator(7, Hands(NOW_MS))
    made.start_after(earlier[-1])
    assert made.next() > earlier[-1]
    made.start_after(earlier[0])
    assert made.next() > earlier[-1], "an older one changes nothing"


def test_they_ascend_and_say_when_they_were_made() -> None:
    clock = Hands(NOW_MS)
    made = IdGenerator(7, clock)
    first = made.next()
    clock.now_ms += 5
    second = made.next()
    assert first < second < 1 << 63
    assert ids.made_at_ms(first) == NOW_MS
    assert ids.made_at_ms(second) == NOW_MS + 5


def test_a_burst_runs_ahead_of_the_clock_rather_than_wait() -> None:
    made = IdGenerator(1, Hands(NOW_MS)).take(50_000)
    assert made == sorted(set(made))
    assert len(made) == 50_000
    assert ids.made_at_ms(made[-1]) == NOW_MS + 50_000 // 16_384


@given(st.lists(st.tuples(st.integers(-5000, 5000), st.integers(0, 20_000)), max_size=20))
def test_no_id_comes_twice_however_the_clock_steps(steps: list[tuple[int, int]]) -> None:
    clock = Hands(NOW_MS)
    generator = IdGenerator(3, clock)
    last = 0
    for step_ms, count in steps:
        clock.now_ms += step_ms
        made = generator.take(count)
        assert len(made) == count
        if made:
            assert made[0] > last
            assert made == sorted(set(made))
            last = made[-1]


@given(st.integers(0, 255), st.integers(0, 255), st.integers(1, 20_000))
def test_two_processes_never_make_the_same(one: int, other: int, count: int) -> None:
    if one != other:
        clock = Hands(NOW_MS)
        assert not set(IdGenerator(one, clock).take(count)) & set(IdGenerator(other, clock).take(count))


def test_threads_share_a_generator() -> None:
    generator = IdGenerator(1)
    found: list[int] = []

    def work() -> None:
        for _ in range(200):
            found.extend(generator.take(7))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 4 * 200 * 7


@pytest.mark.parametrize("worker", [-1, 256])
def test_a_worker_that_does_not_fit(worker: int) -> None:
    with pytest.raises(ValueError, match=r"0\.\.255"):
        IdGenerator(worker)


@given(st.sampled_from(sorted(PREFIX.values())), VALUES)
def test_the_public_form_is_read_back(prefix: str, value: int) -> None:
    shown = ids.public(prefix, value)
    assert len(shown) == len(prefix) + 14
    assert ids.from_public(prefix, shown) == value
    assert ids.from_public(prefix, f" {shown.lower()} ") == value
    assert ids.from_public(prefix, f"{prefix}_" + shown[len(prefix) + 1 :].replace("0", "O").replace("1", "l")) == value


@given(VALUES, VALUES)
def test_the_public_form_sorts_like_the_id(one: int, other: int) -> None:
    assert (one < other) == (ids.public("dlv", one) < ids.public("dlv", other))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dlv",
        "dlv_",
        "dlv_000000000000",
        "dlv_00000000000000",
        "cmp_0000000000007",
        "dlv_000000000000U",
        "dlv_ZZZZZZZZZZZZZ",
        "dlv_0000000000 07",
        "0000000000007",
        "dlv-0000000000007",
    ],
)
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(InputError, match="dlv_XXXXXXXXXXXXX"):
        ids.from_public("dlv", text)


@given(st.text(max_size=30) | st.text("0123456789ABCXYZoilß", min_size=13, max_size=13).map("dlv_".__add__))
def test_garbage_is_an_input_error_or_a_63_bit_number(text: str) -> None:
    with contextlib.suppress(InputError):
        assert 0 <= ids.from_public("dlv", text) < 1 << 63


def test_prefixes_tell_nouns_apart() -> None:
    assert len(set(PREFIX.values())) == len(PREFIX)
