"""A lane: what waits to leave by one way out for one site, the lines that share it, and what they learn from each other."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Sequence

import structlog

from mailfleet.engine.attempt import Attempt
from mailfleet.engine.ceiling import Ceiling, Ceilings
from mailfleet.engine.connect import Way, site_failure
from mailfleet.engine.lane_edges import LaneEdges
from mailfleet.engine.limits import LaneLimits
from mailfleet.engine.line import Item, Line
from mailfleet.engine.waiters import Waiters
from mailfleet.policy.egress import is_full
from mailfleet.policy.outcome import Action, Outcome, Phase
from mailfleet.policy.rates import Pace, Rate, scaled
from mailfleet.policy.transport import TlsDemand, TlsManner, stricter
from mailfleet.store.queue import Claimed
from mailfleet.store.sites import Site
from mailfleet.store.tenants import URGENT

log = structlog.get_logger()

MIN_TARGET, MAX_TARGET = 4, 200
FIRST_COOLDOWN_S, MAX_COOLDOWN_S = 30.0, 900.0
FIRST_CONNECTIONS = 2  # one more with every message that is taken: ten messages need no ten connections
SLOW_S = 0.5  # where an attempt takes longer, one connection is kept free for urgent mail
_PACE_WEIGHT = 0.1
PACED_S = 2.0  # a lane with a rate holds no more than it sends in this time
SAMPLES = 10


class Lane:
    """Deliveries for one site by one way out. ``others``: other ways out of their pool could take them now.

    ``ceilings``: what it shares, such as with the lanes of the same way out to the provider's other sites. ``beside``: lanes for what
    wants another manner of TLS; with them it shares its own limits (``engine.manners``).

    ``target`` is how many it likes to hold: more when it runs dry, fewer when they lie about, so that a slow site ties up
    little and a fast one never waits for a claim.
    """

    def __init__(
        self, way: Way, site: Site, limits: LaneLimits, edges: LaneEdges, ceilings: Sequence[Ceiling] = ()
    ) -> None:
        self._over = Ceilings(*ceilings)
        self.manner: TlsManner = ""
        self.beside: dict[TlsManner, Lane] = {}
        self._family: Ceiling | None = None
        self.way, self.site, self.limits, self.edges = way, site, limits, edges
        self.others = False
        self.permille = 1000  # of its limits, while a brake is on
        self._pace = Pace(self._rates(), self._now_ms())
        self._paced: asyncio.TimerHandle | None = None
        self._samples: deque[bool] = deque(maxlen=SAMPLES)
        self.unreachable = site_failure(site)
        self.target = MIN_TARGET * 4
        self.allowed = limits.connections  # fewer after the site said that it has enough
        self._follows = limits.commands_behind_message  # until the site shows that it does not like it
        self._reach = FIRST_CONNECTIONS
        self._heap: list[Item] = []
        self._out: set[int] = set()  # ids of what its lines have taken
        self._order = itertools.count()
        self._lines: dict[asyncio.Task[None], Line] = {}
        self._active = 0  # of the lines: those that still take work, not those that only close their connection
        self._idle: set[Line] = set()  # of these, those that have nothing under way
        self._waiters = Waiters()  # lines that have nothing to do
        self.settled = 0  # attempts that reached the remote, so far
        self._good = 0
        self._pace_s: float | None = None  # how long an attempt takes, lately
        self._lost_behind = 0
        self._cooldown_until_s = 0.0
        self._failures = 0
        self._stopping = False

    # What the scheduler asks

    @property
    def held(self) -> int:
        """Deliveries that wait in memory."""
        return len(self._heap)

    @property
    def busy(self) -> bool:
        """Something waits or is being attempted."""
        return bool(self._heap or self._lines) or any(one.busy for one in self.beside.values())

    @property
    def may_follow(self) -> bool:
        """A line may launch one delivery behind another: of a slow site nothing is taken before its turn."""
        return self._follows and self._pace_s is not None and self._pace_s < SLOW_S

    @property
    def cooling(self) -> bool:
        """It rests because nobody answered."""
        return self.edges.clock.monotonic_s() < self._cooldown_until_s

    @property
    def open_connections(self) -> int:
        """Lines that have a connection or are about to have one, those included that only close it."""
        return len(self._lines)

    @property
    def full(self) -> bool:
        """It has had all it could take for a while: the remote or a limit sets the pace, not what it is given."""
        return len(self._samples) == SAMPLES and is_full(self._samples)

    def look(self) -> None:
        """Notice whether it waits for the remote or for a limit; asked at every scan."""
        self._samples.append(bool(self._heap) and not any(line.asked for line in self._lines.values()))

    def keep_to(self, limits: LaneLimits, permille: int = 1000) -> None:
        """New limits, or another part of them, from now on; lines beyond them close when what they have under way is over."""
        if limits == self.limits and permille == self.permille:
            return
        self.limits, self.permille = limits, permille
        self.allowed = min(max(1, self.allowed), self._most())
        self._pace = self._pace.like(self._rates(), self._now_ms())
        for other in self.beside.values():
            other.keep_to(limits, permille)
        if self._family is not None:
            self._family.keep_to(max(1, self._most()), self._rates())
        self._waiters.call_all()
        self._staff()

    def family(self) -> tuple[Ceiling, ...]:
        """What a lane beside this one is under: from now on they keep to the limits of this one together."""
        if self._family is None:
            self._family = Ceiling(self._now_ms)
            self._family.keep_to(max(1, self._most()), self._rates())
            self._family.joined(self, len(self._lines), self._pace)
            self._over.add(self._family)
        return self._over.all

    @property
    def tls(self) -> TlsDemand:
        """What a connection must have."""
        return stricter(self.site.tls, self.limits.tls)

    def _most(self) -> int:
        """Connections, of which a brake leaves a part."""
        return -(-self.limits.connections * self.permille // 1000)

    def _rates(self) -> tuple[Rate, ...]:
        return scaled(self.limits.rates, permille=self.permille, scale=self.edges.time_scale)

    def _now_ms(self) -> float:
        return self.edges.clock.monotonic_s() * 1000

    def room(self, priority: int) -> int:
        """How many deliveries of this priority it would take now. The urgent have room of their own beside bulk."""
        if self._stopping or self.cooling or not self.permille:
            return 0
        ahead = sum(1 for one in self._heap if one.priority <= priority) if self._heap else 0
        most = self.target
        for rate in (*self._pace.rates, *self._over.rates):
            most = min(most, 1 + int(PACED_S * 1000 / rate.gap_ms))
        return max(0, most - ahead - sum(one.held for one in self.beside.values()))

    def offer(self, priority: int, claims: Sequence[Claimed]) -> None:
        """Take claimed deliveries; the urgent overtake."""
        for claimed in claims:
            heapq.heappush(self._heap, Item(priority, next(self._order), claimed, 0))
        self._waiters.call(len(claims))
        self._staff()
        if priority <= URGENT:  # lines that wait for a turn with bulk in mind are let through
            asking = [line for line in self._lines.values() if line.asked]
            for line, _ in zip(asking, claims, strict=False):
                self.edges.gate.ask(line, URGENT)

    def holds(self) -> set[int]:
        """Ids of all deliveries that wait here or are being attempted."""
        return self._out | {item.claimed.id for item in self._heap}

    def wake(self) -> None:
        """There may be room again under the ceiling, or time has come: for one, who sees to it that others are called."""
        self._waiters.call(1)
        self._staff()

    def make_room(self) -> None:
        """A lane to another site of the provider waits for a connection: idle lines end."""
        if self._idle:
            self._waiters.call_all()

    def let_go(self) -> list[Claimed]:
        """What waits here and was never tried, for others to take."""
        left = [one.claimed for one in self._heap]
        self._heap.clear()
        for other in self.beside.values():
            left += other.let_go()
        return left

    def stop(self) -> list[Claimed]:
        """Take nothing new; returns what was never tried, to be released. Attempts under way go on."""
        self._stopping = True
        left = self.let_go()
        self._waiters.call_all()
        for line in self._lines.values():
            line.kick()
        return left

    async def drained(self) -> None:
        """Wait for the attempts under way."""
        if self._lines:
            await asyncio.wait(self._lines)

    async def abandon(self) -> None:
        """Drop the attempts under way, so that none of them reads a 250 that nobody would settle."""
        for task in self._lines:
            task.cancel()
        await self.drained()

    # What its lines ask

    @property
    def next_priority(self) -> int:
        """Of what would be taken next."""
        return self._heap[0].priority if self._heap else URGENT

    @property
    def gives_way(self) -> bool:
        """A lane to another site of the provider waits for a connection."""
        return self._over.wanted(self)

    def may_take(self, line: Line) -> bool:
        """Whether there is something for this line now."""
        return self._active <= self.allowed and self._may_take(line) and self._in_pace()

    def take(self, line: Line) -> Item | None:
        """The next delivery for a line; None when there is none for it now, or too many connections are open."""
        if not self.may_take(line):
            return None
        item = heapq.heappop(self._heap)
        self._out.add(item.claimed.id)
        self._idle.discard(line)
        self._pace.take(self._now_ms())
        self._over.took()
        if self._heap and self._waiters and self._in_pace():
            self._waiters.call(1)
        if len(self._heap) * 2 < self.target:
            if not self._heap:
                self.target = min(MAX_TARGET, self.target * 2)
            self.edges.hungry.set()
        return item

    def exchanged(self, item: Item) -> Item:
        """The same, or what has become more urgent than it."""
        best = heapq.heappushpop(self._heap, item)
        self._out.discard(item.claimed.id)
        self._out.add(best.claimed.id)
        return best

    async def wait_for_work(self, line: Line) -> bool:
        """Until there is something for the line; false when there was not for ``idle_connection_s``, or it is one too many."""
        try:
            async with asyncio.timeout(self.limits.idle_connection_s):
                while not self._stopping and self._active <= self.allowed and not self.gives_way:
                    await self._waiters.wait()
                    if self.may_take(line):
                        return True
                return False
        except TimeoutError:
            self.target = max(MIN_TARGET, self.target // 2)
            return False

    def is_idle(self, line: Line) -> None:
        """The line has nothing under way any more."""
        self._idle.add(line)

    def leaves(self, line: Line) -> None:
        """The line takes nothing more."""
        self._active -= 1
        self._idle.discard(line)
        self._waiters.call(1)  # what it may have been called for
        self._staff()  # the last to go must not leave anything behind

    def put_back(self, item: Item) -> None:
        """A delivery that is to be tried again at once, on another connection."""
        self._is_over(item.claimed.id)
        heapq.heappush(self._heap, item)
        self._waiters.call(1)

    async def unfit(self, claimed: Claimed) -> Outcome | None:
        """What keeps a delivery from leaving in the manner that it wants; None when nothing does."""
        return None

    async def settle(self, attempt: Attempt) -> Action:
        """Hand over what came of an attempt."""
        verdict = await self.edges.settler.take(attempt._replace(source=self.way.name, elsewhere=self.others))
        self._is_over(attempt.claimed.id)
        return verdict.action

    def _is_over(self, delivery_id: int) -> None:
        if delivery_id in self._out:
            self._out.discard(delivery_id)
            self._pace.done(self._now_ms())
            self._over.done()

    def judged(self, *, good: bool, seconds: float) -> None:
        """An attempt is over that reached the remote. Connections come back in steps, never in one jump."""
        self.settled += 1
        self._pace_s = seconds if self._pace_s is None else self._pace_s + (seconds - self._pace_s) * _PACE_WEIGHT
        if not good:
            return
        self._good += 1
        if self._reach < self._most():
            self._reach += 1
            self._staff()
        if self._good >= 20 and self.allowed < self._most():
            self._good, self.allowed = 0, self.allowed + 1

    def followed(self, *, well: bool) -> None:
        """How a transaction fared whose commands had gone out behind a message: lost twice in a row, and it is not done again."""
        self._lost_behind = 0 if well else self._lost_behind + 1
        if self._lost_behind >= 2 and self._follows:
            self._follows = False
            log.info("the site does not take commands behind a message", site=self.site.key)

    def connected(self) -> None:
        """Somebody is there."""
        self._failures = 0
        self.edges.settler.counts.connected(self.site.provider, "open")

    async def not_connected(self, item: Item, outcome: Outcome, transcript: str, started_s: float) -> None:
        """No mail host of the site would talk to us."""
        others = self._active - 1
        said = "failed" if outcome.reply is None else "refused"
        self.edges.settler.counts.connected(self.site.provider, said)
        refused = outcome.reply is not None and outcome.reply.transient and outcome.phase is Phase.GREETING
        if refused and others:
            # "Too many connections" is about our manners, not about this delivery: fewer connections, same delivery.
            self.allowed, self._good = max(1, min(self.allowed, others)), 0
            self.put_back(item)
            return
        seconds = self.edges.clock.monotonic_s() - started_s
        attempt = Attempt(item.claimed, outcome, self.site.provider, transcript=transcript, seconds=seconds)
        action = await self.settle(attempt)
        if action is not Action.DEFER or others:
            return
        # Nobody there: what waits for the same site would hear the same, so it is spared the wait.
        waiting, self._heap = self._heap, []
        for other in waiting:
            await self.settle(Attempt(other.claimed, outcome, self.site.provider, transcript=transcript))
        self._failures += 1
        rest_s = min(MAX_COOLDOWN_S, FIRST_COOLDOWN_S * 2 ** (self._failures - 1)) / self.edges.time_scale
        self._cooldown_until_s = self.edges.clock.monotonic_s() + rest_s

    # Inside

    def _may_take(self, line: Line | None) -> bool:
        """Whether a line, or a new one, may have what is next. Of a slow site one connection stays free for urgent mail."""
        if not self._heap:
            return False
        if self._heap[0].priority <= URGENT or (self._pace_s or 0) < SLOW_S or self.allowed < 2:
            return True
        under_way = self._active - len(self._idle)
        return under_way < self.allowed - 1 or (line is not None and bool(line.flights))

    def _in_pace(self) -> bool:
        """Whether the rates let one more leave now; if not, everybody is woken when they do."""
        wait_ms = self._pace.wait_ms(self._now_ms()) if self._pace.rates else 0
        if wait_ms <= 0:
            return self._over.in_pace(self)
        if self._paced is None:
            self._paced = asyncio.get_running_loop().call_later(wait_ms / 1000, self._next_may_go)
        return False

    def _next_may_go(self) -> None:
        self._paced = None
        self.wake()

    def _staff(self) -> None:
        """Start lines for what waits, as many as are allowed."""
        if not self._heap or not self._in_pace():
            return
        allowed = min(self.allowed, self._reach)
        while self._active < allowed and len(self._idle) < len(self._heap) and not self._stopping:
            if not self._may_take(None):
                return
            if not self._over.opens(self):
                return
            line = Line(self)
            task = asyncio.create_task(line.run(), name=f"lane {self.way.name} {self.site.key[:60]}")
            self._lines[task] = line
            task.add_done_callback(self._ended)
            self._active += 1
            self._idle.add(line)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._lines[task]
        self._over.closed(self)
        if not task.cancelled() and task.exception() is not None:
            log.error("lane worker crashed", way=self.way.name, site=self.site.key, exc_info=task.exception())
            self.edges.hungry.set()
