"""The play: hour by hour, so many messages wanted, so many let go by the plan, so many taken by the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mailfleet.rehearse.model import Model
from mailfleet.rehearse.plans import Heard, Warmer

REACHED = 0.95  # of the target, in one day
ENGAGED_SHARE = 0.3  # of recipients; they are sent to first

Understand = Callable[[str, str], tuple[str, str, bool]]
"""(provider, reply) -> bounce class, rule, and whether it is tried again."""


@dataclass
class Played:
    """What came of it. Messages by day; ``deferred_share`` of attempts."""

    target: int
    delivered_by_day: list[int] = field(default_factory=list)
    deferred_by_day: list[int] = field(default_factory=list)
    complaints: int = 0
    bounced: int = 0
    attempts: int = 0
    blocked_source_days: int = 0
    by_source: Counter[str] = field(default_factory=Counter)
    by_provider: Counter[str] = field(default_factory=Counter)

    @property
    def days_to_target(self) -> int | None:
        """The first day, counted from 1, that delivered the target; None when none did."""
        for day, count in enumerate(self.delivered_by_day, start=1):
            if count >= REACHED * self.target:
                return day
        return None

    @property
    def deferred_share(self) -> float:
        """Of all attempts."""
        return sum(self.deferred_by_day) / max(1, self.attempts)


def play(
    model: Model,
    warmers: dict[tuple[str, str], Warmer],
    understand: Understand,
    *,
    target: int,
    days: int,
    sources: list[str],
) -> Played:
    """``target`` messages are wanted each day, spread over its hours; what does not leave waits, a day's worth at most."""
    result = Played(target)
    blocked: set[tuple[str, int]] = set()
    backlog = dict.fromkeys(model.providers, 0.0)
    for hour in range(24 * days):
        day = hour // 24
        if hour % 24 == 0:
            result.delivered_by_day.append(0)
            result.deferred_by_day.append(0)
        for provider, share in model.providers.items():
            backlog[provider] = min(backlog[provider] + target * share / 24, target * share * 1.05)
            left = int(backlog[provider])
            for place, source in enumerate(sources):
                warmer = warmers[source, provider]
                part = -(-left // (len(sources) - place))
                count = min(part, warmer.room(hour))
                if count <= 0:
                    model.offer(float(hour), source, provider, 0, 0.0)
                    continue
                # Those who were engaged go first, so small days are theirs.
                engaged = min(1.0, ENGAGED_SHARE * target * share / 24 / count)
                answer = model.offer(float(hour), source, provider, count, engaged)
                refused: dict[tuple[str, str, str], int] = {}
                for words, number in answer.replies.items():
                    if not words or not number:
                        continue
                    name, rule, again = understand(provider, words)
                    refused[name, rule, words] = refused.get((name, rule, words), 0) + number
                    if again:
                        result.deferred_by_day[day] += number
                    else:
                        result.bounced += number
                        left -= number
                        backlog[provider] -= number
                    if name in ("ip-reputation", "ip-blocklisted"):
                        blocked.add((source, day))
                warmer.told(hour, Heard(answer.delivered, refused, answer.complaints))
                left -= answer.delivered
                backlog[provider] -= answer.delivered
                result.delivered_by_day[day] += answer.delivered
                result.attempts += count
                result.complaints += answer.complaints
                result.by_source[source] += answer.delivered
                result.by_provider[provider] += answer.delivered
    result.blocked_source_days = len(blocked)
    return result
