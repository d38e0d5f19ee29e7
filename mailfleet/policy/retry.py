"""When a deferred delivery is tried again: backoff, floors per bounce class, expiry. Not whether: that is the verdict's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

SPREAD = (
    0.2  # each delay is spread by up to this share either way, so that a burst of deferrals does not come back as one
)

ELSEWHERE_S = 5.0

FLOOR_S: dict[str, float] = {
    "greylisted": 300,  # RFC 6647 5: most sites let the second try through after a few minutes, some not before five
    "rate-limited": 900,
    "too-many-connections": 120,
    "mailbox-full": 1800,
    "out-of-storage": 900,
    "ip-reputation": 1800,
    "ip-blocklisted": 1800,
    "domain-reputation": 3600,
    "authentication": 1800,
    "content-spam": 1800,
    "dns": 120,
}
"""Shortest wait by bounce class, seconds; a class that is not here has none."""


class Schedule(Protocol):
    """What is needed of a retry schedule; ``config.settings.RetrySchedule`` is one. Seconds."""

    @property
    def first_delay_s(self) -> float:
        """Wait after the first deferral."""
        ...

    @property
    def max_delay_s(self) -> float:
        """Longest wait that doubling leads to."""
        ...

    @property
    def expire_after_s(self) -> float:
        """Life of a delivery from its acceptance."""
        ...


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """``due_ms`` is the next attempt, None when the delivery has expired; ``expires_ms`` is when it does."""

    due_ms: int | None
    expires_ms: int


def expires_at_ms(schedule: Schedule, *, accepted_ms: int, scale: float) -> int:
    """When a delivery expires. ``accepted_ms`` is the acceptance, or ``send_at`` where that is later."""
    return accepted_ms + round(schedule.expire_after_s * 1000 / scale)


def next_attempt(
    schedule: Schedule,
    *,
    attempts: int,
    accepted_ms: int,
    now_ms: int,
    bounce_class: str,
    jitter: float,
    scale: float = 1,
    retry_after_s: int | None = None,
    elsewhere: bool = False,
) -> RetryDecision:
    """Decide after a deferral. ``attempts`` counts those made, this one included; ``jitter`` is drawn from [0, 1).

    The delay doubles from ``first_delay_s`` to ``max_delay_s`` and is spread; a class's floor and ``retry_after_s`` (what
    the remote asked for) are spread upwards only, so they are never undercut, and may exceed ``max_delay_s``. The first
    retry after greylisting waits the floor, however long ``first_delay_s`` is. ``scale`` divides every delay and the
    expiry. ``elsewhere``: the next attempt leaves by another way out, of which the remote has said nothing: it need not wait
    but ``ELSEWHERE_S``. A wait that would end after the expiry is cut: there is one last attempt at the expiry itself, and a deferral
    at or after it expires the delivery.
    """
    expires_ms = expires_at_ms(schedule, accepted_ms=accepted_ms, scale=scale)
    if now_ms >= expires_ms:
        return RetryDecision(None, expires_ms)
    floor_s = FLOOR_S.get(bounce_class, 0)
    delay_s = min(schedule.max_delay_s, schedule.first_delay_s * 2 ** min(attempts - 1, 40))
    if bounce_class == "greylisted" and attempts <= 1:
        delay_s = 0
    delay_s = max(
        delay_s * (1 - SPREAD + 2 * SPREAD * jitter),
        max(floor_s, retry_after_s or 0) * (1 + SPREAD * jitter),
    )
    if elsewhere:
        delay_s = min(delay_s, ELSEWHERE_S * (1 + jitter))
    return RetryDecision(min(now_ms + max(1, round(delay_s * 1000 / scale)), expires_ms), expires_ms)
