"""Every table, once, for every engine. Migrations must lead to exactly this; a test proves it.

Instants are integers in milliseconds (``_ms``). States, priorities and the like are the small integers of
``policy.lifecycle``. Ids come from ``base.ids`` except where the database counts (``event``, ``site``, ``mail_domain``,
``lease``): an event's number must follow the order of commits, or a cursor could pass one by.
"""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, MetaData, Table, Text, UniqueConstraint, text

from mailfleet.store import schema_certificates, schema_dmarc, schema_domains, schema_fleet, schema_tls
from mailfleet.store.columns import BIG as _BIG
from mailfleet.store.columns import id_column as _id
from mailfleet.store.columns import int_column as _int
from mailfleet.store.columns import metadata
from mailfleet.store.columns import text_column as _text
from mailfleet.store.statements import Engine

_QUEUED = text("state = 1")
_LEASED = text("state = 2")
_WATCHED = text("next_locate_ms > 0")
_NAMED = text("message_id <> ''")


Table(  # what is true of the database as a whole
    "property",
    metadata,
    Column("name", Text, primary_key=True),
    _text("value"),
)

tenant = Table(
    "tenant",
    metadata,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    _int("pool_id", 0),  # 0: the default pool
    _text("rates", ""),  # as a person writes them: "10/s 20000/d"
)

stream = Table(
    "stream",
    metadata,
    _id(),
    _int("tenant_id"),
    _text("name"),
    _text("kind"),  # transactional | bulk
    _int("weight", 1),
    _int("pool_id", 0),  # 0: the tenant's
    _text("spill", "later"),  # where mail beyond a warm-up's cap goes: later | overflow
    _text("rates", ""),
    UniqueConstraint("tenant_id", "name"),
)

flow = Table(  # deliveries that take turns as one: a campaign, or a stream's single messages
    "flow",
    metadata,
    _id(),
    _int("tenant_id"),
    _int("stream_id"),
    _int("campaign_id", 0),  # 0: the stream's single messages
    _int("priority"),  # 0 first
    _int("weight", 1),
    _int("state"),  # policy.lifecycle.FlowState
    UniqueConstraint("tenant_id", "stream_id", "campaign_id"),
)

content = Table(
    "content",
    metadata,
    _id(),
    _int("tenant_id"),
    _text("kind"),  # compiled | raw
    _text("message_id", ""),  # of a single message; a campaign's copies each have their own
    Column("body", LargeBinary, nullable=False),
    _text("info"),  # JSON: sender, from_domain, subject, message_id, tags, metadata
    _int("created_ms"),
    Index("content_message_id", "message_id", sqlite_where=_NAMED, postgresql_where=_NAMED),
)

campaign = Table(
    "campaign",
    metadata,
    _id(),
    _int("tenant_id"),
    _int("flow_id"),
    _int("content_id"),
    _text("name"),
    _text("stream"),
    _text("state"),  # views.CampaignState
    _int("rows", 0),
    _int("invalid", 0),
    _int("duplicates", 0),
    _int("first_delivery_id", 0),
    _int("last_delivery_id", 0),
    _int("told_to_id", 0),
    _int("created_ms"),
    Column("send_at_ms", _BIG),
    Column("finished_ms", _BIG),
    _text("pause_reason", ""),
    _text("rates", ""),
)

tally = Table(  # how many deliveries of a campaign are in which state; kept in the same commit as the states
    "tally",
    metadata,
    Column("campaign_id", _BIG, primary_key=True, autoincrement=False),
    Column("state", _BIG, primary_key=True, autoincrement=False),  # DeliveryState, or DEFERRED = 101
    Column("part", _BIG, primary_key=True, autoincrement=False, server_default=text("0")),  # the count is their sum
    _int("n", 0),
    sqlite_with_rowid=False,
)

delivery = Table(
    "delivery",
    metadata,
    _id(),
    _int("tenant_id"),
    _int("flow_id"),
    _int("campaign_id", 0),
    _int("content_id"),
    _int("priority"),
    _int("domain_id"),
    _int("site_id", 0),  # 0: not located yet
    _int("state"),
    _int("due_ms"),
    _int("expires_ms"),
    _int("accepted_ms"),
    _int("attempts", 0),
    _int("way", 0),  # 0 fresh, 1 again from anywhere, 2n again from egress n only, 2n + 1 from any but n
    _int("egress_id", 0),  # of the claim that it is or was last under
    _int("lease_id", 0),
    _text("address"),  # wire form
    _text("address_key"),
    _int("address_block", 0),  # rows that came together lie together in the index of addresses
    Column("fields", Text),  # JSON object: what the template is filled with
    Column(
        "envelope", Text
    ),  # JSON object: reverse_path, notify, orcpt, ret, envid ... where they differ from the default
    Column("bounce_class", Text),  # of the last outcome
    Column("reason", Text),  # the last outcome in words
    Index(
        "delivery_claim",
        "site_id",
        "priority",
        "flow_id",
        "way",
        "due_ms",
        sqlite_where=_QUEUED,
        postgresql_where=_QUEUED,
    ),
    Index("delivery_domain", "domain_id", sqlite_where=_QUEUED, postgresql_where=_QUEUED),
    Index("delivery_lease", "lease_id", sqlite_where=_LEASED, postgresql_where=_LEASED),
    Index("delivery_address", "address_block", "address_key"),
    Index("delivery_content", "content_id", "id"),
)


