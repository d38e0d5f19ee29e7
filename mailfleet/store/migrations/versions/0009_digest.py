"""The nightly mail of what changed: which day's was made, and which changes were told"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("domain_check_past", sa.Column("told", BIG, server_default=sa.text("0"), nullable=False))
    op.create_table(
        "digest",
        sa.Column("day", BIG, autoincrement=False, nullable=False),
        sa.Column("at_ms", BIG, nullable=False),
        sa.Column("content_id", BIG, nullable=False),
        sa.PrimaryKeyConstraint("day"),
    )
