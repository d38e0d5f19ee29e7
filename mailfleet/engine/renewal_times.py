"""What authorities suggest about renewal (RFC 9773): asked now and then, and taken where it is earlier than our own margin."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from mailfleet.base.clock import Clock, rfc3339
from mailfleet.engine.issuing import Issuer
from mailfleet.policy import certificates as rules
from mailfleet.policy import renewal_info
from mailfleet.policy.renewal_info import Suggestion, Window
from mailfleet.store import certificates as rows
from mailfleet.store.certificates import Certificate
from mailfleet.store.database import Database

log = structlog.get_logger()


class RenewalTimes:
    """For one process. When a certificate is renewed is kept in the database, and so is when it is asked about.

    While the process lives that goes by the monotonic clock. Where nothing is kept each host has a time of its own.
    """

    def __init__(self, database: Database, issuer: Issuer | None, clock: Clock, time_scale: float) -> None:
        self._database, self._issuer, self._clock, self._time_scale = database, issuer, clock, time_scale
        self._due_s: dict[str, float] = {}  # by host, by the monotonic clock
        self._wishes: dict[str, str] = {}

    def made(self, host: str) -> None:
        """There is a new one: it is asked about at once (RFC 9773 4.3)."""
        self._due_s[host] = self._clock.monotonic_s()
        self._wishes.pop(host, None)

    def wish(self, host: str) -> str:
        """Why the authority wants the certificate replaced now, for people; empty where it does not."""
        return self._wishes.get(host, "")

    async def look(self, kept: Sequence[Certificate]) -> None:
        """Ask about one certificate, if the time for one has come. What is renewed now, or has ended, is not asked about."""
        if self._issuer is None:
            return
        now_ms, now_s = self._clock.now_ms(), self._clock.monotonic_s()
        due = []
        for one in kept:
            if one.issuer != self._issuer.name or not one.chain or not now_ms < min(one.next_try_ms, one.not_after_ms):
                continue
            if one.host not in self._due_s:
                left_s = renewal_info.left_s(one.next_ask_ms, now_ms, self._time_scale)
                own_s = renewal_info.pause_s(one.host, now_ms, 0, self._time_scale)
                self._due_s[one.host] = now_s + (own_s if left_s is None else left_s)
            if self._due_s[one.host] <= now_s:
                due.append(one)
        if due:
            one = min(due, key=lambda one: self._due_s[one.host])
            await self._heard(one, await self._issuer.suggested(one.chain))

    async def _heard(self, one: Certificate, suggestion: Suggestion) -> None:
        least_s, now_ms = renewal_info.least_pause_s(suggestion), self._clock.now_ms()
        pause_s = renewal_info.pause_s(one.host, now_ms, least_s, self._time_scale)
        self._due_s[one.host] = self._clock.monotonic_s() + pause_s
        await self._database.write(lambda tx: rows.ask_at(tx, one, now_ms + round(pause_s * 1000)))
        if suggestion.window is not None:
            await self._take(one, suggestion.window)
        elif suggestion.problem:
            log.info("our own margin decides when to renew", host=one.host, reason=suggestion.problem)

    async def _take(self, one: Certificate, window: Window) -> None:
        self._wishes[one.host] = wish = renewal_info.wish(window, self._clock.now_ms())
        renew_ms = renewal_info.planned_ms(
            rules.renewal_ms(one.not_before_ms, one.not_after_ms),
            window,
            one.chain,
            not_before_ms=one.changed_ms + round(renewal_info.YOUNG_S * 1000 / self._time_scale),
        )
        if renew_ms != one.next_try_ms and await self._database.write(lambda tx: rows.plan(tx, one, renew_ms)):
            log.info("an authority suggests when to renew", host=one.host, at=rfc3339(renew_ms), reason=wish)
