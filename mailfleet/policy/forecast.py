"""When a number of messages would be out: warm-ups played day by day as if every day went well. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mailfleet.policy.warmup import Plan

MAX_DAYS = 366


@dataclass(frozen=True, slots=True)
class Carrier:
    """A way out towards one provider. ``plan`` None: no cap. ``today``: what is left of the day's cap."""

    name: str
    weight: int
    plan: Plan | None = None
    stage: int = 0
    today: int = 0
    overflow: bool = False


class Forecast(NamedTuple):
    """``by_day[0]`` is the rest of today. ``days`` None: not within ``MAX_DAYS``. ``last``: who finishes last, with which provider."""

    days: int | None
    by_day: list[int]
    by_carrier: Counter[str]
    last: list[tuple[str, str]]


def forecast(messages: Mapping[str, int], carriers: Mapping[str, Sequence[Carrier]], *, spill: bool) -> Forecast:
    """Send ``messages``, by provider, by ``carriers`` of each provider; those of the overflow pool only where ``spill``.

    Every day moves each warm-up up by one stage: a day that goes very well may do more, one that does not does less.
    """
    left = {provider: count for provider, count in messages.items() if count}
    by_day: list[int] = []
    by_carrier: Counter[str] = Counter()
    last: list[tuple[str, str]] = []
    while left and len(by_day) < MAX_DAYS:
        day, sent = len(by_day), 0
        last = []
        for provider in list(left):
            for one, count in _day(left[provider], carriers.get(provider, ()), day, spill=spill):
                by_carrier[one.name] += count
                left[provider] -= count
                sent += count
                last.append((one.name, provider))
            if not left[provider]:
                del left[provider]
        by_day.append(sent)
        if not sent and all(_cap(one, day + 1) == _cap(one, day) for some in carriers.values() for one in some):
            break
    return Forecast(None if left else len(by_day), by_day, by_carrier, last)


def _day(count: int, carriers: Sequence[Carrier], day: int, *, spill: bool) -> list[tuple[Carrier, int]]:
    """Who carries how much of ``count`` on a day: by weight within the caps, and the overflow pool's after the own."""
    made: list[tuple[Carrier, int]] = []
    for overflow in (False, True) if spill else (False,):
        caps = {one: _cap(one, day) for one in carriers if one.overflow is overflow and one.weight > 0}
        while count > 0 and caps:
            total = sum(one.weight for one in caps)
            parts = {one: -(-count * one.weight // total) for one in caps}
            before = count
            for one, part in parts.items():
                cap = caps[one]
                taken = min(count, part, part if cap is None else cap)
                if taken:
                    made.append((one, taken))
                    count -= taken
                if cap is not None:
                    caps[one] = cap - taken
            caps = {one: cap for one, cap in caps.items() if cap is None or cap > 0}
            if count == before:
                break
    return made


def _cap(carrier: Carrier, day: int) -> int | None:
    """What a day may hold; None: no cap."""
    if carrier.plan is None:
        return None
    if day == 0:
        return carrier.today
    cap = carrier.plan.cap(carrier.stage + day)
    return None if cap >= carrier.plan.enough and day > 1 else cap
