"""Counters in parts, addresses in blocks, sites that several processes work on"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("site", sa.Column("shares", BIG, server_default=sa.text("1"), nullable=False))
    op.add_column("delivery", sa.Column("address_block", BIG, server_default=sa.text("0"), nullable=False))
    op.drop_index("delivery_address", "delivery")
    op.create_index("delivery_address", "delivery", ["address_block", "address_key"])
    if op.get_context().dialect.name == "postgresql":
        op.add_column("tally", sa.Column("part", BIG, server_default=sa.text("0"), nullable=False))
        op.drop_constraint("tally_pkey", "tally")
        op.create_primary_key("tally_pkey", "tally", ["campaign_id", "state", "part"])
        part_events()
        look_after_what_changes()
    else:
        part_tally()


def part_tally() -> None:
    """SQLite cannot change the key of a table."""
    op.rename_table("tally", "tally_before")
    op.create_table(
        "tally",
        sa.Column("campaign_id", BIG, autoincrement=False, nullable=False),
        sa.Column("state", BIG, autoincrement=False, nullable=False),
        sa.Column("part", BIG, autoincrement=False, server_default=sa.text("0"), nullable=False),
        sa.Column("n", BIG, server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "state", "part"),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO tally (campaign_id, state, n) SELECT campaign_id, state, n FROM tally_before")
    op.drop_table("tally_before")


def part_events() -> None:
    """A table in parts cannot be made of one that is not; no server has run 0001 alone, so there is nothing to keep."""
    op.drop_table("event")
    op.create_table(
        "event",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("at_ms", BIG, autoincrement=False, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("campaign_id", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("delivery_id", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", "at_ms"),
        postgresql_partition_by="RANGE (at_ms)",
    )
    op.create_index("event_delivery", "event", ["delivery_id"])
    op.create_index("event_campaign", "event", ["campaign_id", "id"])
    op.execute("CREATE TABLE event_default PARTITION OF event DEFAULT")


def look_after_what_changes() -> None:
    """Rows of a queue die as fast as they come: clean up earlier than by the fifth of the table, and when, then quickly.

    Not much earlier, for each time the indexes are read from end to end.
    """
    often = "autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 10000"
    more = "autovacuum_vacuum_cost_limit = 2000, autovacuum_analyze_scale_factor = 0.05"
    op.execute(f"ALTER TABLE delivery SET ({often}, {more})")
    # Room in the page, so that a counter's new version needs no new entry in its index.
    op.execute(
        "ALTER TABLE tally SET (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500)"
    )
    op.execute("ALTER TABLE mail_domain SET (fillfactor = 70)")
    op.execute("ALTER TABLE flow SET (fillfactor = 50)")
