"""When an authority is asked about a certificate again"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("certificate", sa.Column("next_ask_ms", BIG, server_default=sa.text("0"), nullable=False))
