"""Warm-up in the commits that claim: days are closed, caps are looked at, and what is claimed is reserved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mailfleet.policy.warmup import (
    NORMAL,
    Move,
    Plan,
    Progress,
    Results,
    allowed_now,
    day_number,
    day_over,
    day_share,
    pushes_back,
)
from mailfleet.store import counts, warmups
from mailfleet.store.database import Tx
from mailfleet.store.warmups import Day, Key, Warmup

MAX_DAYS = 400  # that one commit closes; a source idle for longer has lost everything anyway


@dataclass(frozen=True)
class WarmNow:
    """What the pairs that warm up had room for when somebody looked; those that are not here have no cap."""

    left: Mapping[Key, int] = field(default_factory=dict)

    def has_room(self, egress_id: int, provider: str) -> bool:
        """Whether one more may be claimed, as far as is known; the claim itself looks again."""
        return self.left.get((egress_id, provider), 1) > 0


def read_warm(tx: Tx, day: int, share: float) -> WarmNow:
    """How much room there is. A day that has just begun has some: who claims closes the one before."""
    pairs = [one for one in warmups.every(tx) if one.state != "warm"]
    if not pairs:
        return WarmNow()
    counted = {(one.egress_id, one.provider): one for one in warmups.today(tx, day)}
    left = {}
    for pair in pairs:
        today = counted.get(pair.key)
        if pair.state == "paused":
            left[pair.key] = 0
        elif pair.day < day:
            left[pair.key] = 1
        else:
            left[pair.key] = allowed_now(pair.cap, share, today.delivered if today else 0, pair.reserved)
    return WarmNow(left)


class Warming:
    """What one process does for warm-up. ``plans`` by name."""

    def __init__(self, plans: Mapping[str, Plan], time_scale: float) -> None:
        self._plans, self._time_scale = plans, time_scale

    def day(self, now_ms: int) -> int:
        """The day of warm-up."""
        return day_number(now_ms, self._time_scale)

    def share(self, now_ms: int) -> float:
        """How much of it is over."""
        return day_share(now_ms, self._time_scale)

    def left(self, tx: Tx, keys: Iterable[Key], now_ms: int) -> dict[Key, int]:
        """How many more of those pairs that warm up may be claimed in this commit. Closes the days that are over."""
        day, share = self.day(now_ms), self.share(now_ms)
        pairs = warmups.warming(tx, keys)
        if not pairs:
            return {}
        pairs = [pair if pair.day >= day else self._roll(tx, pair, day, now_ms) for pair in pairs]
        counted = {(one.egress_id, one.provider): one for one in warmups.today(tx, day)}
        found = {}
        for pair in pairs:
            if pair.state == "warming":
                found[pair.key] = self._left_today(tx, pair, counted.get(pair.key), share, now_ms)
        return found

    def _left_today(self, tx: Tx, pair: Warmup, today: Day | None, share: float, now_ms: int) -> int:
        if pair.held_until_ms > now_ms:
            return 0
        why = pushes_back(_results(today)) if today is not None else ""
        if why:
            until_ms = self._next_day_ms(pair.day)
            warmups.put(tx, pair._replace(held_until_ms=until_ms, reason=f"nothing more today: {why}"))
            return 0
        return room_of(pair, today, share, now_ms)

    def _next_day_ms(self, day: int) -> int:
        return int(-(-(day + 1) * 86_400_000 // self._time_scale))

    def _roll(self, tx: Tx, pair: Warmup, day: int, now_ms: int) -> Warmup:
        """Close every day up to ``day``; one that left nothing to say is not kept."""
        plan = self._plans.get(pair.plan)
        if plan is None:  # a table that was taken away: what was reached stays
            changed = pair._replace(day=day, reason=f"there is no plan {pair.plan} any more: the cap stays as it is")
            warmups.put(tx, changed)
            return changed
        progress = Progress(pair.stage, pair.good_days, pair.last_sent_day, pair.caution)
        state, reason = pair.state, pair.reason
        for number in range(max(pair.day, day - MAX_DAYS), day):
            counted = warmups.day(tx, pair.key, number) if number == pair.day else None
            move = day_over(plan, progress, number, _results(counted) if counted else Results())
            if (counted is not None and counted.attempted) or move.kind != "hold":
                self._close(tx, pair, plan, progress, number, move)
                reason = move.reason
            progress = move.progress
            if move.kind == "done":
                state = "warm"
        changed = pair._replace(
            state=state,
            stage=progress.stage,
            good_days=progress.good_days,
            last_sent_day=progress.last_sent_day,
            cap=plan.cap_of(progress),
            caution=progress.caution,
            day=day,
            held_until_ms=0,
            reason=reason,
            since_ms=now_ms if state != pair.state else pair.since_ms,
        )
        warmups.put(tx, changed)
        return changed

    @staticmethod
    def _close(tx: Tx, pair: Warmup, plan: Plan, before: Progress, number: int, move: Move) -> None:
        warmups.close_day(
            tx, Day(*pair.key, number, before.stage, plan.cap_of(before), 0, 0, 0, 0, 0, move.kind, move.reason)
        )


def _results(day: Day | None) -> Results:
    if day is None:
        return Results()
    return Results(day.delivered, day.attempted, day.deferred, day.bounced, day.complained)


def room_of(pair: Warmup, today: Day | None, share: float, now_ms: int) -> int:
    """How many more of a pair may be claimed, ``share`` of the day being over."""
    if pair.held_until_ms > now_ms:
        return 0
    return allowed_now(pair.cap, share, today.delivered if today else 0, pair.reserved)


def forget_idle(tx: Tx, plans: Mapping[str, Plan], now_ms: int, scale: float) -> int:
    """Sources that were warm and have sent nothing to a provider for long begin anew, half way; returns how many did."""
    day, last = day_number(now_ms, scale), counts.last_hours(tx)
    count = 0
    for one in warmups.every(tx):
        plan = plans.get(one.plan)
        if one.state != "warm" or plan is None:
            continue
        sent_ms = max(last.get(one.key, 0) * counts.HOUR_MS, one.since_ms)
        idle = day - day_number(sent_ms, scale)
        if idle >= NORMAL.forgotten_days:
            stage = one.stage // 2
            reason = f"nothing was sent for {idle} days: from here on again"
            if warmups.get(tx, one.key) != one:
                continue  # a person is steering it
            changed = one._replace(
                state="warming", stage=stage, good_days=0, cap=plan.cap(stage), day=day, reason=reason, since_ms=now_ms
            )
            warmups.put(tx, changed)
            warmups.recount(tx, one.key)
            count += 1
    return count
