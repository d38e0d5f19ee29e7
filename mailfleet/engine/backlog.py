"""How much waits, by site: counted by a walk over all that is queued (a second for a million), so counted once for all who ask."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from mailfleet.base.clock import Clock
from mailfleet.base.gauges import Labels
from mailfleet.engine.shared import Answer, LongReads, Shared
from mailfleet.engine.views import QueueRow, QueueView
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.store import deliveries
from mailfleet.store.deliveries import BacklogRow

MAX_SITES = 1000  # shown; the totals are of all


class Backlog:
    """The counts of this process, by tenant, shared by pages, ``mailfleet queue`` and scrapes."""

    def __init__(self, reads: LongReads, clock: Clock) -> None:
        self._reads, self._clock = reads, clock
        self._shared: Shared[int, Sequence[BacklogRow]] = Shared(clock, self._count)
        self.walks = 0  # over the queue, since the start

    async def counts(self, tenant_id: int) -> Answer[Sequence[BacklogRow]]:
        """What waits: as fresh as counting is cheap. Raises ``BusyError`` when it cannot be counted."""
        return await self._shared.get(tenant_id)

    async def view(self, tenant_id: int) -> QueueView:
        """The backlog by site, longest first."""
        counts = await self.counts(tenant_id)
        now_ms = self._clock.now_ms()
        by_site: dict[tuple[str, str], list[BacklogRow]] = defaultdict(list)
        for row in counts.value:
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
        known = self._shared.last(tenant_id)
        return None if known is None else self._clock.monotonic_s() - known.began_s

    def _rows(self, tenant_id: int, state: DeliveryState) -> list[BacklogRow]:
        known = self._shared.last(tenant_id)
        return [row for row in known.value if row.state == state] if known else []

    async def _count(self, tenant_id: int) -> Sequence[BacklogRow]:
        rows = await self._reads.read(lambda tx: deliveries.backlog(tx, tenant_id))
        self.walks += 1
        return rows


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
