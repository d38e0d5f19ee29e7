"""Warm-up of one source with one provider: how much a day may hold, and what follows from what came of it. Pure, exact.

A plan is a ceiling in stages. A stage counts only deliveries, and only days that sent: a day moves up when most of what it
allowed was delivered and the provider liked it, two stages when it liked it very much, stays where it is in between, and steps
back when the provider pushed back. Idle sources are forgotten, and so is what they had reached. Within a day the quota is spread
over the hours, and when the provider begins to push back the rest of the day is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

DAY_MS = 86_400_000
USED_PERMILLE = 500  # of the cap must have been delivered for a day to count
SLICES = 24
MAX_CAUTION = 4
FEW = 20  # attempts say little of shares
PAST_TABLE_PERMILLE = 1500  # how the cap grows where a plan's table ends before it is enough


@dataclass(frozen=True, slots=True)
class Plan:
    """Deliveries a day by stage. ``enough``: where this much a day went well the source is warm, and no cap is left.

    ``adaptive``: days that went very well move up two stages. ``days_per_stage``: good days that a stage takes.
    """

    name: str
    caps: tuple[int, ...]
    enough: int
    adaptive: bool = True
    days_per_stage: int = 1

    def cap(self, stage: int) -> int:
        """What a day of this stage may hold, beyond the table too."""
        if stage < len(self.caps):
            return self.caps[stage]
        cap = self.caps[-1]
        for _ in range(stage - len(self.caps) + 1):
            cap = cap * PAST_TABLE_PERMILLE // 1000
        return cap

    def days(self, progress: Progress) -> int:
        """Good days that the stage takes."""
        return self.days_per_stage + progress.caution

    def cap_of(self, progress: Progress) -> int:
        """What a day may hold: the stage's cap, and of the way to the next one the part that its good days have gone."""
        here = self.cap(progress.stage)
        gone = progress.good_days / self.days(progress)
        return int(here * (self.cap(progress.stage + 1) / here) ** gone)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """In permille: of attempts, and for complaints of deliveries."""

    good_delivered: int = 900
    good_deferred: int = 40
    fine_deferred: int = 10
    good_bounced: int = 50
    fine_bounced: int = 20
    bad_deferred: int = 120
    bad_bounced: int = 100
    good_complained: int = 1
    bad_complained: int = 3
    stop_deferred: int = 80  # within a day: leave the rest of it alone
    idle_days: int = 7  # after so many the first stage is lost, and one more with each as many again
    forgotten_days: int = 30  # after so many at least half of what was reached


NORMAL = Thresholds()


class Results(NamedTuple):
    """What came of a day. ``attempted`` are those that the provider answered."""

    delivered: int = 0
    attempted: int = 0
    deferred: int = 0
    bounced: int = 0
    complained: int = 0


class Progress(NamedTuple):
    """How far a source is. ``good_days``: of the stage so far. ``last_sent_day`` 0: none.

    ``caution``: how often the provider has pushed back; a stage takes so many days more, and the cap grows a little on each.
    """

    stage: int = 0
    good_days: int = 0
    last_sent_day: int = 0
    caution: int = 0


class Move(NamedTuple):
    """What follows from a day: ``up | hold | back | decay | done``, and why."""

    kind: str
    progress: Progress
    reason: str


def day_number(now_ms: int, scale: float) -> int:
    """The day of warm-up: the UTC day, or a shorter one where time runs faster."""
    return int(now_ms * scale) // DAY_MS


def day_share(now_ms: int, scale: float) -> float:
    """How much of the day is over, 0 to 1."""
    return (now_ms * scale) % DAY_MS / DAY_MS


