"""The engine's fixtures: a database, and the parts put together over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailfleet.store.database import Database
from tests.engine.plant import Plant
from tests.store.fixtures import cluster, database, database_path, engine, open_database, place, upgraded

__all__ = ["cluster", "database", "database_path", "engine", "open_database", "place", "upgraded"]


@pytest.fixture
async def plant(database: Database, tmp_path: Path) -> Plant:
    """An engine with the sending domain shop.example."""
    plant = Plant(database, tmp_path / "run")
    await plant.add_domain()
    return plant
