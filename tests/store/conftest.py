"""The store's fixtures."""

from __future__ import annotations

from tests.store.fixtures import cluster, database, database_path, engine, open_database, place, tx, upgraded

__all__ = ["cluster", "database", "database_path", "engine", "open_database", "place", "tx", "upgraded"]
