"""A database as a server finds it, for every test that needs one. The engine is a parameter: what holds on one must hold on all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailfleet.store import migrate, tenants
from mailfleet.store.database import Database
from mailfleet.store.database import open_database as open_door
from mailfleet.store.sqlite import SqliteTx, open_connection

ENGINES = ("sqlite",)
MEMORY = "/dev/shm"

OpenDatabase = Callable[[], Database]


@pytest.fixture(scope="session")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that was upgraded from nothing, with the default tenant: copied for each test."""
    path = tmp_path_factory.mktemp("store") / "mailfleet.db"
    assert migrate.upgrade(path)
    connection = open_connection(path)
    tenants.ensure_default(SqliteTx(connection))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return path


@pytest.fixture(params=ENGINES)
def database_path(upgraded: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Where the test's own database is: in memory where the machine can, for every commit waits for the disk."""
    assert request.param in ENGINES
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        path = Path(folder) / "mailfleet.db"
        shutil.copyfile(upgraded, path)
        yield path


@pytest.fixture
def open_database(database_path: Path) -> Iterator[OpenDatabase]:
    """Opens the test's database; each call is another process's door to it."""
    opened: list[Database] = []

    def open_one() -> Database:
        opened.append(open_door(database_path))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def database(open_database: OpenDatabase) -> Database:
    """One open database."""
    return open_database()
