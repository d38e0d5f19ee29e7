"""Time as an argument. Pure code takes ``now_ms``; loops take a ``Clock``; SQL takes ``:now_ms``.

An instant is an integer count of milliseconds since 1970-01-01T00:00:00Z. At the edges (API, UI, logs) it is shown as
RFC 3339 in UTC.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

STEP_MS = 2000  # a clock that goes back by more was set back; less is how clocks are kept right
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


class Clock(Protocol):
    """Wall time for records, monotonic time for durations."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait ``delay_s`` seconds."""
        ...


def ahead_ms(clock: Clock) -> int:
    """Of the wall clock before the monotonic one: it changes when the wall clock is set."""
    return clock.now_ms() - round(clock.monotonic_s() * 1000)


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


def rfc3339(at_ms: int) -> str:
    """``1767225600123`` -> ``2026-01-01T00:00:00.123Z``."""
    return (_EPOCH + at_ms * _MS).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> int:
    """RFC 3339 (or ISO 8601 with an offset) to milliseconds. Raises ``ValueError`` on anything else, or with no offset."""
    at = datetime.fromisoformat(text.strip())
    if at.tzinfo is None:
        raise ValueError("a time needs an offset, for example 2026-01-31T09:00:00Z")
    return round((at - _EPOCH) / _MS)
