"""The catalogue of metrics: what ``GET /metrics`` can show, in the order in which it is shown. Names get ``mailfleet_`` before them.

A label has few values: an outcome, a provider, a reason; never an address, a domain or a site.
"""

from __future__ import annotations

from mailfleet.base.gauges import Metric

_SLOW = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 43_200, 86_400)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ATTEMPT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

CATALOGUE: dict[str, Metric] = {
    # Delivering
    "deliveries_total": Metric(
        "counter",
        "Attempts that were settled, by what came of them: delivered, deferred, bounced, expired, suppressed.",
        ("outcome", "provider"),
    ),
    "attempt_seconds": Metric(
        "histogram", "From taking a delivery in hand to the remote's verdict.", ("provider",), _ATTEMPT
    ),
    "delivery_age_seconds": Metric(
        "histogram", "Age of a delivery when it was delivered, by kind of stream.", ("stream",), _SLOW
    ),
    "held_deliveries": Metric("gauge", "Claimed deliveries in memory, not yet attempted."),
    "smtp_connections": Metric("gauge", "Open connections to mail hosts."),
    "smtp_connections_total": Metric(
        "counter",
        "Connections to mail hosts, by what came of opening them: open, refused, failed.",
        ("provider", "result"),
    ),
    "lanes": Metric("gauge", "Lanes in memory: sites with something held or a connection kept."),
    "lanes_cooling": Metric("gauge", "Lanes that rest because nobody answered or the site asked for it."),
    "settlements_waiting": Metric("gauge", "Attempts whose outcome is not in the database yet."),
    "settle_retries_total": Metric("counter", "Batches of outcomes that had to be written again."),
    "dns_lookups_total": Metric("counter", "Domains looked up, by result: found, absent, failed.", ("result",)),
    # Each process
    "role_starts_total": Metric("counter", "Starts of the role, the first one included."),
    "resident_memory_bytes": Metric("gauge", "Memory of the role's process that is in RAM."),
    "open_file_descriptors": Metric("gauge", "Open files and sockets of the role's process."),
    "event_loop_lag_seconds": Metric("histogram", "How late the event loop of the role wakes up.", bounds=_LAG),
    "database_commits_total": Metric("counter", "Write transactions that were committed."),
    "database_jobs_total": Metric("counter", "Writes that shared those transactions."),
    "unreadable_values_total": Metric("counter", "Values that could not be read for a snapshot: a bug."),
}
