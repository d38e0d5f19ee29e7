"""Who decides how much leaves in an hour: our policy, and the schedules that others publish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from mailfleet.policy.brakes import Brake, Decision, loosen, put_on, tighten
from mailfleet.policy.shaping import Shaper, Signal
from mailfleet.policy.warmup import Plan, Progress, Results, allowed_now, day_over, pushes_back

HOUR_MS = 3_600_000


class Heard(NamedTuple):
    """An hour's outcome as the classifier understands it: counts by (bounce class, rule, words), and how many were taken."""

    delivered: int
    refused: dict[tuple[str, str, str], int]
    complaints: int


class Warmer(Protocol):
    """Decides for one source and provider."""

    def room(self, hour: int) -> int:
        """How many more may leave in this hour."""
        ...

    def told(self, hour: int, heard: Heard) -> None:
        """What came of it."""
        ...


@dataclass
class Adaptive:
    """The policy of ``policy.warmup`` and ``policy.shaping``, as the engine plays it."""

    plan: Plan
    shaper: Shaper
    provider: str
    source: int
    progress: Progress = field(default_factory=Progress)
    results: Results = field(default_factory=Results)
    day: int = 0
    warm: bool = False
    brake: Brake | None = None
    held_day: int = -1

    def room(self, hour: int) -> int:
        """See ``Warmer``."""
        day = hour // 24
        while self.day < day:
            move = day_over(self.plan, self.progress, self.day + 1, self.results)
            self.progress, self.results, self.day = move.progress, Results(), self.day + 1
            self.warm = self.warm or move.kind == "done"
        if self.brake is not None:
            while (step := loosen(self.brake, hour * HOUR_MS)) is not None:
                self.brake = None if step.ended_ms else step
                if self.brake is None:
                    break
        if self.held_day == day:
            return 0
        share = (hour % 24) / 24
        cap = self.plan.enough * 10 if self.warm else self.plan.cap_of(self.progress)
        room = allowed_now(cap, share, self.results.delivered, 0)
        permille = self.brake.permille if self.brake is not None else 1000
        return room * permille // 1000

    def told(self, hour: int, heard: Heard) -> None:
        """See ``Warmer``."""
        greylisted = sum(n for (name, _, _), n in heard.refused.items() if name == "greylisted")
        bounced = sum(n for (name, _, _), n in heard.refused.items() if name == "unknown-user")
        refused = sum(heard.refused.values())
        self.results = Results(
            self.results.delivered + heard.delivered,
            self.results.attempted + heard.delivered + refused - greylisted,
            self.results.deferred + refused - greylisted - bounced,
            self.results.bounced + bounced,
            self.results.complained + heard.complaints,
        )
        if pushes_back(self.results):
            self.held_day = hour // 24
        for decision in self._decisions(hour, heard):
            now_ms = hour * HOUR_MS
            if self.brake is None:
                self.brake = put_on(decision, 1, now_ms)
            else:
                self.brake = tighten(self.brake, decision, now_ms, grace_ms=0) or self.brake

    def _decisions(self, hour: int, heard: Heard) -> list[Decision]:
        """A sample of the hour's replies in proportion: the shaper counts messages, and needs no million of them."""
        total = heard.delivered + sum(heard.refused.values())
        if not total:
            return []
        sample = min(50, total)
        for _ in range(round(sample * heard.delivered / total)):
            self.shaper.attempted(self.source, self.provider, 0)
        made: list[Decision] = []
        for (name, rule, words), count in heard.refused.items():
            signal = Signal(hour * HOUR_MS, self.source, self.provider, 1, 0, "mail", name, rule, words)
            for _ in range(max(1, round(sample * count / total))):
                made += self.shaper.heard(signal)
        return made[:1]


@dataclass
class Calendar:
    """A published schedule: ``caps`` a day for the whole source, split over providers as recipients are, whatever the results.

    ``needs``: a day counts only when this share of its attempts was taken (SparkPost).
    """

    caps: Callable[[int], int]
    share: float
    needs: float = 0.0
    stage: int = 0
    day: int = 0
    sent: int = 0
    attempted: int = 0

    def room(self, hour: int) -> int:
        """See ``Warmer``."""
        day = hour // 24
        while self.day < day:
            if not self.needs or (self.attempted and self.sent >= self.needs * self.attempted):
                self.stage += 1
            self.day, self.sent, self.attempted = self.day + 1, 0, 0
        cap = max(1, round(self.caps(self.stage) * self.share))
        return allowed_now(cap, (hour % 24) / 24, self.sent, 0)

    def told(self, hour: int, heard: Heard) -> None:
        """See ``Warmer``."""
        self.sent += heard.delivered
        self.attempted += heard.delivered + sum(heard.refused.values())


_SPARKPOST = (200, 500, 1000, 2000, 5000, 10_000, 20_000, 40_000, 50_000, 75_000, 100_000, 150_000)
_HYVOR = (
    50, 100, 250, 500, 1000, 2500, 5000, 10_000, 10_000, 20_000, 20_000, 40_000, 40_000, 75_000, 150_000,
)  # fmt: skip


def _table(caps: tuple[int, ...]) -> Callable[[int], int]:
    return lambda stage: caps[stage] if stage < len(caps) else caps[-1] * 2 ** (stage - len(caps) + 1)


def _sendgrid(stage: int) -> int:
    """20 an hour on the first day, 1.4 times as many on each next one."""
    return round(24 * 20 * 1.4**stage)


def _ses(stage: int) -> int:
    """50,000 a day in 45 days, by equal factors from 50 on; then 1.2 a day."""
    return round(50 * 1000 ** (stage / 45)) if stage <= 45 else round(50_000 * 1.2 ** (stage - 45))


PUBLISHED: dict[str, tuple[Callable[[int], int], float]] = {
    "sendgrid": (_sendgrid, 0.0),
    "ses": (_ses, 0.0),
    "sparkpost": (_table(_SPARKPOST), 0.9),
    "hyvor": (_table(_HYVOR), 0.0),
}
"""Caps a day of a whole source by stage, and the share that a day must have had delivered to count."""
