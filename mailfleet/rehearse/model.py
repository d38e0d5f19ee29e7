"""A model of mailbox providers, played by the hour and by cohorts: counts of messages, not messages.

What providers are known to do, in a handful of numbers: a stranger may send little; what went well lately may grow by a factor a day;
what is beyond that is deferred, and pushing on costs reputation; complaints cost more; below some reputation the address is blocked
for days; recipients who were engaged complain less. Everything is in `docs/reference/provider-models.md`.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

MEMORY = 0.5  # of what was taken before, in what is taken for usual, each day
MIN_REPUTATION, MAX_REPUTATION = 0.0, 1.0


class Answer(NamedTuple):
    """What came of an hour's messages: counts by reply text (empty text: taken), complaints, and opens."""

    replies: Counter[str]
    complaints: int = 0
    opens: int = 0

    @property
    def delivered(self) -> int:
        """How many were taken."""
        return self.replies[""]


class Model(Protocol):
    """What a person's own model in Python has to be: one class with ``offer``, and the shares of providers in ``providers``."""

    @property
    def providers(self) -> dict[str, float]:
        """``name -> share`` of all recipients."""
        ...

    def offer(self, now: float, source: str, provider: str, attempted: int, engaged_share: float) -> Answer:
        """One hour: ``attempted`` messages from ``source``. ``now`` is in hours from the start."""
        ...


@dataclass(frozen=True, slots=True)
class Manners:
    """One provider. ``floor``: what a stranger may send in a day. ``growth``: by what factor more than what went well lately a day
    may hold. ``ceiling``: never more in a day. ``hour_share``: of a day's capacity that one hour may hold.
    """

    name: str
    share: float
    floor: int
    growth: float
    ceiling: int
    hour_share: float = 0.1
    greylist_days: int = 0  # of a stranger's life, in which each hour's mail is first put off
    bounce: float = 0.005
    complaint: float = 0.0005  # of those who were not engaged
    engaged_complaint: float = 0.00005
    trap: float = 0.00002  # spam traps among those who were not engaged
    excess_cost: float = 0.5  # reputation lost when as much is beyond the capacity as within it
    complaint_cost: float = 60.0  # reputation lost for a complaint rate of 1
    trap_cost: float = 0.002  # for each
    heal: float = 0.06  # reputation won back on a good day
    block_below: float = 0.35
    block_days: float = 2.0
    hostile_from: float = math.inf  # days; from then on everything is harder by ``hostile``
    hostile: float = 1.0
    defers: str = "421 4.7.0 Too much mail from your address, try again later"
    greylists: str = "451 4.7.1 Greylisted, please try again later"
    blocks: str = "554 5.7.1 Your address is blocked because of its poor reputation"
    bounces: str = "550 5.1.1 User unknown"


@dataclass(slots=True)
class Standing:
    """What a provider thinks of a source."""

    reputation: float = 0.7
    usual: float = 0.0  # messages a day
    day: int = 0
    today: int = 0
    hour: int = -1
    this_hour: int = 0
    first_day: int = -1
    excess: int = 0
    complaints: int = 0
    traps: int = 0
    blocked_until: float = -1.0
    blocked_days: set[int] = field(default_factory=set)


