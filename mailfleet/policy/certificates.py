"""When a certificate is renewed, when it is tried again, and how it stands. Pure; times in milliseconds."""

from __future__ import annotations

from typing import Literal

MINUTE_MS = 60_000
DAY_MS = 86_400_000
SHORT_MS = 10 * DAY_MS
FIRST_WAIT_MS = 5 * MINUTE_MS  # Let's Encrypt takes five failures per host and hour
MOST_WAIT_MS = DAY_MS
MOST_ALONE_MS = 8 * DAY_MS  # limits of authorities run for a week
WARN_MS = 14 * DAY_MS
State = Literal["ok", "waiting", "expiring", "expired"]


def renewal_ms(not_before_ms: int, not_after_ms: int) -> int:
    """When a third of its life is left, as authorities ask; a half where it lives for ten days or less."""
    life = not_after_ms - not_before_ms
    return not_before_ms + (life // 2 if life <= SHORT_MS else life * 2 // 3)


def retry_ms(failures: int, told_ms: int = 0) -> int:
    """How long to wait after so many failures in a row: five minutes, doubled each time, a day at most.

    ``told_ms``: how long the authority wants to be left alone, which is kept to for eight days at most.
    """
    own_ms = min(MOST_WAIT_MS, FIRST_WAIT_MS << min(failures - 1, 12)) if failures else 0
    return max(own_ms, min(told_ms, MOST_ALONE_MS))


def is_due(next_try_ms: int, now_ms: int, *, failed: bool, time_scale: float) -> bool:
    """``failed``: it is a retry; one that is further away than any can be was planned before the clock was set back."""
    return next_try_ms <= now_ms or (failed and next_try_ms - now_ms > MOST_ALONE_MS / time_scale)


def state(not_before_ms: int, not_after_ms: int, now_ms: int) -> State:
    """``waiting``: there is none yet. ``expiring``: it was not renewed when it should have been, and ends soon."""
    if not_after_ms == 0:
        return "waiting"
    if now_ms >= not_after_ms:
        return "expired"
    margin = not_after_ms - renewal_ms(not_before_ms, not_after_ms)
    return "expiring" if now_ms >= not_after_ms - min(WARN_MS, margin // 2) else "ok"


def covers(pattern: str, host: str) -> bool:
    """Whether a name of a certificate is good for a host (RFC 6125 6.4.3: ``*`` is the whole first label)."""
    if pattern.startswith("*."):
        return host.partition(".")[2] == pattern[2:]
    return pattern == host
