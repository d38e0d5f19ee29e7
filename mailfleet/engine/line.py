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
from mailfleet.engine.attempt import Attempt
from mailfleet.engine.journal import Journal
from mailfleet.engine.tls_book import counted_domain
from mailfleet.net.smtp_client import SmtpConnection
from mailfleet.policy.outcome import Action, Failure, Outcome, Phase
from mailfleet.smtp.extensions import Extensions
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
    domain: str
    result: asyncio.Future[TransactionResult] = field(init=False)
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


class Line:
    """One worker. ``run`` ends when the lane has nothing more for it; what it had launched is settled by then.

    It takes a delivery only when it is its turn to render: until then the delivery waits in the lane, where the urgent
    overtake, and what comes back from the remote is settled meanwhile.
    """

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.flights: deque[_Flight] = deque()
        self.asked = False  # for a turn
        self._turn = False
        self._in_hand: Item | None = None  # what a connection was opened for
        self._connection: SmtpConnection | None = None
        self._sent = 0  # messages launched on this connection
        self._kicked: asyncio.Future[None] | None = None

    def granted(self) -> bool:
        """It is this line's turn (``gate.Caller``)."""
        if not self.asked:
            return False
        self.asked, self._turn = False, True
        self.kick()
        return True

    def kick(self, _: object = None) -> None:
        """Something has happened that it may be waiting for."""
        if self._kicked is not None and not self._kicked.done():
            self._kicked.set_result(None)

    async def run(self) -> None:
        """Launch and land, until there is nothing more to take."""
        lane = self.lane
        try:
            while True:
                if self.flights and self.flights[0].result.done():
                    await self._land(self.flights.popleft())
                    if not self.flights:
                        lane.is_idle(self)
                elif self._turn:
                    self._turn = False
                    await self._launch_next()
                elif not self.asked and self._has_room():
                    if not await self._ready():
                        break
                else:
                    self._kicked = asyncio.get_running_loop().create_future()
                    await self._kicked
        finally:
            self.asked = False
            lane.leaves(self)  # before anything is awaited: nobody else may leave on account of a line that is going
            if self._connection is not None:
                if self.flights:
                    self._connection.abort()
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
            and self.lane.may_take(self)
        )

    async def _ready(self) -> bool:
        """Have a connection and ask for a turn; false when the line is to end."""
        lane = self.lane
        if not self.flights and not self._in_hand:
            usable = await self._old_connection()
            if not usable and self._sent and lane.gives_way:
                return False
            if not lane.may_take(self) and not (usable and await lane.wait_for_work(self)):
                return False
            if not usable or not self._connection or not self._connection.usable:
                self._in_hand = lane.take(self)
                if self._in_hand is None or not await self._connect(self._in_hand):
                    self._in_hand = None
                    lane.is_idle(self)
                    return True
        self.asked = True
        lane.edges.gate.ask(self, lane.next_priority if self._in_hand is None else self._in_hand.priority)
        return True

    async def _old_connection(self) -> bool:
        """Whether there is a connection that can be used; one that cannot is closed."""
        connection = self._connection
        if connection is None:
            return False
        if connection.usable and self._sent < self.lane.limits.messages_per_connection:
            return True
        self._connection = None
        await connection.quit()
        return False

    async def _connect(self, item: Item) -> bool:
        """Open a connection for a delivery; false when there is none to be had, or none is needed: that is dealt with."""
        lane = self.lane
        if lane.unreachable is not None:
            await lane.settle(Attempt(item.claimed, lane.unreachable, lane.site.provider))
            return False
        if self._connection is not None:  # it ended while there was nothing to do
            self._connection.abort()
            self._connection = None
        started_s = lane.edges.clock.monotonic_s()
        try:
            if lane.manner and await self._held_up(item):
                return False
            connection, outcome, transcript = await lane.edges.connector.open(
                lane.site,
                lane.way,
                tls=lane.tls,
                manner=lane.manner,
                domain=item.claimed.address.rpartition("@")[2],
                counted=counted_domain(item.claimed.address, item.claimed.envelope),
            )
        except Exception:
            await self._crashed(item.claimed, None)
            raise
        if connection is None:
            assert outcome is not None
            await lane.not_connected(item, outcome, transcript, started_s)
            return False
        self._connection, self._sent = connection, 0
        lane.connected()
        return True

    async def _held_up(self, item: Item) -> bool:
        """Whether the manner that a delivery wants is not to be had for its domain: that is dealt with."""
        outcome = await self.lane.unfit(item.claimed)
        if outcome is not None:
            await self.lane.settle(Attempt(item.claimed, outcome, self.lane.site.provider))
        return outcome is not None

    async def _launch_next(self) -> None:
        """Take what is first in the lane now and launch it. When that crashes on a bug it is deferred, and the line dies of it."""
        held, self._in_hand = self._in_hand, None
        if held is not None:
            item: Item | None = self.lane.exchanged(held)
        else:
            item = self.lane.take(self)
        if item is None:
            return
        try:
            await self._launch(item)
        except Exception:
            await self._crashed(item.claimed, None)
            raise
        if not self.flights:
            self.lane.is_idle(self)

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
        """Start the attempt at one delivery."""
        lane, edges, connection = self.lane, self.lane.edges, self._connection
        claimed = item.claimed
        started_s = edges.clock.monotonic_s()
        extensions = connection.extensions if connection is not None else Extensions()
        if lane.manner and await self._held_up(item):  # the connection may have been opened for another domain
            return
        try:
            prepared = await edges.renderer.prepare(claimed)
            transaction = edges.renderer.transaction(
                prepared, extensions, now_ms=edges.clock.now_ms(), proven=lane.manner == "require"
            )
        except InputError as error:
            failed = Outcome(Phase.MESSAGE, failure=Failure.RENDER, detail=str(error))
            await lane.settle(Attempt(claimed, failed, lane.site.provider))
            return
        if connection is None or (self._sent and not (connection.usable or connection.can_follow)):
            lane.put_back(item)  # the connection ended meanwhile
            return
        flight = _Flight(
            item, started_s, self._sent == 0, bool(self.flights), edges.journal, prepared.content.info.from_domain
        )
        flight.result = connection.submit(transaction, flight.accepted, flight.on_wire)
        flight.result.add_done_callback(self.kick)
        self.flights.append(flight)
        self._sent += 1

    async def _land(self, flight: _Flight) -> None:
        """Wait for what came of a launch, and settle it."""
        claimed = flight.item.claimed
        try:
            result = await flight.result
            if self._goes_again(flight, result):
                return
            await self._judged(flight, result)
        except Exception:
            await self._crashed(claimed, flight.taken)
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
        secured = connection.secured
        outcome = Outcome(
            Phase(said.phase), said.reply, failure, said.detail, peer.host, peer.ip, secured.policy, secured.fault
        )
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
                domain=flight.domain,
                dsn_passed_on=connection.extensions.dsn,
            )
        )
        lane.judged(good=action is Action.DELIVER, seconds=seconds)
        if action is Action.DELIVER:
            item = flight.item
            age_s = (lane.edges.clock.now_ms() - item.claimed.accepted_ms) / 1000
            lane.edges.settler.counts.delivered(item.priority, age_s)
