"""What receivers report on mail with our domains in From, and a DMARC policy that follows it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, BIG, nullable=False)


def words(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def upgrade() -> None:
    op.create_table(
        "dmarc_report",
        sa.Column("id", BIG, primary_key=True, autoincrement=False),
        number("tenant_id"),
        *(words(name) for name in ("domain", "reporter", "report_id")),
        *(number(name) for name in ("begin_s", "end_s", "day")),
        words("policy"),
        *(number(name) for name in ("messages", "passed", "at_ms")),
        sa.UniqueConstraint("tenant_id", "domain", "reporter", "report_id", "begin_s"),
    )
    op.create_index("dmarc_report_domain", "dmarc_report", ["tenant_id", "domain", "day"])
    op.create_index("dmarc_report_day", "dmarc_report", ["day"])
    op.create_table(
        "dmarc_row",
        *(number(name) for name in ("report", "n", "tenant_id")),
        words("domain"),
        number("day"),
        *(words(name) for name in ("header_from", "ip")),
        *(number(name) for name in ("dkim", "spf", "held")),
        *(words(name) for name in ("signed_by", "known_as", "reasons", "why")),
        number("messages"),
        sa.PrimaryKeyConstraint("report", "n"),
    )
    op.create_index("dmarc_row_domain", "dmarc_row", ["tenant_id", "domain", "day"])
    op.create_table(
        "dmarc_judgement",
        number("domain_id"),
        *(words(name) for name in ("who", "judged")),
        number("at_ms"),
        sa.PrimaryKeyConstraint("domain_id", "who"),
    )
    op.add_column("sending_domain", sa.Column("dmarc_rollout", sa.Text(), server_default="by-hand", nullable=False))
