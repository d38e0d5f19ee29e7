"""What a delivery process counts: outcomes, connections, how long things take. Read from outside as metrics.

Every object is fetched once; what the path of a delivery pays is a look-up in a small dictionary and an addition.
"""

from __future__ import annotations

from mailfleet.base.gauges import Counter, Gauges, Histogram
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.store.tenants import URGENT

_OUTCOME = {
    DeliveryState.DELIVERED: "delivered",
    DeliveryState.QUEUED: "deferred",
    DeliveryState.BOUNCED: "bounced",
    DeliveryState.EXPIRED: "expired",
    DeliveryState.SUPPRESSED: "suppressed",
}


class DeliveryCounts:
    """Of one process. Belongs to its event loop."""

    def __init__(self, gauges: Gauges) -> None:
        self.gauges = gauges
        self._outcomes: dict[tuple[DeliveryState, str], Counter] = {}
        self._seconds: dict[str, Histogram] = {}
        self._connections: dict[tuple[str, str], Counter] = {}
        self._lookups: dict[str, Counter] = {}
        self._age_urgent = gauges.histogram("delivery_age_seconds", stream="transactional")
        self._age_bulk = gauges.histogram("delivery_age_seconds", stream="bulk")
        self.retries = gauges.counter("settle_retries_total")

    def settled(self, state: DeliveryState, provider: str) -> None:
        """An attempt, or the decision not to make one, came to this."""
        key = (state, provider)
        counter = self._outcomes.get(key)
        if counter is None:
            counter = self._outcomes[key] = self.gauges.counter(
                "deliveries_total", outcome=_OUTCOME[state], provider=provider
            )
        counter.n += 1

    def attempted(self, provider: str, seconds: float) -> None:
        """An attempt reached the remote and took this long."""
        histogram = self._seconds.get(provider)
        if histogram is None:
            histogram = self._seconds[provider] = self.gauges.histogram("attempt_seconds", provider=provider)
        histogram.observe(seconds)

    def delivered(self, priority: int, age_s: float) -> None:
        """A delivery arrived, this long after it was accepted."""
        (self._age_urgent if priority <= URGENT else self._age_bulk).observe(age_s)

    def connected(self, provider: str, result: str) -> None:
        """A connection was tried: ``open``, ``refused`` (in words) or ``failed``."""
        key = (provider, result)
        counter = self._connections.get(key)
        if counter is None:
            counter = self._connections[key] = self.gauges.counter(
                "smtp_connections_total", provider=provider, result=result
            )
        counter.n += 1

    def looked_up(self, result: str) -> None:
        """A domain was looked up: ``found``, ``absent`` or ``failed``."""
        counter = self._lookups.get(result)
        if counter is None:
            counter = self._lookups[result] = self.gauges.counter("dns_lookups_total", result=result)
        counter.n += 1
