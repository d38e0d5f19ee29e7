"""What a writer wrote into its last commit; PostgreSQL only, where a connection can be lost during one"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.create_table(
            "commit_mark",
            sa.Column("writer", sa.BigInteger(), autoincrement=False, nullable=False),
            sa.Column("mark", sa.BigInteger(), nullable=False),
            sa.Column("since_ms", sa.BigInteger(), nullable=False),
            sa.PrimaryKeyConstraint("writer"),
        )
