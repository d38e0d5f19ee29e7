"""Zones that are written to through a provider of octoDNS"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("provider", "settings"):
        op.add_column("dns_target", sa.Column(name, sa.Text(), server_default=sa.text("''"), nullable=False))
