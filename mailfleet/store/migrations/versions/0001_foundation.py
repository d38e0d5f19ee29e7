"""The foundation"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "campaign",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("flow_id", BIG, nullable=False),
        sa.Column("content_id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("rows", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("invalid", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("duplicates", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("first_delivery_id", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("last_delivery_id", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("told_to_id", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.Column("send_at_ms", BIG, nullable=True),
        sa.Column("finished_ms", BIG, nullable=True),
        sa.Column("pause_reason", sa.Text(), server_default=sa.text("('')"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "content",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), server_default=sa.text("('')"), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("info", sa.Text(), nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("content", schema=None) as batch_op:
        batch_op.create_index(
            "content_message_id",
            ["message_id"],
            unique=False,
            sqlite_where=sa.text("message_id <> ''"),
            postgresql_where=sa.text("message_id <> ''"),
        )

    op.create_table(
        "credential",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("allowed_domains", sa.Text(), nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("username"),
    )
    op.create_table(
        "delivery",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("flow_id", BIG, nullable=False),
        sa.Column("campaign_id", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("content_id", BIG, nullable=False),
        sa.Column("priority", BIG, nullable=False),
        sa.Column("domain_id", BIG, nullable=False),
        sa.Column("site_id", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("state", BIG, nullable=False),
        sa.Column("due_ms", BIG, nullable=False),
        sa.Column("expires_ms", BIG, nullable=False),
        sa.Column("accepted_ms", BIG, nullable=False),
        sa.Column("attempts", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("tried", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("lease_id", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("address_key", sa.Text(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=True),
        sa.Column("envelope", sa.Text(), nullable=True),
        sa.Column("bounce_class", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.create_index("delivery_address", ["address_key", "campaign_id"], unique=False)
        batch_op.create_index(
            "delivery_claim",
            ["site_id", "priority", "flow_id", "tried", "due_ms"],
            unique=False,
            sqlite_where=sa.text("state = 1"),
            postgresql_where=sa.text("state = 1"),
        )
        batch_op.create_index("delivery_content", ["content_id", "id"], unique=False)
        batch_op.create_index(
            "delivery_domain",
            ["domain_id"],
            unique=False,
            sqlite_where=sa.text("state = 1"),
            postgresql_where=sa.text("state = 1"),
        )
        batch_op.create_index(
            "delivery_lease",
            ["lease_id"],
            unique=False,
            sqlite_where=sa.text("state = 2"),
            postgresql_where=sa.text("state = 2"),
        )

    op.create_table(
        "dkim_key",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("domain_id", BIG, nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.Column("public_record", sa.Text(), nullable=False),
        sa.Column("active", BIG, server_default=sa.text("1"), nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("domain_id", "selector"),
    )
    op.create_table(
        "event",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("at_ms", BIG, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("campaign_id", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("delivery_id", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("data", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index("event_campaign", ["campaign_id", "id"], unique=False)
        batch_op.create_index("event_delivery", ["delivery_id"], unique=False)

    op.create_table(
        "flow",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("stream_id", BIG, nullable=False),
        sa.Column("campaign_id", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("priority", BIG, nullable=False),
        sa.Column("weight", BIG, server_default=sa.text("1"), nullable=False),
        sa.Column("state", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant_id", "stream_id", "campaign_id"),
    )
    op.create_table(
        "idempotency",
        sa.Column("tenant_id", BIG, autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "key"),
    )
    op.create_table(
        "lease",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("slot", BIG, nullable=False),
        sa.Column("expires_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "mail_domain",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("site_id", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("valid_until_ms", BIG, server_default=sa.text("0"), nullable=False),
        sa.Column("next_locate_ms", BIG, server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    with op.batch_alter_table("mail_domain", schema=None) as batch_op:
        batch_op.create_index(
            "mail_domain_next",
            ["next_locate_ms"],
            unique=False,
            sqlite_where=sa.text("next_locate_ms > 0"),
            postgresql_where=sa.text("next_locate_ms > 0"),
        )

    op.create_table(
        "sending_domain",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("return_path_host", sa.Text(), nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "site",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("hosts", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), server_default=sa.text("('')"), nullable=False),
        sa.Column("detail", sa.Text(), server_default=sa.text("('')"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_table(
        "stream",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("weight", BIG, server_default=sa.text("1"), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant_id", "name"),
    )
    op.create_table(
        "suppression",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("address_key", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), server_default=sa.text("('')"), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant_id", "address_key", "stream"),
    )
    op.create_table(
        "tally",
        sa.Column("campaign_id", BIG, autoincrement=False, nullable=False),
        sa.Column("state", BIG, autoincrement=False, nullable=False),
        sa.Column("n", BIG, server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "state"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tenant",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "token",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("tenant_id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_ms", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("secret_hash"),
    )


def downgrade() -> None:
    op.drop_table("token")
    op.drop_table("tenant")
    op.drop_table("tally")
    op.drop_table("suppression")
    op.drop_table("stream")
    op.drop_table("site")
    op.drop_table("sending_domain")
    with op.batch_alter_table("mail_domain", schema=None) as batch_op:
        batch_op.drop_index(
            "mail_domain_next",
            sqlite_where=sa.text("next_locate_ms > 0"),
            postgresql_where=sa.text("next_locate_ms > 0"),
        )

    op.drop_table("mail_domain")
    op.drop_table("lease")
    op.drop_table("idempotency")
    op.drop_table("flow")
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.drop_index("event_delivery")
        batch_op.drop_index("event_campaign")

    op.drop_table("event")
    op.drop_table("dkim_key")
    with op.batch_alter_table("delivery", schema=None) as batch_op:
        batch_op.drop_index("delivery_lease", sqlite_where=sa.text("state = 2"), postgresql_where=sa.text("state = 2"))
        batch_op.drop_index("delivery_domain", sqlite_where=sa.text("state = 1"), postgresql_where=sa.text("state = 1"))
        batch_op.drop_index("delivery_content")
        batch_op.drop_index("delivery_claim", sqlite_where=sa.text("state = 1"), postgresql_where=sa.text("state = 1"))
        batch_op.drop_index("delivery_address")

    op.drop_table("delivery")
    op.drop_table("credential")
    with op.batch_alter_table("content", schema=None) as batch_op:
        batch_op.drop_index("content_message_id")

    op.drop_table("content")
    op.drop_table("campaign")
