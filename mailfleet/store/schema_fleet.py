"""Tables of the ways out: sources, relays and pools, what holds them back, how they are warmed up, what is said of them."""

from __future__ import annotations

from sqlalchemy import Column, Index, LargeBinary, Table, Text, UniqueConstraint

from mailfleet.store.columns import id_column, int_column, key_column, key_text, metadata, text_column

egress = Table(  # a way out: a source (an address of ours) or a relay (another SMTP server)
    "egress",
    metadata,
    id_column(counted=True),
    text_column("kind"),  # source | relay
    Column("name", Text, nullable=False, unique=True),
    int_column("tenant_id", 0),  # 0: for every tenant
    text_column("node", ""),  # where the address is; empty: this one
    text_column("address", ""),  # of a source, IPv4 or IPv6; empty: what the system chooses
    text_column("ehlo_name", ""),  # empty: the node's
    text_column("host", ""),  # of a relay
    int_column("port", 0),
    text_column("tls", ""),  # of a relay: required | verified | opportunistic | none
    text_column("username", ""),
    Column("sealed_secret", LargeBinary),
    text_column("limits", ""),  # JSON object: what is kept to towards any provider
    text_column("cost", ""),  # JSON object: month, per_1000, currency
    text_column("state", "active"),  # active | paused | draining | retired
    text_column("reason", ""),
    int_column("created_ms"),
    int_column("since_ms"),  # of the state
)

pool = Table(
    "pool",
    metadata,
    id_column(counted=True),
    int_column("tenant_id", 0),  # 0: for every tenant
    text_column("name"),
    int_column("overflow_pool_id", 0),
    int_column("created_ms"),
    UniqueConstraint("tenant_id", "name"),
)

pool_member = Table(
    "pool_member",
    metadata,
    key_column("pool_id"),
    key_column("egress_id"),
    int_column("weight", 1),
)

brake = Table(  # what holds mail back; one that has ended is history
    "brake",
    metadata,
    id_column(),
    text_column("action"),  # slow | rest | stop | reroute
    int_column("egress_id", 0),  # 0 and empty: any
    text_column("provider", ""),
    int_column("site_id", 0),
    int_column("stream_id", 0),
    int_column("campaign_id", 0),
    int_column("permille"),  # of the normal rate
    int_column("step", 0),  # of the recovery
    text_column("reason"),
    text_column("rule", ""),
    text_column("words", ""),  # the remote's own
    text_column("origin"),  # person | rule | blocklist | reputation
    int_column("for_ms", 0),  # how long it was to last when it was last put on
    int_column("step_ms", 0),
    int_column("since_ms"),
    int_column("until_ms", 0),  # 0: until somebody lifts it
    int_column("ended_ms", 0),  # 0: in force
    text_column("ended_why", ""),
    Index("brake_in_force", "ended_ms", "id"),
)

warmup = Table(  # a source that is getting known to a provider
    "warmup",
    metadata,
    key_column("egress_id"),
    key_text("provider"),  # empty: all sites of no known provider
    text_column("plan"),
    text_column("state"),  # warming | warm | paused
    int_column("stage", 0),
    int_column("cap"),  # deliveries of the day
    int_column("day"),  # that the cap is for
    int_column("reserved", 0),  # under lease now
    int_column("last_sent_day", 0),
    int_column("held_until_ms", 0),  # nothing until then: the provider pushes back
    int_column("good_days", 0),  # of the stage
    int_column("caution", 0),  # how often the provider has pushed back
    text_column("reason", ""),
    int_column("since_ms"),
)

warmup_day = Table(  # what came of a day, and what followed from it
    "warmup_day",
    metadata,
    key_column("egress_id"),
    key_text("provider"),
    key_column("day"),
    int_column("stage", 0),
    int_column("cap", 0),
    int_column("delivered", 0),
    int_column("attempted", 0),
    int_column("deferred", 0),
    int_column("bounced", 0),
    int_column("complained", 0),
    text_column("move", ""),  # up | hold | back | decay | done; empty while the day lasts
    text_column("reason", ""),
)

allowance = Table(  # of tenants, streams and campaigns with rates of their own: when the next delivery may leave
    "allowance",
    metadata,
    key_text("whose"),  # tenant | stream | campaign
    key_column("whose_id"),
    key_column("period_ms"),
    int_column("next_ms"),
)

listing = Table(  # of an address or domain on a block list
    "listing",
    metadata,
    id_column(),
    int_column("egress_id", 0),
    text_column("target"),  # the address or domain as it was asked for
    text_column("list"),
    text_column("state"),  # open | closed
    text_column("codes"),
    text_column("words", ""),
    text_column("evidence"),  # JSON
    text_column("action", ""),
    int_column("brake_id", 0),
    int_column("since_ms"),
    int_column("seen_ms"),
    int_column("ended_ms", 0),
    text_column("ended_why", ""),
    Index("listing_open", "ended_ms", "id"),
)

list_check = Table(  # the last look at each target in each list, and at the list itself (target empty)
    "list_check",
    metadata,
    key_text("list"),
    key_text("target"),
    text_column("outcome"),  # listed | clear | refused | silent | broken
    text_column("detail", ""),
    int_column("at_ms"),
    int_column("next_ms"),
)

hourly = Table(  # what came of deliveries, counted in the commit that settles them
    "hourly",
    metadata,
    key_column("hour"),  # since 1970
    key_column("egress_id"),
    key_text("provider"),
    key_text("domain"),  # the sending domain
    key_column("stream_id"),
    key_column("campaign_id"),
    key_text(
        "what"
    ),  # delivered | deferred | bounced | expired | complaint | unsubscribe | open | click, or class:<bounce class>
    key_column("part"),  # the count is their sum
    int_column("n"),
)

imported = Table(  # what providers tell of us: Google Postmaster, Microsoft SNDS
    "imported",
    metadata,
    key_text("origin"),  # postmaster | snds
    key_text("subject"),  # a domain or an address
    key_column("day"),
    text_column("data"),  # JSON
    int_column("at_ms"),
)

TABLES = (
    egress,
    pool,
    pool_member,
    brake,
    warmup,
    warmup_day,
    allowance,
    listing,
    list_check,
    hourly,
    imported,
)