class CohortModel:
    """The model of a file, with chance from ``rng``."""

    def __init__(self, manners: list[Manners], rng: random.Random) -> None:
        self._manners = {one.name: one for one in manners}
        self._rng = rng
        self._standings: dict[tuple[str, str], Standing] = {}
        total = sum(one.share for one in manners)
        self.providers = {one.name: one.share / total for one in manners}

    def standing(self, source: str, provider: str) -> Standing:
        """What a provider thinks of a source so far."""
        return self._standings.setdefault((source, provider), Standing())

    def offer(self, now: float, source: str, provider: str, attempted: int, engaged_share: float) -> Answer:
        """See ``Model.offer``."""
        manners, standing = self._manners[provider], self.standing(source, provider)
        day = int(now // 24)
        while standing.day < day:
            self._night(manners, standing)
        if not attempted:
            return Answer(Counter())
        if now < standing.blocked_until:
            standing.blocked_days.add(day)
            return Answer(Counter({manners.blocks: attempted}))
        if standing.first_day < 0:
            standing.first_day = day
        hardness = manners.hostile if now / 24 >= manners.hostile_from else 1.0
        capacity = (
            min(manners.ceiling, max(manners.floor, standing.usual * manners.growth * standing.reputation / 0.7))
            / hardness
        )
        if standing.hour != int(now):
            standing.hour, standing.this_hour = int(now), 0
        room = min(capacity - standing.today, capacity * manners.hour_share - standing.this_hour)
        taken = max(0, min(attempted, int(room)))
        standing.this_hour += taken
        replies: Counter[str] = Counter()
        if attempted > taken:
            replies[manners.defers] = attempted - taken
            standing.excess += attempted - taken
        if day - standing.first_day < manners.greylist_days:
            put_off = self._some(taken, 0.5)
            replies[manners.greylists] += put_off
            taken -= put_off
        bounced = self._some(taken, manners.bounce)
        if bounced:
            replies[manners.bounces] = bounced
        delivered = taken - bounced
        replies[""] = delivered
        standing.today += delivered
        cold = 1 - engaged_share
        rate = (manners.complaint * cold + manners.engaged_complaint * engaged_share) * hardness
        complaints, traps = self._some(delivered, rate), self._some(delivered, manners.trap * cold)
        standing.complaints += complaints
        standing.traps += traps
        return Answer(replies, complaints, self._some(delivered, 0.1 + 0.3 * engaged_share))

    def _night(self, manners: Manners, standing: Standing) -> None:
        """A day is over: what it did to usual and reputation."""
        sent = standing.today
        standing.usual = max(MEMORY * standing.usual, sent) if sent >= standing.usual else (standing.usual + sent) / 2
        change = manners.heal if sent and not standing.excess else 0.0
        change -= manners.excess_cost * standing.excess / max(1, sent + standing.excess)
        change -= manners.complaint_cost * standing.complaints / max(200, sent)
        change -= manners.trap_cost * standing.traps
        standing.reputation = min(MAX_REPUTATION, max(MIN_REPUTATION, standing.reputation + change))
        standing.day += 1
        if standing.reputation < manners.block_below and standing.blocked_until <= standing.day * 24:
            standing.blocked_until = (standing.day + manners.block_days) * 24
            standing.reputation = manners.block_below + 0.1
            standing.usual /= 2
        standing.today = standing.excess = standing.complaints = standing.traps = 0

    def _some(self, count: int, share: float) -> int:
        """How many of ``count`` with a chance of ``share`` each, drawn as one number."""
        if count <= 0 or share <= 0:
            return 0
        mean = count * min(1.0, share)
        if count < 50:
            return sum(self._rng.random() < share for _ in range(count))
        spread = math.sqrt(mean * (1 - min(1.0, share)))
        return min(count, max(0, round(self._rng.gauss(mean, spread)) if mean > 20 else self._poisson(mean)))

    def _poisson(self, mean: float) -> int:
        limit, product, count = math.exp(-mean), self._rng.random(), 0
        while product > limit:
            product *= self._rng.random()
            count += 1
        return count


class OneByOne:
    """A model that is asked about every message by itself: slow, and the same in the end."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def providers(self) -> dict[str, float]:
        """See ``Model.providers``."""
        return self._model.providers

    def offer(self, now: float, source: str, provider: str, attempted: int, engaged_share: float) -> Answer:
        """See ``Model.offer``."""
        replies: Counter[str] = Counter()
        complaints = opens = 0
        for _ in range(attempted):
            answer = self._model.offer(now, source, provider, 1, engaged_share)
            replies += answer.replies
            complaints += answer.complaints
            opens += answer.opens
        if not attempted:
            self._model.offer(now, source, provider, 0, engaged_share)
        return Answer(replies, complaints, opens)
