"""Ways out and what holds them back: sources, relays, pools, brakes, warm-up, block lists, counts by the hour"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def number(name: str, default: int | None = None) -> sa.Column[int]:
    return sa.Column(name, BIG, server_default=None if default is None else sa.text(str(default)), nullable=False)


def words(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(
        name, sa.Text(), server_default=None if default is None else sa.text(f"'{default}'"), nullable=False
    )


def key(name: str) -> sa.Column[int]:
    return sa.Column(name, BIG, autoincrement=False, nullable=False)


def upgrade() -> None:
    change_what_is_there()
    ways_out()
    what_holds_back()
    warming_up()
    what_is_said()


def change_what_is_there() -> None:
    op.execute("ALTER TABLE delivery RENAME COLUMN tried TO way")
    op.add_column("delivery", number("egress_id", 0))
    op.add_column("tenant", number("pool_id", 0))
    op.add_column("tenant", words("rates", ""))
    op.add_column("stream", number("pool_id", 0))
    op.add_column("stream", words("spill", "later"))
    op.add_column("stream", words("rates", ""))
    op.add_column("campaign", words("rates", ""))


def ways_out() -> None:
    op.create_table(
        "egress",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        words("kind"),
        words("name"),
        number("tenant_id", 0),
        words("node", ""),
        words("address", ""),
        words("ehlo_name", ""),
        words("host", ""),
        number("port", 0),
        words("tls", ""),
        words("username", ""),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=True),
        words("limits", ""),
        words("cost", ""),
        words("state", "active"),
        words("reason", ""),
        number("created_ms"),
        number("since_ms"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "pool",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        number("tenant_id", 0),
        words("name"),
        number("overflow_pool_id", 0),
        number("created_ms"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant_id", "name"),
    )
    op.create_table(
        "pool_member",
        key("pool_id"),
        key("egress_id"),
        number("weight", 1),
        sa.PrimaryKeyConstraint("pool_id", "egress_id"),
    )


def what_holds_back() -> None:
    op.create_table(
        "brake",
        key("id"),
        words("action"),
        number("egress_id", 0),
        words("provider", ""),
        number("site_id", 0),
        number("stream_id", 0),
        number("campaign_id", 0),
        number("permille"),
        number("step", 0),
        words("reason"),
        words("rule", ""),
        words("words", ""),
        words("origin"),
        number("for_ms", 0),
        number("step_ms", 0),
        number("since_ms"),
        number("until_ms", 0),
        number("ended_ms", 0),
        words("ended_why", ""),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("brake_in_force", "brake", ["ended_ms", "id"])
    op.create_table(
        "allowance",
        words("whose"),
        key("whose_id"),
        key("period_ms"),
        number("next_ms"),
        sa.PrimaryKeyConstraint("whose", "whose_id", "period_ms"),
    )


def warming_up() -> None:
    op.create_table(
        "warmup",
        key("egress_id"),
        words("provider"),
        words("plan"),
        words("state"),
        number("stage", 0),
        number("cap"),
        number("day"),
        number("reserved", 0),
        number("last_sent_day", 0),
        number("held_until_ms", 0),
        number("good_days", 0),
        number("caution", 0),
        words("reason", ""),
        number("since_ms"),
        sa.PrimaryKeyConstraint("egress_id", "provider"),
    )
    op.create_table(
        "warmup_day",
        key("egress_id"),
        words("provider"),
        key("day"),
        number("stage", 0),
        number("cap", 0),
        number("delivered", 0),
        number("attempted", 0),
        number("deferred", 0),
        number("bounced", 0),
        number("complained", 0),
        words("move", ""),
        words("reason", ""),
        sa.PrimaryKeyConstraint("egress_id", "provider", "day"),
    )


def what_is_said() -> None:
    op.create_table(
        "listing",
        key("id"),
        number("egress_id", 0),
        words("target"),
        words("list"),
        words("state"),
        words("codes"),
        words("words", ""),
        words("evidence"),
        words("action", ""),
        number("brake_id", 0),
        number("since_ms"),
        number("seen_ms"),
        number("ended_ms", 0),
        words("ended_why", ""),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("listing_open", "listing", ["ended_ms", "id"])
    op.create_table(
        "list_check",
        words("list"),
        words("target"),
        words("outcome"),
        words("detail", ""),
        number("at_ms"),
        number("next_ms"),
        sa.PrimaryKeyConstraint("list", "target"),
    )
    op.create_table(
        "hourly",
        key("hour"),
        key("egress_id"),
        words("provider"),
        words("domain"),
        key("stream_id"),
        key("campaign_id"),
        words("what"),
        key("part"),
        number("n"),
        sa.PrimaryKeyConstraint("hour", "egress_id", "provider", "domain", "stream_id", "campaign_id", "what", "part"),
    )
    op.create_table(
        "imported",
        words("origin"),
        words("subject"),
        key("day"),
        words("data"),
        number("at_ms"),
        sa.PrimaryKeyConstraint("origin", "subject", "day"),
    )
