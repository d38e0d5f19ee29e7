"""What the DNS holds: zones that may be written to, our records there, checks with their history, stages of keys"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
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
    op.add_column("sending_domain", words("dmarc_policy", "none"))
    op.add_column("sending_domain", words("dmarc_reports_to", ""))
    op.add_column("sending_domain", number("rotate_days", 0))
    op.add_column("sending_domain", number("next_check_ms", 0))
    op.add_column("dkim_key", words("stage", "active"))
    op.add_column("dkim_key", number("since_ms", 0))
    op.create_table(
        "dns_target",
        key("id"),
        number("tenant_id", 0),
        words("zone"),
        words("kind"),
        words("server"),
        words("key_name", ""),
        words("algorithm", ""),
        sa.Column("sealed_secret", sa.LargeBinary()),
        number("created_ms"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("zone"),
    )
    op.create_table(
        "dns_record",
        key("domain_id"),
        words("name"),
        words("type"),
        words("value"),
        number("created_ms"),
        sa.PrimaryKeyConstraint("domain_id", "name", "type", "value"),
    )
    op.add_column("site", words("tls", ""))
    op.create_table(
        "sts_policy",
        words("domain"),
        words("policy_id"),
        words("mode"),
        words("mx"),
        number("fetched_ms"),
        number("expires_ms"),
        sa.PrimaryKeyConstraint("domain"),
    )
    checks()


def checks() -> None:
    op.create_table(
        "domain_check",
        words("subject"),
        words("name"),
        words("state"),
        words("found"),
        words("expected"),
        words("servers"),
        words("meaning"),
        words("next_step"),
        number("doubt", 0),
        number("since_ms"),
        number("seen_ms"),
        sa.PrimaryKeyConstraint("subject", "name"),
    )
    op.create_table(
        "domain_check_past",
        key("id"),
        words("subject"),
        words("name"),
        words("before"),
        words("state"),
        words("found"),
        words("meaning"),
        number("at_ms"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("domain_check_past_subject", "domain_check_past", ["subject", "id"])
