"""How Alembic reaches the database; called by ``store.migrate`` and by nothing else."""

from __future__ import annotations

from alembic import context
from sqlalchemy import create_engine, pool

from mailfleet.store.schema import metadata

engine = create_engine(context.config.get_main_option("sqlalchemy.url") or "", poolclass=pool.NullPool)
with engine.begin() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
