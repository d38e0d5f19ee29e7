"""Rates as people write them ("10/s 20000/d"), and keeping to them: no more than so many in any period of that length. Pure."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

UNITS_MS = {"s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
MARGIN = 1.02  # what leaves evenly arrives less so: a fiftieth of a period is kept for that
REMEMBERED = 2000  # messages, for each rate of each lane
SHORTEST_MS = (
    20.0  # messages that would be closer than this leave together: a clock for each would cost more than it is worth
)
CATCH_UP_MS = 100.0  # a process that is busy looks so late at the clock; what was missed meanwhile may leave at once
_ONE = re.compile(r"(\d{1,9})\s*/\s*(?:(\d{1,4})\s*)?(s|min|h|d)")


class Rate(NamedTuple):
    """So many in a period."""

    messages: int
    period_ms: int

    @property
    def gap_ms(self) -> float:
        """Between two of them, evenly spread."""
        return self.period_ms / self.messages

    def __str__(self) -> str:
        for unit, unit_ms in reversed(UNITS_MS.items()):
            times, rest = divmod(self.period_ms, unit_ms)
            if not rest:
                return f"{self.messages}/{'' if times == 1 else times}{unit}"
        return f"{self.messages}/{self.period_ms / 1000:g}s"


def parse(text: str) -> tuple[Rate, ...]:
    """Rates from text, separated by spaces or commas; empty text has none. Raises ``ValueError`` that says how to write one."""
    found = []
    for word in text.replace(",", " ").split():
        match = _ONE.fullmatch(word)
        if match is None or int(match[1]) == 0 or int(match[2] or 1) == 0:
            raise ValueError(f"{word!r} is no rate: write it as 10/s, 100/min, 1000/h or 20000/d")
        found.append(Rate(int(match[1]), int(match[2] or 1) * UNITS_MS[match[3]]))
    return tuple(found)


def shown(rates: Iterable[Rate]) -> str:
    """As ``parse`` reads it."""
    return " ".join(str(one) for one in rates)


def part(rates: Sequence[Rate], parts: int, place: int) -> tuple[Rate, ...]:
    """The part of each rate that falls to ``place`` of ``parts``; the parts add up to the whole."""
    made = []
    for one in rates:
        count = one.messages // parts + (place < one.messages % parts)
        # Of fewer than there are parts each has one in so many periods.
        made.append(
            Rate(count, one.period_ms) if one.messages >= parts else Rate(1, one.period_ms * parts // one.messages)
        )
    return tuple(made)


def scaled(rates: Sequence[Rate], *, permille: int = 1000, scale: float = 1) -> tuple[Rate, ...]:
    """Slower by ``permille``, faster where time runs faster."""
    return tuple(Rate(one.messages, max(1, round(one.period_ms * 1000 / max(1, permille) / scale))) for one in rates)


class Pace:
    """Keeps to rates: asked before each message, told when it begins and when it is over.

    Messages are spread evenly; those of a fast rate leave some at a time, ``SHORTEST_MS`` apart, and who asks late makes up for
    ``CATCH_UP_MS``. And however long each takes, in no period of a rate are there more than its count under way or over, so
    the other side cannot see more either. That is remembered message by message for rates up to ``REMEMBERED``; those of
    greater ones are only spread.
    """

    def __init__(self, rates: Sequence[Rate], now_ms: float) -> None:
        self.rates = tuple(rates)
        self._next_ms = [now_ms] * len(self.rates)
        self._under_way = 0
        self._over: list[deque[float]] = [deque(maxlen=min(one.messages, REMEMBERED)) for one in self.rates]
        self._remembered = [
            (one.messages, one.period_ms, over)
            for one, over in zip(self.rates, self._over, strict=True)
            if one.messages <= REMEMBERED
        ]
        self._burst = [max(1, min(one.messages // 2, int(SHORTEST_MS / one.gap_ms))) for one in self.rates]
        self._late = [  # messages that may leave at once
            max(burst, min(one.messages // 2, 1 + int(CATCH_UP_MS / one.gap_ms)))
            if one.messages <= REMEMBERED
            else burst
            for one, burst in zip(self.rates, self._burst, strict=True)
        ]
        self._gap_ms = [
            one.period_ms * MARGIN / (one.messages - burst + 1)
            for one, burst in zip(self.rates, self._burst, strict=True)
        ]

    def wait_ms(self, now_ms: float) -> float:
        """Until the next may leave; 0 when it may now. What is under way may make it longer: ask again."""
        until_ms = now_ms  # without max(): it is asked several times for each message
        for due_ms in self._next_ms:
            if due_ms > until_ms:
                until_ms = due_ms
        for messages, period_ms, over in self._remembered:
            free = messages - self._under_way  # of those that are over, so many less one may lie in this period
            if free <= 0:
                until_ms = max(until_ms, now_ms + SHORTEST_MS)
            elif len(over) >= free and over[-free] + period_ms > until_ms:
                until_ms = over[-free] + period_ms
        return until_ms - now_ms

    def take(self, now_ms: float) -> None:
        """One begins."""
        self._under_way += 1
        for index, gap_ms in enumerate(self._gap_ms):
            earliest = now_ms - (self._late[index] - 1) * gap_ms
            self._next_ms[index] = max(self._next_ms[index], earliest) + gap_ms

    def done(self, now_ms: float) -> None:
        """One is over, whatever came of it."""
        self._under_way -= 1
        for over in self._over:
            over.append(now_ms)

    def like(self, rates: Sequence[Rate], now_ms: float) -> Pace:
        """Other rates from now on; what was taken last still counts."""
        made = Pace(rates, now_ms)
        made._under_way = self._under_way
        lately = max(self._over, key=len, default=deque[float]())
        for over in made._over:
            over.extend(lately)
        waits = [due_ms - now_ms for due_ms in self._next_ms]
        if waits:
            made._next_ms = [now_ms + max(0.0, min(max(waits), gap_ms)) for gap_ms in made._gap_ms]
        return made
