"""Interleaved rounds: every system has its turn in each, so that all see the same weather, and ratios are taken within a round."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Sample = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How long to measure. ``seconds`` is what one batch aims at; ``scale`` shrinks the scenarios whose size is fixed."""

    rounds: int = 3
    seconds: float = 6.0
    scale: float = 1.0

    @property
    def trial(self) -> bool:
        """Shorter than what may be quoted."""
        full = Plan()
        return self.rounds < full.rounds or self.seconds < full.seconds or self.scale < full.scale

    def scaled(self, count: int) -> int:
        """A fixed size, or what a trial makes of it."""
        return max(20, round(count * self.scale))


@dataclass
class Pace:
    """Sizes of batches, by job: found in its first round so that a batch takes about ``plan.seconds``, then kept."""

    plan: Plan
    sizes: dict[str, int] = field(default_factory=dict)

    def batch(self, job: str, key: str, send: Callable[[int], Sample]) -> Sample:
        """One batch by ``send``, after one that is not counted: processes are started, names known, connections open.

        ``key`` is the figure of a sample that tells how many it moves a second.
        """
        warm_up = 100 if self.plan.seconds < 3 else 500
        warm = send(warm_up)
        if job not in self.sizes:
            second = send(max(warm_up, round(warm[key])))  # the first one was short, and cold
            self.sizes[job] = max(100, round(second[key] * self.plan.seconds / 100) * 100)
        return send(self.sizes[job])


def say(words: str) -> None:
    """Progress, for whoever watches."""
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def number_of(value: float) -> str:
    """For people: three digits at least."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def interleave(name: str, rounds: int, jobs: Mapping[str, Callable[[], Sample]]) -> dict[str, list[Sample]]:
    """Run every job once in each round; another one begins each time."""
    samples: dict[str, list[Sample]] = {job: [] for job in jobs}
    order = list(jobs)
    for number in range(rounds):
        for job in order:
            sample = jobs[job]()
            samples[job].append(sample)
            shown = ", ".join(
                f"{key} {number_of(value)}" for key, value in sample.items() if isinstance(value, float | int)
            )
            say(f"{name} {number + 1}/{rounds} {job}: {shown}")
        order = order[1:] + order[:1]
    return samples


def series(samples: list[Sample], key: str) -> list[float]:
    """One figure of every round."""
    return [float(sample[key]) for sample in samples]


def summary(values: list[float], unit: str = "messages/s", **more: Any) -> dict[str, Any]:
    """Median, minimum, maximum, and whatever else is to be told."""
    digits = 4 if max(values) < 10 else 1
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {key: round(value, digits) for key, value in found.items()} | {"unit": unit, "rounds": len(values)} | more


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios within each round."""
    return round(statistics.median(one / other for one, other in zip(ours, theirs, strict=True)), 3)
