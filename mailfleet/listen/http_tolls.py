"""What the HTTP entrance refuses for want of room, counted by the bound that did it."""

from __future__ import annotations

from mailfleet.base.gauges import Gauges

BOUNDS = (
    "http_max_buffered_mb",
    "http_max_connections",
    "http_idle_timeout_s",
    "header_bytes",
    "descriptors",
    "followers",
)


class HttpTolls:
    """The counters of an app."""

    def __init__(self, gauges: Gauges) -> None:
        self._refusals = {bound: gauges.counter("http_refusals_total", reason=bound) for bound in BOUNDS}

    def refused(self, bound: str) -> None:
        """Count a refusal; ``bound`` is one of ``BOUNDS``."""
        self._refusals[bound].n += 1
