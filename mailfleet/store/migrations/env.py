"""How Alembic reaches the database; called by ``store.migrate`` and by nothing else.

SQLite is upgraded over a connection. For PostgreSQL the statements are written down and ``store.migrate`` runs them, so a
migration that looks at rows must say so in SQL there.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, create_engine, event, pool

from mailfleet.store.schema import metadata_for
from mailfleet.store.sqlite import BUSY_MS


def offline() -> None:
    """Write the statements for PostgreSQL."""
    context.configure(dialect_name="postgresql", target_metadata=metadata_for("postgres"), literal_binds=True)
    context.run_migrations()


def online() -> None:
    """Upgrade SQLite."""
    engine = create_engine(
        context.config.attributes["url"], poolclass=pool.NullPool, connect_args={"timeout": BUSY_MS / 1000}
    )

    @event.listens_for(engine, "connect")
    def leave_transactions_to_us(driver: Any, _: Any) -> None:
        """Python's driver opens no transaction for CREATE TABLE, so an upgrade killed half way would stay half done."""
        driver.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        """One transaction around everything, the version included."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.begin() as connection:
        context.configure(connection=connection, target_metadata=metadata_for("sqlite"), render_as_batch=True)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    offline()
else:
    online()
