"""The catalogue of metrics: what ``GET /metrics`` can show, in the order in which it is shown. Names get ``mailfleet_`` before them.

A label has few values: an outcome, a provider, a reason; never an address, a domain or a site.
"""

from __future__ import annotations

from mailfleet.base.gauges import Metric

_SLOW = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 43_200, 86_400)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ATTEMPT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

NAMES_BEGIN_WITH = "mailfleet_"

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
    "tls_sessions_total": Metric(
        "counter",
        "Sessions with mail hosts by the policy that they were under (tlsa, sts, no-policy-found) and what came of securing"
        " them: success, or a result type of RFC 8460. What came in place of a session counts too.",
        ("policy", "result"),
    ),
    "lanes": Metric("gauge", "Lanes in memory: sites with something held or a connection kept."),
    "lanes_cooling": Metric("gauge", "Lanes that rest because nobody answered or the site asked for it."),
    "settlements_waiting": Metric("gauge", "Attempts whose outcome is not in the database yet."),
    "settle_retries_total": Metric("counter", "Batches of outcomes that had to be written again."),
    "dns_lookups_total": Metric("counter", "Domains looked up, by result: found, absent, failed.", ("result",)),
    # Taking mail in
    "accepted_recipients_total": Metric(
        "counter", "Recipients accepted, by entrance: http, smtp, campaign; suppressed ones included.", ("entrance",)
    ),
    "http_requests_total": Metric(
        "counter", "HTTP requests, by the template of their route.", ("method", "route", "status")
    ),
    "http_request_seconds": Metric(
        "histogram", "From an HTTP request to the beginning of its answer.", ("route",), _ATTEMPT
    ),
    "http_refusals_total": Metric(
        "counter", "HTTP requests that were answered 429 by a bound of the entrance, by the bound.", ("reason",)
    ),
    "http_buffered_bytes": Metric("gauge", "Bytes of HTTP bodies held in memory."),
    "event_followers": Metric("gauge", "Clients that follow events."),
    "http_connections": Metric("gauge", "Open HTTP connections."),
    "http_requests_open": Metric("gauge", "HTTP requests that are being answered, followers of events included."),
    "submission_connections": Metric("gauge", "Open connections of submission."),
    "submission_connections_total": Metric("counter", "Connections that submission let in."),
    "submission_messages_total": Metric("counter", "Messages that submission took: a 250 after the commit."),
    "submission_refusals_total": Metric(
        "counter", "What submission refused or ended, by reason; the page of bounds names them.", ("reason",)
    ),
    "submission_replies_total": Metric(
        "counter", "Replies of submission that refuse, for now (4xx) or for good (5xx), by code.", ("code",)
    ),
    "submission_buffered_bytes": Metric("gauge", "Message bytes that submission holds in memory."),
    # The node
    "queued_deliveries": Metric(
        "gauge", "Deliveries that wait for their first try or for the next one.", ("provider", "tried"), node=True
    ),
    "leased_deliveries": Metric("gauge", "Deliveries that a process has claimed.", ("provider",), node=True),
    "oldest_delivery_seconds": Metric(
        "gauge", "Age of the oldest delivery that waits or is claimed.", ("provider",), node=True
    ),
    "backlog_count_age_seconds": Metric("gauge", "How old the counts of the backlog are.", node=True),
    "backlog_counts_total": Metric("counter", "Walks over the queue to count it.", node=True),
    "long_reads_waiting": Metric(
        "gauge", "Questions that walk over many rows: the one being answered and those in line."
    ),
    "long_reads_total": Metric("counter", "Questions that walk over many rows, answered."),
    "long_reads_refused_total": Metric("counter", "Such questions that were answered 429 because the line was full."),
    "free_disk_bytes": Metric("gauge", "Free disk where the data folder lies.", node=True),
    # Each process
    "role_starts_total": Metric("counter", "Starts of the role, the first one included."),
    "resident_memory_bytes": Metric("gauge", "Memory of the role's process that is in RAM."),
    "open_file_descriptors": Metric("gauge", "Open files and sockets of the role's process."),
    "event_loop_lag_seconds": Metric("histogram", "How late the event loop of the role wakes up.", bounds=_LAG),
    "database_commits_total": Metric("counter", "Write transactions that were committed."),
    "database_jobs_total": Metric("counter", "Writes that shared those transactions."),
    "unreadable_values_total": Metric("counter", "Values that could not be read for a snapshot: a bug."),
}
