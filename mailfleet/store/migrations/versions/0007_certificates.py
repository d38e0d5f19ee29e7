"""Certificates, the account they come from, questions of authorities; what sending domains show under their own hosts"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def number(name: str, default: int | None = None) -> sa.Column[int]:
    return sa.Column(name, BIG, server_default=None if default is None else sa.text(str(default)), nullable=False)


def words(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(
        name, sa.Text(), server_default=None if default is None else sa.text(f"'{default}'"), nullable=False
    )


def upgrade() -> None:
    op.add_column("sending_domain", words("mta_sts", ""))
    op.add_column("sending_domain", words("mta_sts_mx", ""))
    op.add_column("sending_domain", words("tls_reports_to", ""))
    op.add_column("sending_domain", words("public_host", ""))
    op.add_column("sending_domain", words("bimi_logo", ""))
    op.add_column("sending_domain", words("bimi_evidence", ""))
    op.create_table(
        "domain_logo",
        sa.Column("domain_id", BIG, autoincrement=False, nullable=False),
        words("svg"),
        sa.PrimaryKeyConstraint("domain_id"),
    )
    op.create_table(
        "certificate",
        words("host"),
        words("issuer"),
        words("chain", ""),
        sa.Column("sealed_key", sa.LargeBinary()),
        sa.Column("sealed_next", sa.LargeBinary()),
        number("next_since_ms", 0),
        number("not_before_ms", 0),
        number("not_after_ms", 0),
        number("changed_ms"),
        number("failures", 0),
        words("problem", ""),
        number("next_try_ms", 0),
        sa.PrimaryKeyConstraint("host"),
    )
    op.create_table(
        "acme_account",
        words("directory"),
        words("uri"),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        number("created_ms"),
        sa.PrimaryKeyConstraint("directory"),
    )
    op.create_table(
        "acme_challenge",
        words("kind"),
        words("host"),
        words("token"),
        words("answer"),
        number("created_ms"),
        sa.PrimaryKeyConstraint("kind", "host", "token"),
    )
