"""How much waits, by site: counted by a walk over all that is queued (a second for a million), so counted once for all who ask.

Many viewers (pages, ``mailfleet queue``, scrapes) share one count. The next one starts when the last one is older than
``REST`` times what it cost, so that counting takes at most a fifth of the time and of one reader of the database.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError
from mailfleet.base.gauges import Labels
from mailfleet.engine.views import QueueRow, QueueView
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.store import deliveries
from mailfleet.store.database import Database
from mailfleet.store.deliveries import BacklogRow

log = structlog.get_logger()

REST = 4.0
OLD_COSTS = 10.0  # counts older than this many times what they cost are not shown: the viewer waits for new ones
QUICK_S = 0.1  # for a count as quick as this a viewer may always wait
MAX_SITES = 1000  # shown; the totals are of all


@dataclass(frozen=True, slots=True)
class Counts:
    """One walk: when it began and ended by the monotonic clock, and what it found."""

    rows: Sequence[BacklogRow]
    began_s: float
    ended_s: float

    @property
    def cost_s(self) -> float:
        """How long it took."""
        return self.ended_s - self.began_s


class Backlog:
    """The shared counts of this process, by tenant."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database, self._clock = database, clock
        self._known: dict[int, Counts] = {}
        self._running: dict[int, asyncio.Task[Counts]] = {}
        self._one_at_a_time = asyncio.Lock()
        self.walks = 0  # over the queue, since the start

    async def counts(self, tenant_id: int) -> Counts:
        """What waits: as fresh as counting is cheap. Raises ``BusyError`` when the database cannot be read."""
        known, now_s = self._known.get(tenant_id), self._clock.monotonic_s()
        if known is not None and now_s - known.ended_s < REST * known.cost_s:
            return known
        running = self._running.get(tenant_id)
        if running is None:
            running = asyncio.create_task(self._count(tenant_id), name="count the backlog")
            self._running[tenant_id] = running
            running.add_done_callback(_told)
        if known is not None and known.cost_s > QUICK_S and now_s - known.began_s < OLD_COSTS * known.cost_s:
            return known  # the new one is for those who come next
        return await asyncio.shield(running)  # a viewer that leaves takes it from nobody

    async def view(self, tenant_id: int) -> QueueView:
        """The backlog by site, longest first."""
        counts = await self.counts(tenant_id)
        now_ms = self._clock.now_ms()
        by_site: dict[tuple[str, str], list[BacklogRow]] = defaultdict(list)
        for row in counts.rows:
            by_site[row.provider, row.site_key].append(row)
        sites = [_queue_row(provider, site, found, now_ms) for (provider, site), found in by_site.items()]
        sites.sort(key=lambda row: row.queued + row.leased, reverse=True)
        return QueueView(
            queued=sum(row.queued for row in sites),
            deferred=sum(row.deferred for row in sites),
            leased=sum(row.leased for row in sites),
            sites=sites[:MAX_SITES],
            further_sites=max(0, len(sites) - MAX_SITES),
            age_s=round(max(0.0, self._clock.monotonic_s() - counts.began_s), 1),
        )

    def queued(self, tenant_id: int) -> dict[Labels, int]:
        """As last counted, by provider and whether they were tried."""
        found: Counter[Labels] = Counter()
        for row in self._rows(tenant_id, DeliveryState.QUEUED):
            found[row.provider, "yes" if row.deferred else "no"] += row.n
        return dict(found)

    def leased(self, tenant_id: int) -> dict[Labels, int]:
        """As last counted, by provider."""
        found: Counter[Labels] = Counter()
        for row in self._rows(tenant_id, DeliveryState.LEASED):
            found[(row.provider,)] += row.n
        return dict(found)

    def oldest_s(self, tenant_id: int) -> dict[Labels, float]:
        """Age of the oldest that was there when last counted, by provider. What is due only later has age 0."""
        now_ms, found = self._clock.now_ms(), dict[Labels, float]()
        for row in (*self._rows(tenant_id, DeliveryState.QUEUED), *self._rows(tenant_id, DeliveryState.LEASED)):
            age_s = max(0.0, (now_ms - row.oldest_ms) / 1000)
            found[(row.provider,)] = max(age_s, found.get((row.provider,), 0.0))
        return found

    def age_s(self, tenant_id: int) -> float | None:
        """How old the counts are; None before the first."""
        known = self._known.get(tenant_id)
        return None if known is None else self._clock.monotonic_s() - known.began_s

    def _rows(self, tenant_id: int, state: DeliveryState) -> list[BacklogRow]:
        known = self._known.get(tenant_id)
        return [row for row in known.rows if row.state == state] if known else []

    async def _count(self, tenant_id: int) -> Counts:
        try:
            async with self._one_at_a_time:
                began_s = self._clock.monotonic_s()
                rows = await self._database.read(lambda tx: deliveries.backlog(tx, tenant_id))
                counts = Counts(rows, began_s, self._clock.monotonic_s())
            self.walks += 1
            self._known[tenant_id] = counts
            return counts
        finally:
            del self._running[tenant_id]


def _told(task: asyncio.Task[Counts]) -> None:
    """A count that nobody waits for may fail too."""
    if not task.cancelled() and isinstance(task.exception(), BusyError):
        log.warning("the backlog cannot be counted", reason=str(task.exception()))


def _queue_row(provider: str, site: str, rows: Sequence[BacklogRow], now_ms: int) -> QueueRow:
    queued = [row for row in rows if row.state == DeliveryState.QUEUED]
    reasons: Counter[str] = Counter()
    for row in queued:
        if row.bounce_class:
            reasons[row.bounce_class] += row.n
    next_due_ms = min((row.next_due_ms for row in queued), default=None)
    return QueueRow(
        provider=provider,
        site=site,
        queued=sum(row.n for row in queued),
        deferred=sum(row.n for row in queued if row.deferred),
        leased=sum(row.n for row in rows if row.state == DeliveryState.LEASED),
        oldest_age_s=max(0.0, (now_ms - min(row.oldest_ms for row in rows)) / 1000),
        next_due_in_s=None if next_due_ms is None else max(0.0, (next_due_ms - now_ms) / 1000),
        reasons=dict(reasons),
    )
