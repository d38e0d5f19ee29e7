"""Tables of what receivers report on mail with our domains in From (RFC 9990)."""

from __future__ import annotations

from sqlalchemy import Index, Table, UniqueConstraint

from mailfleet.store.columns import id_column, int_column, key_column, key_text, metadata, text_column

dmarc_report = Table(  # a report, once
    "dmarc_report",
    metadata,
    id_column(),
    int_column("tenant_id"),
    text_column("domain"),  # whose policy was found
    text_column("reporter"),
    text_column("report_id"),
    int_column("begin_s"),
    int_column("end_s"),
    int_column("day"),  # days since 1970, of its begin
    text_column("policy"),  # none | quarantine | reject, as it was found
    int_column("messages"),
    int_column("passed"),
    int_column("at_ms"),
    UniqueConstraint("tenant_id", "domain", "reporter", "report_id", "begin_s"),
    Index("dmarc_report_domain", "tenant_id", "domain", "day"),
    Index("dmarc_report_day", "day"),
)

dmarc_row = Table(  # its messages of one kind
    "dmarc_row",
    metadata,
    key_column("report"),
    key_column("n"),
    int_column("tenant_id"),
    text_column("domain"),  # as the report's
    int_column("day"),
    text_column("header_from"),
    text_column("ip"),
    int_column("dkim"),  # 1: passed and aligned
    int_column("spf"),
    int_column("held"),  # 1: quarantined or rejected
    text_column("signed_by"),  # as in policy.dmarc_rollout.Seen
    text_column("known_as"),
    text_column("reasons"),
    text_column("why"),
    int_column("messages"),
    Index("dmarc_row_domain", "tenant_id", "domain", "day"),
)

dmarc_judgement = Table(  # whose a sender is, as a person said
    "dmarc_judgement",
    metadata,
    key_column("domain_id"),
    key_text("who"),
    text_column("judged"),  # ours | foreign
    int_column("at_ms"),
)

TABLES = (dmarc_report, dmarc_row, dmarc_judgement)
