"""The store's fixtures."""

from __future__ import annotations

from tests.store.fixtures import database, database_path, open_database, upgraded

__all__ = ["database", "database_path", "open_database", "upgraded"]
