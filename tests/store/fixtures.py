"""A database as a server finds it, for every test that needs one. The engine is a parameter: what holds on one must hold on all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import apsw
import pytest

from mailfleet.store import egress, migrate, tenants
from mailfleet.store.database import Database, Place, Tx
from mailfleet.store.database import open_database as open_door
from mailfleet.store.postgres import PostgresTx
from mailfleet.store.postgres_session import WRITER_SETTINGS, Session
from mailfleet.store.sqlite import SqliteTx, open_connection
from tests.store.cluster import MEMORY, Cluster

ENGINES = ("sqlite", "postgres")
TEMPLATE = "mailfleet_template"
COUNTED = ("event", "lease", "mail_domain", "site")

OpenDatabase = Callable[[], Database]
_number = count()


def first_rows(tx: Tx) -> None:
    """What every install begins with."""
    tenants.ensure_default(tx)
    egress.ensure_default(tx, 0)


@pytest.fixture(scope="session")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded one."""
    path = tmp_path_factory.mktemp("store") / "mailfleet.db"
    assert migrate.upgrade(path)
    connection = open_connection(path)
    first_rows(SqliteTx(connection))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A server with a database to copy."""
    cluster = Cluster()
    url = cluster.create(TEMPLATE)
    assert migrate.upgrade(url)
    with_session(url, first_rows)
    yield cluster
    cluster.remove()


def with_session(url: str, work: Callable[[Tx], object]) -> None:
    """Run ``work`` over a connection of its own, each statement committed."""
    session = Session(url)
    session.open()
    try:
        tx = PostgresTx(session)
        work(tx)
        tx.flush()
    finally:
        session.close()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The engine of this test."""
    return str(request.param)


@pytest.fixture
def place(engine: str, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Where the test's own database is: in memory where the machine can, for every commit waits for the disk."""
    if engine == "postgres":
        cluster: Cluster = request.getfixturevalue("cluster")
        name = f"test_{next(_number)}"
        yield cluster.create(name, TEMPLATE)
        cluster.drop(name)
        return
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        path = Path(folder) / "mailfleet.db"
        shutil.copyfile(request.getfixturevalue("upgraded"), path)
        yield path


@pytest.fixture
def database_path(upgraded: Path) -> Iterator[Path]:
    """A file of the embedded engine, for what only that has."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        path = Path(folder) / "mailfleet.db"
        shutil.copyfile(upgraded, path)
        yield path


@pytest.fixture
def tx(engine: str, request: pytest.FixtureRequest) -> Iterator[Tx]:
    """One transaction of a database of its own, never committed."""
    if engine == "postgres":
        cluster: Cluster = request.getfixturevalue("cluster")
        session = Session(cluster.url(TEMPLATE), WRITER_SETTINGS)
        session.open()
        session.execute("BEGIN")
        for table in COUNTED:  # numbers that were taken are not given back with the rest
            session.execute(f"ALTER SEQUENCE {table}_id_seq RESTART")
        yield PostgresTx(session)
        session.close()
        return
    connection = memory_copy(request.getfixturevalue("upgraded"))
    yield SqliteTx(connection)
    connection.close()


def memory_copy(path: Path) -> apsw.Connection:
    """The embedded database in memory."""
    memory, stored = apsw.Connection(":memory:"), apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    with memory.backup("main", stored, "main") as backup:
        backup.step()
    stored.close()
    return memory


@pytest.fixture
def open_database(place: Place) -> Iterator[OpenDatabase]:
    """Opens the test's database; each call is another process's door to it."""
    opened: list[Database] = []

    def open_one() -> Database:
        opened.append(open_door(place))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def database(open_database: OpenDatabase) -> Database:
    """One open database."""
    return open_database()
