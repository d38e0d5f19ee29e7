"""A lane: the deliveries that wait for one site in this process, the connections they share, and what they learn from each other."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import InputError
from mailfleet.engine.connect import Connector, site_failure
from mailfleet.engine.journal import Journal
from mailfleet.engine.render import Prepared, Renderer
from mailfleet.engine.settle import Attempt, Settler
from mailfleet.net.smtp_client import SmtpConnection
from mailfleet.policy.outcome import Action, Failure, Outcome, Phase
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.transaction import TransactionResult
from mailfleet.store.queue import Claimed
from mailfleet.store.sites import Site

log = structlog.get_logger()

MIN_TARGET, MAX_TARGET = 4, 200
FIRST_COOLDOWN_S, MAX_COOLDOWN_S = 30.0, 900.0
MAX_FRESH_TRIES = 3  # new connections for one delivery before a lost connection counts as its attempt


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """What the lane keeps to."""

    connections: int
    messages_per_connection: int
    idle_connection_s: float
    tls_required: bool = False


@dataclass(frozen=True, slots=True)
class LaneEdges:
    """What a lane works with; shared by all lanes of a process."""

    connector: Connector
    renderer: Renderer
    settler: Settler
    journal: Journal
    clock: Clock
    time_scale: float
    hungry: asyncio.Event  # set when a lane could use more deliveries


class Lane:
    """Deliveries for one site from one source.

    ``target`` is how many it likes to hold: more when it runs dry, fewer when they lie about, so that a slow site ties up
    little and a fast one never waits for a claim.
    """

    def __init__(self, site: Site, limits: LaneLimits, edges: LaneEdges) -> None:
        self.site, self.limits, self._edges = site, limits, edges
        self.target = MIN_TARGET * 4
        self.allowed = limits.connections  # fewer after the site said that it has enough
        self._heap: list[tuple[int, int, Claimed, int]] = []
        self._order = itertools.count()
        self._workers: set[asyncio.Task[None]] = set()
        self._active = 0  # of the workers: those that still take work, not those that only close their connection
        self._waiting = 0
        self._work = asyncio.Event()
        self._good = 0
        self._cooldown_until_s = 0.0
        self._failures = 0
        self._taken: dict[int, Reply] = {}  # 250s that were read and are not judged yet
        self._stopping = False

    @property
    def held(self) -> int:
        """Deliveries that wait in memory."""
        return len(self._heap)

    @property
    def busy(self) -> bool:
        """Something waits or is being attempted."""
        return bool(self._heap or self._workers)

    def room(self, priority: int) -> int:
        """How many deliveries of this priority it would take now. The urgent have room of their own beside bulk."""
        if self._stopping or self._edges.clock.monotonic_s() < self._cooldown_until_s:
            return 0
        ahead = sum(1 for one in self._heap if one[0] <= priority) if self._heap else 0
        return max(0, self.target - ahead)

    def offer(self, priority: int, claims: Sequence[Claimed]) -> None:
        """Take claimed deliveries; the urgent overtake."""
        for claimed in claims:
            heapq.heappush(self._heap, (priority, next(self._order), claimed, 0))
        self._work.set()
        self._staff()

    def stop(self) -> list[Claimed]:
        """Take nothing new; returns what was never tried, to be released. Attempts under way go on."""
        self._stopping = True
        left = [one[2] for one in self._heap]
        self._heap.clear()
        self._work.set()
        return left

    async def drained(self) -> None:
        """Wait for the attempts under way."""
        if self._workers:
            await asyncio.wait(self._workers)

    async def abandon(self) -> None:
        """Drop the attempts under way, so that none of them reads a 250 that nobody would settle."""
        for worker in self._workers:
            worker.cancel()
        await self.drained()

    def _staff(self) -> None:
        """Start workers for what waits, as many as are allowed."""
        while self._active < self.allowed and self._waiting < len(self._heap) and not self._stopping:
            task = asyncio.create_task(self._run_worker(), name=f"lane {self.site.key[:60]}")
            self._workers.add(task)
            task.add_done_callback(self._ended)
            self._active += 1
            self._waiting += 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._workers.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("lane worker crashed", site=self.site.key, exc_info=task.exception())
            self._edges.hungry.set()

    async def _run_worker(self) -> None:
        connection: SmtpConnection | None = None
        sent = 0
        waiting = True  # counted in _waiting by whoever started us
        try:
            while True:
                item = self._take()
                if item is None and connection is not None and not self._stopping:
                    item = await self._wait_for_work()
                if item is None:
                    break
                waiting, self._waiting = False, self._waiting - 1
                try:
                    if connection is not None and (
                        not connection.usable or sent >= self.limits.messages_per_connection
                    ):
                        await connection.quit()
                        connection, sent = None, 0
                    connection, sent = await self._deliver(item, connection, sent)
                except Exception:
                    # The attempt of this delivery crashed on a bug; it is told, deferred, and the worker dies of it.
                    await self._settle(Attempt(item[2], self._after_crash(item[2]), self.site.provider))
                    raise
                waiting, self._waiting = True, self._waiting + 1
        finally:
            self._active -= 1  # before anything is awaited: nobody else may leave on account of a worker that is going
            if waiting:
                self._waiting -= 1
            self._staff()  # the last to go must not leave anything behind
            if connection is not None:
                await connection.quit()

    def _after_crash(self, claimed: Claimed) -> Outcome:
        """What is known of an attempt that crashed. A 250 that was read stands, or the message would go twice."""
        reply = self._taken.pop(claimed.id, None)
        if reply is not None:
            return Outcome(Phase.MESSAGE, reply=reply)
        return Outcome(Phase.MESSAGE, failure=Failure.INTERNAL, detail="the attempt crashed: see the log")

    def _take(self) -> tuple[int, int, Claimed, int] | None:
        if not self._heap or self._active > self.allowed:
            return None
        item = heapq.heappop(self._heap)
        if len(self._heap) * 2 < self.target:
            if not self._heap:
                self.target = min(MAX_TARGET, self.target * 2)
            self._edges.hungry.set()
        return item

    async def _wait_for_work(self) -> tuple[int, int, Claimed, int] | None:
        try:
            async with asyncio.timeout(self.limits.idle_connection_s):
                while True:
                    self._work.clear()
                    await self._work.wait()
                    item = self._take()
                    if item is not None or self._stopping or self._active > self.allowed:
                        return item
        except TimeoutError:
            self.target = max(MIN_TARGET, self.target // 2)
            return None

    async def _deliver(
        self, item: tuple[int, int, Claimed, int], connection: SmtpConnection | None, sent: int
    ) -> tuple[SmtpConnection | None, int]:
        """One attempt at one delivery; returns the connection to go on with and how many messages it carried."""
        claimed = item[2]
        started_s = self._edges.clock.monotonic_s()
        unreachable = site_failure(self.site)
        if unreachable is not None:
            await self._settle(Attempt(claimed, unreachable, self.site.provider))
            return connection, sent
        if connection is None:
            connection, outcome, transcript = await self._edges.connector.open(
                self.site, tls_required=self.limits.tls_required
            )
            if connection is None:
                assert outcome is not None
                await self._not_connected(item, outcome, transcript, started_s)
                return None, 0
            sent = 0
            self._failures = 0
        try:
            return await self._attempt(item, connection, sent, started_s)
        except BaseException:
            connection.abort()  # the worker may not know of it yet
            raise

    async def _attempt(
        self, item: tuple[int, int, Claimed, int], connection: SmtpConnection, sent: int, started_s: float
    ) -> tuple[SmtpConnection | None, int]:
        priority, order, claimed, fresh_tries = item
        now_ms = self._edges.clock.now_ms()
        prepared = await self._edges.renderer.prepare(claimed)
        try:
            transaction = self._edges.renderer.transaction(prepared, connection.extensions, now_ms=now_ms)
        except InputError as error:
            failed = Outcome(Phase.MESSAGE, failure=Failure.RENDER, detail=str(error))
            await self._settle(Attempt(claimed, failed, self.site.provider))
            return connection, sent
        self._edges.journal.started(claimed.id)
        result = await connection.send(transaction, lambda _, reply: self._accepted(claimed, reply))
        if self._was_hung_up(result, sent) and fresh_tries < MAX_FRESH_TRIES:
            # Closing between messages is a host's right and no refusal of this one: again on a new connection. It may have
            # taken the message and died before it could say so; the event says how often that was possible.
            heapq.heappush(self._heap, (priority, order, claimed, fresh_tries + 1))
            connection.abort()
            return None, 0
        await self._judged(prepared, result, connection, started_s, first=sent == 0, hung_up=fresh_tries)
        self._taken.pop(claimed.id, None)
        return connection, sent + 1

    def _accepted(self, claimed: Claimed, reply: Reply) -> None:
        """The remote took it: on record before anything else can happen."""
        self._taken[claimed.id] = reply
        self._edges.journal.accepted(claimed.id, str(reply))

    @staticmethod
    def _was_hung_up(result: TransactionResult, sent: int) -> bool:
        first = result.recipients[0]
        if sent == 0:
            return False
        return result.unanswered or (first.phase == "mail" and first.reply is not None and first.reply.code == 421)

    async def _judged(
        self,
        prepared: Prepared,
        result: TransactionResult,
        connection: SmtpConnection,
        started_s: float,
        *,
        first: bool,
        hung_up: int,
    ) -> None:
        said = result.recipients[0]
        outcome = Outcome(
            Phase(said.phase),
            reply=said.reply,
            failure=Failure(said.failure) if said.reply is None else Failure.NONE,
            detail=said.detail,
            mx_host=connection.peer.host,
            remote_ip=connection.peer.ip,
        )
        attempt = Attempt(
            prepared.claimed,
            outcome,
            self.site.provider,
            transcript=(connection.session_transcript + "\n" if first else "") + result.transcript,
            tls=connection.tls_info,
            seconds=self._edges.clock.monotonic_s() - started_s,
            hung_up=hung_up,
            dsn_passed_on=connection.extensions.dsn,
        )
        verdict = await self._settle(attempt)
        if verdict is Action.DELIVER:
            self._good += 1
            if self._good >= 20 and self.allowed < self.limits.connections:  # back in steps, never in one jump
                self._good, self.allowed = 0, self.allowed + 1

    async def _not_connected(
        self, item: tuple[int, int, Claimed, int], outcome: Outcome, transcript: str, started_s: float
    ) -> None:
        priority, order, claimed, _ = item
        others = self._active - 1
        refused = outcome.reply is not None and outcome.reply.transient and outcome.phase is Phase.GREETING
        if refused and others:
            # "Too many connections" is about our manners, not about this delivery: fewer connections, same delivery.
            self.allowed, self._good = max(1, min(self.allowed, others)), 0
            heapq.heappush(self._heap, (priority, order, claimed, 0))
            self._work.set()
            return
        seconds = self._edges.clock.monotonic_s() - started_s
        attempt = Attempt(claimed, outcome, self.site.provider, transcript=transcript, seconds=seconds)
        action = await self._settle(attempt)
        if action is not Action.DEFER or others:
            return
        # Nobody there: what waits for the same site would hear the same, so it is spared the wait.
        waiting, self._heap = self._heap, []
        for _, _, other, _ in waiting:
            await self._settle(Attempt(other, outcome, self.site.provider, transcript=transcript))
        self._failures += 1
        rest_s = min(MAX_COOLDOWN_S, FIRST_COOLDOWN_S * 2 ** (self._failures - 1)) / self._edges.time_scale
        self._cooldown_until_s = self._edges.clock.monotonic_s() + rest_s

    async def _settle(self, attempt: Attempt) -> Action:
        return (await self._edges.settler.take(attempt)).action
