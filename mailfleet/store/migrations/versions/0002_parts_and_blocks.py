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
