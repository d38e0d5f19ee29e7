"""A line: one worker of a lane with its connection, and the transactions that are under way on it.

Deliveries are launched one behind the other: while the answer to a message is awaited, the next one is rendered and its
commands go out in one piece with that message, where the remote can pipeline. So never more than one message of a line is
unanswered, and a fast site never waits for us.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from mailfleet.base.errors import InputError
from mailfleet.engine.journal import Journal
from mailfleet.engine.settle import Attempt
from mailfleet.net.smtp_client import SmtpConnection
from mailfleet.policy.outcome import Action, Failure, Outcome, Phase
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.transaction import TransactionResult
from mailfleet.store.queue import Claimed

if TYPE_CHECKING:
    from mailfleet.engine.lane import Lane

MAX_FRESH_TRIES = 3  # new connections for one delivery before a lost connection counts as its attempt


class Item(NamedTuple):
    """A delivery that waits in a lane. ``order`` keeps the turn within a priority."""

    priority: int
    order: int
    claimed: Claimed
    fresh_tries: int  # connections that ended under it without a word
    maybe_taken: int = 0  # of these, the ones that may have had its message


@dataclass(slots=True)
class _Flight:
    """A transaction under way, and what is known of it so far."""

    item: Item
    started_s: float
    first: bool  # of its connection
    behind: bool  # it was launched while another one was unanswered
    journal: Journal
    result: asyncio.Future[TransactionResult] | None = None
    wired: bool = False
    taken: Reply | None = None

    def on_wire(self) -> None:
        """Its message is about to be sent."""
        self.wired = True
        self.journal.started(self.item.claimed.id)

    def accepted(self, _: int, reply: Reply) -> None:
        """The remote took it: on record before anything else can happen."""
        self.taken = reply
        self.journal.accepted(self.item.claimed.id, str(reply))


@dataclass(slots=True, eq=False)
class Line:
    """One worker. ``run`` ends when the lane has nothing more for it; what it had launched is settled by then."""

    lane: Lane
    flights: deque[_Flight] = field(default_factory=deque)
    _connection: SmtpConnection | None = None
    _sent: int = 0  # messages launched on this connection

    async def run(self) -> None:
        """Take, launch and land, until there is nothing more to take."""
        lane = self.lane
        try:
            while True:
                item = lane.take(self) if self._has_room() else None
                if item is None and not self.flights:
                    if self._connection is not None:
                        item = await lane.wait_for_work(self)
                    if item is None:
                        break
                if item is None:
                    await self._land(self.flights.popleft())
                else:
                    await self._guarded(item)
                if not self.flights:
                    lane.is_idle(self)
        finally:
            lane.leaves(self)  # before anything is awaited: nobody else may leave on account of a line that is going
            if self._connection is not None:
                await self._connection.quit()

    def _has_room(self) -> bool:
        if not self.flights:
            return True
        connection = self._connection
        return (
            len(self.flights) == 1
            and self.lane.may_follow
            and connection is not None
            and connection.can_follow
            and self._sent < self.lane.limits.messages_per_connection
        )

    async def _guarded(self, item: Item) -> None:
        """Launch; when that crashes on a bug it is told, deferred, and the line dies of it."""
        try:
            await self._launch(item)
        except Exception:
            await self._crashed(item.claimed, None)
            raise

    async def _crashed(self, claimed: Claimed, taken: Reply | None) -> None:
        """Settle what is known of an attempt that crashed: a 250 that was read stands, or the message would go twice."""
        outcome = Outcome(Phase.MESSAGE, failure=Failure.INTERNAL, detail="the attempt crashed: see the log")
        if taken is not None:
            outcome = Outcome(Phase.MESSAGE, reply=taken)
        await self.lane.settle(Attempt(claimed, outcome, self.lane.site.provider))
        if self._connection is not None:
            self._connection.abort()
        while self.flights:  # what came behind it goes its own way
            await self._land(self.flights.popleft())

    async def _launch(self, item: Item) -> None:
        """Start the attempt at one delivery, over a new connection if need be."""
        lane, edges = self.lane, self.lane.edges
        claimed = item.claimed
        if lane.unreachable is not None:
            await lane.settle(Attempt(claimed, lane.unreachable, lane.site.provider))
            return
        started_s = edges.clock.monotonic_s()
        connection = await self._connected(item, started_s)
        if connection is None:
            return
        await edges.gate.turn(item.priority)
        try:
            prepared = await edges.renderer.prepare(claimed)
            transaction = edges.renderer.transaction(prepared, connection.extensions, now_ms=edges.clock.now_ms())
        except InputError as error:
            failed = Outcome(Phase.MESSAGE, failure=Failure.RENDER, detail=str(error))
            await lane.settle(Attempt(claimed, failed, lane.site.provider))
            return
        if self._sent and not (connection.usable or connection.can_follow):  # it ended while this was rendered
            lane.put_back(item)
            return
        flight = _Flight(item, started_s, self._sent == 0, bool(self.flights), edges.journal)
        flight.result = connection.submit(transaction, flight.accepted, flight.on_wire)
        self.flights.append(flight)
        self._sent += 1

    async def _connected(self, item: Item, started_s: float) -> SmtpConnection | None:
        """The connection to use, a new one where the old one is used up; None when there is none to be had: that is dealt with."""
        lane = self.lane
        connection = self._connection
        if connection is not None and not self.flights:
            if connection.usable and self._sent < lane.limits.messages_per_connection:
                return connection
            await connection.quit()
            connection = self._connection = None
        if connection is not None:
            return connection
        connection, outcome, transcript = await lane.edges.connector.open(
            lane.site, tls_required=lane.limits.tls_required
        )
        if connection is None:
            assert outcome is not None
            await lane.not_connected(item, outcome, transcript, started_s)
            return None
        self._connection, self._sent = connection, 0
        lane.connected()
        return connection

    async def _land(self, flight: _Flight) -> None:
        """Wait for what came of a launch, and settle it."""
        claimed = flight.item.claimed
        try:
            assert flight.result is not None
            result = await flight.result
            if self._goes_again(flight, result):
                return
            await self._judged(flight, result)
        except Exception:
            await self._crashed(claimed, flight.taken)
            raise
        except asyncio.CancelledError:
            if self._connection is not None:
                self._connection.abort()
            raise

    def _goes_again(self, flight: _Flight, result: TransactionResult) -> bool:
        """Closing between messages is a host's right and no refusal of this one: again on a new connection.

        It may have taken the message and died before it could say so; the event says how often that was possible.
        """
        said = result.recipients[0]
        told_to_go = said.phase == "mail" and said.reply is not None and said.reply.code == 421
        if flight.behind:
            self.lane.followed(well=not result.inconclusive)
        if flight.first or not (result.inconclusive or told_to_go):
            return False
        item = flight.item
        if not flight.behind and item.fresh_tries >= MAX_FRESH_TRIES:
            return False
        self.lane.put_back(item._replace(fresh_tries=item.fresh_tries + 1, maybe_taken=item.maybe_taken + flight.wired))
        connection = self._connection
        if connection is not None and not self.flights and not connection.usable:
            connection.abort()
            self._connection = None
        return True

    async def _judged(self, flight: _Flight, result: TransactionResult) -> None:
        lane, connection = self.lane, self._connection
        assert connection is not None
        said = result.recipients[0]
        peer = connection.peer
        failure = Failure.NONE if said.reply is not None else Failure(said.failure)
        outcome = Outcome(Phase(said.phase), said.reply, failure, said.detail, peer.host, peer.ip)
        transcript = result.transcript
        if flight.first:
            transcript = f"{connection.session_transcript}\n{transcript}"
        seconds = lane.edges.clock.monotonic_s() - flight.started_s
        action = await lane.settle(
            Attempt(
                flight.item.claimed,
                outcome,
                lane.site.provider,
                transcript,
                connection.tls_info,
                seconds,
                hung_up=flight.item.maybe_taken,
                dsn_passed_on=connection.extensions.dsn,
            )
        )
        lane.judged(good=action is Action.DELIVER, seconds=seconds)
        if action is Action.DELIVER:
            item = flight.item
            age_s = (lane.edges.clock.now_ms() - item.claimed.accepted_ms) / 1000
            lane.edges.settler.counts.delivered(item.priority, age_s)
