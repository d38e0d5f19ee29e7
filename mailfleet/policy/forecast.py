"""When a number of messages would be out: warm-ups and rates played day by day as if every day went well. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mailfleet.policy.warmup import Plan

MAX_DAYS = 366


@dataclass(frozen=True, slots=True)
class Carrier:
    """A way out towards one provider. ``plan`` None: no warm-up. ``today``: what is left of the day's cap.

    ``per_day``: what its rates allow in a whole day, None for any number. ``limit``: what that limit is called.
    """

    name: str
    weight: int
    plan: Plan | None = None
    stage: int = 0
    today: int = 0
    overflow: bool = False
    per_day: int | None = None
    limit: str = ""


class Part(NamedTuple):
    """What a way out carries to a provider on a day: ``messages`` of at most ``cap`` (None: any number)."""

    day: int
    carrier: Carrier
    provider: str
    messages: int
    cap: int | None

    @property
    def share(self) -> float:
        """The part of the day that it takes."""
        return self.messages / self.cap if self.cap else 0.0


class Forecast(NamedTuple):
    """``by_day[0]`` is the rest of today. ``days`` None: not within ``MAX_DAYS``.

    ``share``: of the last day, until the last message is out. ``last``: for each way out what it carries last.
    """

    days: int | None
    by_day: list[int]
    by_carrier: Counter[str]
    share: float
    last: dict[str, Part]


def forecast(
    messages: Mapping[str, int],
    carriers: Mapping[str, Sequence[Carrier]],
    *,
    spill: bool,
    left_of_day: float = 1.0,
    most_a_day: int | None = None,
) -> Forecast:
    """Send ``messages``, by provider, by ``carriers`` of each provider; those of the overflow pool only where ``spill``.

    ``left_of_day``: the share of today that is left. ``most_a_day``: what a campaign, stream or tenant may send in all.
    Every day moves each warm-up up by one stage: a day that goes very well may do more, one that does not does less.
    """
    left = {provider: count for provider, count in messages.items() if count}
    by_day: list[int] = []
    by_carrier: Counter[str] = Counter()
    last: dict[str, Part] = {}
    share = 0.0
    while left and len(by_day) < MAX_DAYS:
        day = len(by_day)
        budget = sum(left.values())
        if most_a_day is not None:
            budget = min(budget, int(most_a_day * (left_of_day if day == 0 else 1)))
        sent, share = 0, 0.0
        for provider in sorted(left, key=lambda one: left[one]):
            wanted = min(left[provider], budget - sent)
            for part in _day(wanted, carriers.get(provider, ()), provider, day, left_of_day, spill=spill):
                by_carrier[part.carrier.name] += part.messages
                left[provider] -= part.messages
                sent += part.messages
                share = max(share, part.share)
                before = last.get(part.carrier.name)
                if before is None or (before.day, before.share) <= (day, part.share):
                    last[part.carrier.name] = part
            if not left[provider]:
                del left[provider]
        if most_a_day:
            share = max(share, sent / (most_a_day * (left_of_day if day == 0 else 1) or 1))
        by_day.append(sent)
        if (
            not sent
            and day
            and all(_cap(one, day + 1, 1) == _cap(one, day, 1) for some in carriers.values() for one in some)
        ):
            break
    return Forecast(None if left else len(by_day), by_day, by_carrier, min(1.0, share), last)


def _day(
    count: int, carriers: Sequence[Carrier], provider: str, day: int, left_of_day: float, *, spill: bool
) -> list[Part]:
    """Who carries how much of ``count`` on a day: by weight within the caps, and the overflow pool's after the own."""
    taken: Counter[Carrier] = Counter()
    whole = {one: _cap(one, day, left_of_day) for one in carriers if one.weight > 0}
    for overflow in (False, True) if spill else (False,):
        room = {one: cap for one, cap in whole.items() if one.overflow is overflow}
        while count > 0 and room:
            total = sum(one.weight for one in room)
            parts = {one: -(-count * one.weight // total) for one in room}
            before = count
            for one, part in parts.items():
                cap = room[one]
                some = min(count, part, part if cap is None else cap)
                taken[one] += some
                count -= some
                if cap is not None:
                    room[one] = cap - some
            room = {one: cap for one, cap in room.items() if cap is None or cap > 0}
            if count == before:
                break
    return [Part(day, one, provider, some, whole[one]) for one, some in taken.items() if some]


def _cap(carrier: Carrier, day: int, left_of_day: float) -> int | None:
    """What a day may hold; None: no cap."""
    rate = carrier.per_day
    if rate is not None and day == 0:
        rate = int(rate * left_of_day)
    if carrier.plan is None:
        return rate
    cap: int | None = carrier.today if day == 0 else carrier.plan.cap(carrier.stage + day)
    if day > 1 and cap is not None and cap >= carrier.plan.enough:
        cap = None
    caps = [one for one in (cap, rate) if one is not None]
    return min(caps) if caps else None