def day_over(plan: Plan, before: Progress, day: int, results: Results, limits: Thresholds = NORMAL) -> Move:
    """The move at the end of ``day``, with what came of it. Days without mail are moved over one by one as well."""
    if not results.attempted:
        return _idle(before, day, limits)
    progress = before._replace(last_sent_day=day)
    cap = plan.cap_of(before)
    words = _words(results)
    bad = _bad(results, limits)
    if bad:
        back = Progress(_stage_for(plan, before.stage, results.delivered), 0, day, min(MAX_CAUTION, before.caution + 1))
        return Move("back", back, f"{bad} ({words}): back to {plan.cap(back.stage)} a day")
    doubt = _doubt(results, limits)
    if results.delivered * 1000 < cap * USED_PERMILLE and not doubt:
        return Move(
            "hold", progress, f"{results.delivered} of {cap} were delivered: too few to count as a day of this stage"
        )
    if doubt:
        careful = min(MAX_CAUTION, before.caution + 1) if results.deferred else before.caution
        return Move("hold", progress._replace(caution=careful), f"{doubt} ({words}): the cap of {cap} stays")
    if cap >= plan.enough:
        return Move("done", progress, f"{results.delivered} a day went well ({words}): warm")
    if before.good_days + 1 < plan.days(before):
        more = progress._replace(good_days=before.good_days + 1)
        return Move("up", more, f"good ({words}): a little more, {plan.cap_of(more)} a day")
    steps = 2 if plan.adaptive and not before.caution and _very_good(results, limits) else 1
    stage = before.stage + steps
    return Move(
        "up",
        Progress(stage, 0, day, before.caution),
        f"{'very good' if steps == 2 else 'good'} ({words}): on to {plan.cap(stage)} a day",
    )


def allowed_now(cap: int, share: float, delivered: int, reserved: int) -> int:
    """How many more may be claimed now of a day's cap: never more than the hours so far, with the present one, have room for.

    ``share`` of the day is over; ``reserved`` are under way. The last hour has room for all that is left.
    """
    slices = min(SLICES, int(share * SLICES) + 1)
    return max(0, -(-cap * slices // SLICES) - delivered - reserved)


def pushes_back(results: Results, limits: Thresholds = NORMAL) -> str:
    """Why the rest of the day should be left alone; empty while there is no reason."""
    if results.attempted >= FEW:
        if results.deferred * 1000 > results.attempted * limits.stop_deferred:
            return f"the provider defers: {_words(results)}"
        if results.bounced * 1000 > results.attempted * limits.bad_bounced:
            return f"the provider refuses: {_words(results)}"
    if results.delivered >= 1000 and results.complained * 1000 > results.delivered * limits.bad_complained:
        return f"its users complain: {_words(results)}"
    return ""


def _idle(before: Progress, day: int, limits: Thresholds) -> Move:
    idle = day - before.last_sent_day if before.last_sent_day else 0
    if not before.stage or not idle or idle % limits.idle_days:
        return Move("hold", before, "no mail")
    stage = before.stage - 1
    if idle // limits.idle_days == -(-limits.forgotten_days // limits.idle_days):
        stage = min(stage, before.stage // 2)
    return Move("decay", before._replace(stage=stage, good_days=0), f"nothing was sent for {idle} days")


def _stage_for(plan: Plan, stage: int, delivered: int) -> int:
    """One stage back, or as many as it takes that the cap is no more than what was taken."""
    back = max(0, stage - 1)
    while back and plan.cap(back) > max(delivered, plan.caps[0]):
        back -= 1
    return back


def _bad(results: Results, limits: Thresholds) -> str:
    if results.attempted >= FEW:
        if results.deferred * 1000 > results.attempted * limits.bad_deferred:
            return "much was deferred"
        if results.bounced * 1000 > results.attempted * limits.bad_bounced:
            return "much was refused"
    if results.complained * 1000 > max(1000, results.delivered) * limits.bad_complained:
        return "many complained"
    return ""


def _doubt(results: Results, limits: Thresholds) -> str:
    if results.delivered * 1000 < results.attempted * limits.good_delivered:
        return "too little was delivered"
    if results.deferred * 1000 > results.attempted * limits.good_deferred:
        return "some was deferred"
    if results.bounced * 1000 > results.attempted * limits.good_bounced:
        return "some was refused"
    if results.complained * 1000 > max(1000, results.delivered) * limits.good_complained:
        return "some complained"
    return ""


def _very_good(results: Results, limits: Thresholds) -> bool:
    return (
        results.deferred * 1000 <= results.attempted * limits.fine_deferred
        and results.bounced * 1000 <= results.attempted * limits.fine_bounced
    )


def _words(results: Results) -> str:
    parts = [f"{results.delivered} of {results.attempted} delivered"]
    for count, word in (
        (results.deferred, "deferred"),
        (results.bounced, "bounced"),
        (results.complained, "complained"),
    ):
        if count:
            parts.append(f"{count} {word}")
    return ", ".join(parts)
