"""Tables of what came of securing sessions with mail hosts, and of the reports on it (RFC 8460)."""

from __future__ import annotations

from sqlalchemy import Index, Table

from mailfleet.store.columns import int_column, key_column, key_text, metadata, text_column

tls_result = Table(
    "tls_result",
    metadata,
    key_column("day"),  # of policy.tls_results
    key_text("domain"),  # of the recipients
    key_text("policy_type"),  # tlsa | sts | no-policy-found
    key_text("policy_domain"),
    key_text("policy_id"),  # digest of policy; the text is too long for a key
    key_text("result"),  # empty: success
    key_text("reason"),
    key_text("mx_host"),
    key_text("our_ip"),
    key_text("remote_ip"),
    key_column("part"),  # as in hourly: each process adds to a row of its own
    text_column("policy", ""),  # its lines
    int_column("n"),
)

tls_report = Table(  # of every day of a domain that has results
    "tls_report",
    metadata,
    key_column("day"),
    key_text("domain"),
    int_column("due_ms"),  # 0: nothing more is done
    text_column("state", "waiting"),  # waiting | posting | sent | unasked | failed
    text_column("urls", "[]"),  # JSON array: where it is still to be posted
    Index("tls_report_due", "due_ms"),
)

TABLES = (tls_result, tls_report)