def _event(into: MetaData, engine: Engine) -> Table:
    """On PostgreSQL a part of the table for each day, so that old days are dropped and not deleted row by row."""
    if engine == "sqlite":
        number, at = _id(counted=True), _int("at_ms")
    else:
        number = Column("id", _BIG, primary_key=True, autoincrement=True)
        at = Column("at_ms", _BIG, primary_key=True, autoincrement=False)
    return Table(
        "event",
        into,
        number,
        at,
        _int("tenant_id"),
        _text("kind"),
        _int("campaign_id", 0),
        _int("delivery_id", 0),
        Column("data", Text),  # JSON object
        Index("event_delivery", "delivery_id"),
        Index("event_campaign", "campaign_id", "id"),
        sqlite_autoincrement=True,
        postgresql_partition_by="RANGE (at_ms)",
    )


def _commit_mark(into: MetaData) -> Table:
    """What each writer wrote into its last commit: by it a commit is known again whose connection was lost."""
    return Table(
        "commit_mark",
        into,
        Column("writer", _BIG, primary_key=True, autoincrement=False),
        _int("mark"),
        _int("since_ms"),
    )


mail_domain = Table(  # a recipient domain and the site that takes its mail
    "mail_domain",
    metadata,
    _id(counted=True),
    Column("name", Text, nullable=False, unique=True),
    _int("site_id", 0),  # 0: not located yet
    _int("valid_until_ms", 0),  # the location is good until then
    _int("next_locate_ms", 0),  # when to look again; 0: not while nothing is queued for it
    Index("mail_domain_next", "next_locate_ms", sqlite_where=_WATCHED, postgresql_where=_WATCHED),
)

site = Table(
    "site",
    metadata,
    _id(counted=True),
    Column("key", Text, nullable=False, unique=True),
    _text("kind"),  # mx | implicit | null-mx | no-such-domain | no-mail-host | temporary
    _text("hosts"),  # JSON array of [preference, name]
    _text("provider", ""),
    _text("detail", ""),
    _int("shares", 1),  # delivery processes that work on it
    _text("tls", ""),  # what is demanded: empty (opportunistic) | required | verified
)

lease = Table(  # one per run of a delivery process; claims point at it
    "lease",
    metadata,
    _id(counted=True),
    _text("owner"),
    _int("slot"),
    _int("expires_ms"),
    sqlite_autoincrement=True,  # a number that came back would let a late settlement pass for the new run's own
)

sending_domain = Table(
    "sending_domain",
    metadata,
    _id(),
    _int("tenant_id"),
    Column("name", Text, nullable=False, unique=True),
    _text("return_path_host"),
    _int("created_ms"),
    _text("dmarc_policy", "none"),  # none | quarantine | reject
    _text("dmarc_reports_to", ""),  # an address
    _int("rotate_days", 0),  # 0: keys are changed by hand only
    _int("next_check_ms", 0),
    _text("mta_sts", ""),  # its own policy: testing | enforce | none
    _text("mta_sts_mx", ""),
    _text("tls_reports_to", ""),
    _text("public_host", ""),
    _text("bimi_logo", ""),  # a digest
    _text("bimi_evidence", ""),  # an address
    _text("dmarc_rollout", "by-hand"),  # by-hand | auto: the policy follows what reports show
)

dkim_key = Table(
    "dkim_key",
    metadata,
    _id(),
    _int("domain_id"),
    _text("selector"),
    _text("algorithm"),
    Column("sealed_key", LargeBinary, nullable=False),
    _text("public_record"),
    _int("active", 1),
    _int("created_ms"),
    _text("stage", "active"),  # next | active | old | leaked | revoked
    _int("since_ms", 0),  # of the stage
    UniqueConstraint("domain_id", "selector"),
)

credential = Table(
    "credential",
    metadata,
    _id(),
    _int("tenant_id"),
    Column("username", Text, nullable=False, unique=True),
    Column("secret_hash", LargeBinary, nullable=False),
    _text("stream"),
    _text("allowed_domains"),  # JSON array; empty: all of the tenant
    _int("created_ms"),
)

token = Table(
    "token",
    metadata,
    _id(),
    _int("tenant_id"),
    _text("name"),
    Column("secret_hash", LargeBinary, nullable=False, unique=True),
    _text("scopes"),  # JSON array
    _int("created_ms"),
)

suppression = Table(
    "suppression",
    metadata,
    _id(),
    _int("tenant_id"),
    _text("address_key"),
    _text("stream", ""),  # empty: the whole tenant
    _text("reason"),
    _text("evidence"),
    _text("origin"),
    _int("created_ms"),
    UniqueConstraint("tenant_id", "address_key", "stream"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant_id", _BIG, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    _text("response"),  # empty while the first request is still being taken
    _int("created_ms"),
)


def metadata_for(engine: Engine) -> MetaData:
    """Every table as this engine has it."""
    made = MetaData()
    more = (schema_fleet, schema_domains, schema_certificates, schema_tls, schema_dmarc)
    assert {table for one in more for table in one.TABLES} <= set(metadata.tables.values())
    for table in metadata.tables.values():
        table.to_metadata(made)
    _event(made, engine)
    if engine == "postgres":
        _commit_mark(made)
    return made
