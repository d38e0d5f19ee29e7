"""How Alembic reaches the database; called by ``store.migrate`` and by nothing else."""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, create_engine, event, pool

from mailfleet.store.schema import metadata

engine = create_engine(context.config.attributes["url"], poolclass=pool.NullPool)


@event.listens_for(engine, "connect")
def leave_transactions_to_us(driver: Any, _: Any) -> None:
    """Python's driver opens no transaction for CREATE TABLE, so an upgrade killed half way would stay half done."""
    driver.isolation_level = None


@event.listens_for(engine, "begin")
def begin(connection: Connection) -> None:
    """One transaction around everything, the version included."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


with engine.begin() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
