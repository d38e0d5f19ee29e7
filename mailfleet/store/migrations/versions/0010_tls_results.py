"""What came of securing sessions with mail hosts, and the reports on it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def number(name: str, default: int | None = None) -> sa.Column[int]:
    return sa.Column(name, BIG, server_default=None if default is None else sa.text(str(default)), nullable=False)


def words(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(
        name, sa.Text(), server_default=None if default is None else sa.text(f"'{default}'"), nullable=False
    )


KEY = ("domain", "policy_type", "policy_domain", "policy_id", "result", "reason", "mx_host", "our_ip", "remote_ip")


def upgrade() -> None:
    op.create_table(
        "tls_result",
        number("day"),
        *(words(name) for name in KEY),
        number("part"),
        words("policy", ""),
        number("n"),
        sa.PrimaryKeyConstraint("day", *KEY, "part"),
    )
    op.create_table(
        "tls_report",
        number("day"),
        words("domain"),
        number("due_ms"),
        words("state", "waiting"),
        words("urls", "[]"),
        sa.PrimaryKeyConstraint("day", "domain"),
    )
    op.create_index("tls_report_due", "tls_report", ["due_ms"])
