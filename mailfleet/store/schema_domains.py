"""Tables of what the DNS holds for us: where it is written, what we put there, and what was seen."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Table, UniqueConstraint

from mailfleet.store.columns import id_column, int_column, key_column, key_text, metadata, text_column

dns_target = Table(  # a zone that may be written to
    "dns_target",
    metadata,
    id_column(),
    int_column("tenant_id", 0),  # 0: for every tenant
    text_column("zone"),
    text_column("kind"),  # rfc2136 | octodns
    text_column("server"),  # address or address:port
    text_column("key_name", ""),  # of TSIG
    text_column("algorithm", ""),
    Column("sealed_secret", LargeBinary),
    int_column("created_ms"),
    text_column("provider", ""),  # package.Class of octoDNS
    text_column("settings", ""),  # of the provider, a JSON object
    UniqueConstraint("zone"),
)

dns_record = Table(  # a record that we put there, and so may change and remove
    "dns_record",
    metadata,
    key_column("domain_id"),  # or what store/dns.py has in its place
    key_text("name"),
    key_text("type"),
    key_text("value"),
    int_column("created_ms"),
)

domain_check = Table(  # how each check stands
    "domain_check",
    metadata,
    key_text("subject"),  # a sending domain, or the install (store/dns.py)
    key_text("name"),
    text_column("state"),  # ok | warning | failed | unknown
    text_column("found"),
    text_column("expected"),
    text_column("servers"),  # JSON array
    text_column("meaning"),
    text_column("next_step"),
    int_column("doubt", 0),
    int_column("since_ms"),
    int_column("seen_ms"),
)

domain_check_past = Table(  # each change of state
    "domain_check_past",
    metadata,
    id_column(),
    text_column("subject"),
    text_column("name"),
    text_column("before"),
    text_column("state"),
    text_column("found"),
    text_column("meaning"),
    int_column("at_ms"),
    int_column("told", 0),  # 1: a digest has told of it
    Index("domain_check_past_subject", "subject", "id"),
)

sts_policy = Table(  # of recipient domains, as it was fetched last (RFC 8461)
    "sts_policy",
    metadata,
    key_text("domain"),
    text_column("policy_id"),
    text_column("mode"),  # enforce | testing | none
    text_column("mx"),  # JSON array
    int_column("fetched_ms"),
    int_column("expires_ms"),
)

domain_logo = Table(  # what BIMI shows of a sending domain
    "domain_logo",
    metadata,
    key_column("domain_id"),
    text_column("svg"),
)

digest = Table(  # the nightly mail of what changed, once for each day; the newest only
    "digest",
    metadata,
    key_column("day"),  # days since 1970, each beginning at digest.at
    int_column("at_ms"),
    int_column("content_id"),  # 0: there was nothing to tell
)

TABLES = (domain_logo, sts_policy, dns_target, dns_record, domain_check, domain_check_past, digest)
