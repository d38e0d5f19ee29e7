"""Outcome to verdict to committed state: judged once, settled in batches, with events, suppressions and DSNs in one commit."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import orjson
import structlog

from mailfleet.base.clock import STEP_MS, Clock, ahead_ms
from mailfleet.base.errors import BusyError
from mailfleet.base.ids import IdGenerator, public
from mailfleet.config.retry import Retry
from mailfleet.engine import braking
from mailfleet.engine.attempt import Attempt, event_of, leaves_elsewhere, signal_of, state_after, words_of
from mailfleet.engine.catalog import Catalog, FlowView
from mailfleet.engine.counts import DeliveryCounts
from mailfleet.engine.envelope import Envelope
from mailfleet.engine.journal import Journal
from mailfleet.engine.notices import Notice, Notices
from mailfleet.policy.brakes import Decision
from mailfleet.policy.classify import Classifier
from mailfleet.policy.egress import way_after
from mailfleet.policy.lifecycle import DeliveryState, EventKind
from mailfleet.policy.outcome import Action, Verdict
from mailfleet.policy.retry import RetryDecision, next_attempt
from mailfleet.policy.shaping import Shaper
from mailfleet.policy.suppression import NewSuppression, suppression_after
from mailfleet.policy.warmup import day_number
from mailfleet.store import campaigns, counts, queue, suppressions, tenants
from mailfleet.store.counts import HOUR_MS, Key
from mailfleet.store.database import Database, Tx
from mailfleet.store.events import EventRow, append
from mailfleet.store.queue import Settlement

log = structlog.get_logger()
_COUNTED = {
    DeliveryState.DELIVERED: "delivered",
    DeliveryState.QUEUED: "deferred",
    DeliveryState.BOUNCED: "bounced",
    DeliveryState.EXPIRED: "expired",
}
MAX_STREAMS = 10_000  # flows whose stream is remembered
MAX_BATCH = 500
GATHER_S = 0.02  # outcomes are in the journal by now: a commit that waits a little carries more of them


class Settled(NamedTuple):
    """A settlement with what is written beside it. ``ahead_ms``: of the wall clock before the monotonic one, when it was decided."""

    settlement: Settlement
    suppression: NewSuppression | None = None
    notice: Notice | None = None
    envelope: str | None = None  # the new stored envelope, when it changed
    brakes: tuple[Decision, ...] = ()
    domain: str = ""
    ahead_ms: int = 0

    def at(self, ahead_ms: int) -> Settlement:
        """As it is to be written now. A retry that was decided before the clock was set back is not put off by as much."""
        step_ms = self.ahead_ms - ahead_ms
        if self.settlement.state is not DeliveryState.QUEUED or step_ms <= STEP_MS:
            return self.settlement
        return replace(self.settlement, due_ms=self.settlement.due_ms - step_ms)


class Settler:
    """Judges and settles for one delivery process. ``lease_id`` is the lease that its claims carry."""

    def __init__(
        self,
        database: Database,
        catalog: Catalog,
        classifier: Classifier,
        notices: Notices,
        journal: Journal,
        *,
        lease_id: int,
        retry: Retry,
        time_scale: float,
        clock: Clock,
        ids: IdGenerator,
        rng: random.Random,
        counts: DeliveryCounts,
        shaper: Shaper,
        retry_floor_s: Callable[[str], int] = lambda provider: 0,
    ) -> None:
        self._database, self._catalog, self._classifier = database, catalog, classifier
        self._notices, self._journal, self._lease_id = notices, journal, lease_id
        self._retry, self._time_scale, self._clock, self._ids, self._rng = retry, time_scale, clock, ids, rng
        self.counts, self._shaper, self._retry_floor_s = counts, shaper, retry_floor_s
        self._streams: dict[int, int] = {}  # of flows
        self._pending: list[Settled] = []
        self._committing: list[Settled] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def judge(self, attempt: Attempt, *, attempts: int) -> Verdict:
        """What the outcome means; only ``policy`` decides."""
        age_s = (self._clock.now_ms() - attempt.claimed.accepted_ms) / 1000 * self._time_scale
        return self._classifier.judge(attempt.outcome, attempt.provider or None, attempts=attempts, age_s=age_s)

    async def take(self, attempt: Attempt) -> Verdict:
        """Judge an attempt and queue its settlement; returns before the commit."""
        claimed = attempt.claimed
        attempts = claimed.attempts + 1
        verdict = self.judge(attempt, attempts=attempts)
        if attempt.seconds:
            self.counts.attempted(attempt.provider, attempt.seconds)
        if verdict.action is Action.DELIVER and not Envelope.wants_success(
            claimed.envelope
        ):  # nothing is owed: by far the most
            settlement = self._settlement(attempt, verdict, DeliveryState.DELIVERED, attempts, None)
            settled = Settled(settlement, domain=attempt.domain)
            self._shaper.attempted(claimed.egress_id, attempt.provider, claimed.site_id)
            self.put(settled, attempt.provider)
            return verdict
        flow = await self._catalog.flow(claimed.flow_id)
        decision = self._decide(attempt, verdict, attempts, flow)
        state = state_after(verdict, decision)
        settlement = self._settlement(attempt, verdict, state, attempts, decision)
        suppression = suppression_after(verdict, attempt.outcome, flow.stream if flow else "")
        try:
            notice, envelope = await self._owed(attempt, state, decision, flow)
        except Exception:
            # A notification that cannot be made must not cost the outcome: a 250 lost is a message sent twice.
            log.exception("the notification cannot be made", delivery=claimed.id)
            notice = envelope = None
        brakes = self._shaper.heard(signal_of(attempt, verdict, flow, self._clock.now_ms()))
        self.put(Settled(settlement, suppression, notice, envelope, brakes, attempt.domain), attempt.provider)
        return verdict

    def holds(self) -> set[int]:
        """Ids of the deliveries whose outcome is not in the database yet."""
        return {one.settlement.claimed.id for one in (*self._pending, *self._committing)}

    @property
    def waiting(self) -> int:
        """Outcomes that are not in the database yet."""
        return len(self._pending)

    def put(self, settled: Settled, provider: str = "") -> None:
        """Queue a settlement that is decided already."""
        self.counts.settled(settled.settlement.state, provider)
        self._pending.append(settled._replace(ahead_ms=ahead_ms(self._clock)))
        self._idle.clear()
        self._wake.set()

    async def run(self) -> None:
        """Commit what is pending, for ever: while one commit syncs the next batch gathers."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            while self._pending:
                self._committing, self._pending = self._pending[:MAX_BATCH], self._pending[MAX_BATCH:]
                await self._commit(self._committing)
                self._committing = []
            self._idle.set()

    async def drained(self) -> None:
        """Wait until nothing is pending."""
        await self._idle.wait()

    async def _commit(self, batch: list[Settled]) -> None:
        while True:
            try:
                await self._database.write(lambda tx: self._write(tx, batch))
                break
            except BusyError as error:  # full disk: the outcomes stay here and in the journal until there is room
                self.counts.retries.n += 1
                log.error("settling waits", reason=error.reason, deliveries=len(batch))
                await self._clock.sleep(1)
        self._journal.settled([one.settlement.claimed.id for one in batch])

    def _write(self, tx: Tx, batch: list[Settled]) -> None:
        now_ms = self._clock.now_ms()
        now_ahead_ms = ahead_ms(self._clock)
        lost = queue.settle(tx, [one.at(now_ahead_ms) for one in batch], lease_id=self._lease_id, now_ms=now_ms)
        for settlement in lost:
            log.warning("lease was lost before settling", delivery=settlement.claimed.id, state=settlement.state.word)
        gone = {settlement.claimed.id for settlement in lost}
        self._count(tx, [one for one in batch if one.settlement.claimed.id not in gone], now_ms)
        for one in batch:
            if one.settlement.claimed.id not in gone:
                self._write_beside(tx, one, now_ms)
        ended = {
            one.settlement.claimed.campaign_id for one in batch if one.settlement.state is not DeliveryState.QUEUED
        }
        campaigns.finish_where_done(tx, sorted(ended - {0}), now_ms=now_ms)
        decisions = [decision for one in batch for decision in one.brakes]
        braking.apply(tx, decisions, self._ids, now_ms=now_ms, scale=self._time_scale)

    def _count(self, tx: Tx, batch: list[Settled], now_ms: int) -> None:
        """What came of them, by the hour; a flow belongs to one stream for good."""
        hour, found = now_ms // HOUR_MS, Counter[Key]()
        for one in batch:
            row, state = one.settlement.claimed, one.settlement.state
            what = _COUNTED.get(state)
            if what is None:
                continue
            stream_id = self._streams.get(row.flow_id)
            if stream_id is None:
                flow = tenants.flow(tx, row.flow_id)
                stream_id = self._streams[row.flow_id] = flow.stream_id if flow else 0
                while len(self._streams) > MAX_STREAMS:
                    self._streams.pop(next(iter(self._streams)))
            key = Key(hour, row.egress_id, one.settlement.provider, one.domain, stream_id, row.campaign_id, what)
            found[key] += 1
            if state is not DeliveryState.DELIVERED:
                found[key._replace(what=f"class:{one.settlement.bounce_class}")] += 1
        counts.add(tx, found)

    def _write_beside(self, tx: Tx, one: Settled, now_ms: int) -> None:
        claimed = one.settlement.claimed
        if one.suppression is not None:
            new = suppressions.Suppression(
                self._ids.next(),
                claimed.tenant_id,
                claimed.address_key,
                one.suppression.stream or "",
                one.suppression.reason,
                one.suppression.evidence,
                f"delivery {public('dlv', claimed.id)}",
                now_ms,
            )
            if suppressions.add(tx, new):
                data = orjson.dumps(
                    {"reason": new.reason, "evidence": new.evidence, "stream": new.stream or None}
                ).decode()
                append(
                    tx,
                    [
                        EventRow(
                            now_ms,
                            claimed.tenant_id,
                            EventKind.SUPPRESSION_ADDED,
                            claimed.campaign_id,
                            claimed.id,
                            data,
                        )
                    ],
                )
        if one.envelope is not None:
            queue.set_envelope(tx, claimed.id, one.envelope)
        if one.notice is not None:
            self._notices.write(tx, one.notice, now_ms=now_ms)

    def _decide(self, attempt: Attempt, verdict: Verdict, attempts: int, flow: FlowView | None) -> RetryDecision | None:
        if verdict.action is not Action.DEFER:
            return None
        schedule = self._retry.schedule(flow.kind if flow else "transactional")
        return next_attempt(
            schedule,
            attempts=attempts,
            accepted_ms=attempt.claimed.accepted_ms,
            now_ms=self._clock.now_ms(),
            bounce_class=verdict.bounce_class,
            jitter=self._rng.random(),
            scale=self._time_scale,
            retry_after_s=self._asked_to_wait_s(attempt, verdict),
            elsewhere=attempt.elsewhere and leaves_elsewhere(attempt.outcome, verdict),
        )

    def _asked_to_wait_s(self, attempt: Attempt, verdict: Verdict) -> int | None:
        """The longer of what the remote's words ask for and what its provider wants anyway."""
        said, floor_s = (
            self._classifier.retry_after_s(verdict, attempt.outcome.reply),
            self._retry_floor_s(attempt.provider),
        )
        return max(said or 0, floor_s) or None

    async def _owed(
        self, attempt: Attempt, state: DeliveryState, decision: RetryDecision | None, flow: FlowView | None
    ) -> tuple[Notice | None, str | None]:
        envelope = Envelope.load(attempt.claimed.envelope)
        if not envelope.submitted:
            return None, None
        schedule = self._retry.schedule(flow.kind if flow else "transactional")
        age_s = (self._clock.now_ms() - attempt.claimed.accepted_ms) / 1000 * self._time_scale
        late = state is DeliveryState.QUEUED and not envelope.delay_told and age_s >= schedule.delay_dsn_after_s
        notice = await self._notices.owed(
            attempt.claimed,
            envelope,
            attempt.outcome,
            state,
            late=late,
            passed_on=attempt.dsn_passed_on,
            expires_ms=decision.expires_ms if decision else None,
        )
        told = envelope.after_delay_dsn().dump() if late and notice is not None else None
        return notice, told

    def _settlement(
        self, attempt: Attempt, verdict: Verdict, state: DeliveryState, attempts: int, decision: RetryDecision | None
    ) -> Settlement:
        due_ms = decision.due_ms if decision is not None and decision.due_ms else self._clock.now_ms()
        words = words_of(attempt.outcome)[:1000]
        event = event_of(attempt, verdict, attempts, decision)
        way = way_after(
            verdict.bounce_class, attempt.claimed.egress_id, elsewhere=leaves_elsewhere(attempt.outcome, verdict)
        )
        return Settlement(
            attempt.claimed,
            state,
            attempts,
            due_ms,
            verdict.bounce_class,
            words,
            event,
            way,
            attempt.provider,
            attempt.outcome.reply is not None,
            day_number(self._clock.now_ms(), self._time_scale),
        )
