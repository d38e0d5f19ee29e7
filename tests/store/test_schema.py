"""The schema and the migrations say the same; an upgrade is whole or has not happened."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import apsw
import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from mailfleet.base.errors import ConfigError
from mailfleet.store import campaigns, deliveries, migrate, sites, tenants
from mailfleet.store.database import Database
from mailfleet.store.schema import metadata_for
from mailfleet.store.sqlite import SqliteTx
from tests.store.cluster import Cluster
from tests.store.fixtures import TEMPLATE

VERSIONS = Path(migrate.__file__).parent / "migrations" / "versions"


def test_migrations_lead_to_the_schema(upgraded: Path) -> None:
    engine = create_engine(f"sqlite:///{upgraded}")
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "render_as_batch": True}
        )
        assert compare_metadata(context, metadata_for("sqlite")) == []
    engine.dispose()


def test_partial_indexes_are_the_schemas_too(upgraded: Path, tmp_path: Path) -> None:
    """Alembic does not compare the WHERE of an index, the order of its columns or WITHOUT ROWID; the SQL does."""
    path = tmp_path / "made.db"
    engine = create_engine(f"sqlite:///{path}")
    metadata_for("sqlite").create_all(engine)
    engine.dispose()
    assert sql_of(path) == sql_of(upgraded)


async def test_the_server_has_the_same_schema(cluster: Cluster) -> None:
    """Tables, columns, keys, indexes with their conditions: made by the migrations, and made at once."""
    made = cluster.create("made_at_once").replace("postgresql:", "postgresql+asyncpg:")
    engine = create_async_engine(made)
    async with engine.begin() as connection:
        await connection.run_sync(metadata_for("postgres").create_all)
    await engine.dispose()
    upgraded = await catalogue(cluster.url(TEMPLATE))
    assert {name for kind, name, *_ in upgraded if kind == "table"} >= {"event_default", "alembic_version"}
    ours = {row for row in upgraded if "alembic_version" not in str(row) and "event_default" not in str(row)}
    assert ours == await catalogue(cluster.url("made_at_once"))
    cluster.drop("made_at_once")


async def catalogue(url: str) -> set[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    found = await connection.fetch(
        "SELECT 'table' AS kind, relname::text AS name, relkind::text AS a, pg_get_partkeydef(oid) AS b, '' AS c FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " UNION ALL SELECT 'column', table_name || '.' || column_name, data_type, is_nullable, coalesce(column_default, '')"
        " FROM information_schema.columns WHERE table_schema = 'public'"
        " UNION ALL SELECT 'index', tablename || '.' || indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = 'public'"
        " UNION ALL SELECT 'rule', conrelid::regclass::text, pg_get_constraintdef(oid), '', '' FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace"
    )
    await connection.close()
    return {tuple(row) for row in found}


def sql_of(path: Path) -> dict[str, str]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    found = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT IN ('alembic_version', 'sqlite_sequence')"
    ).fetchall()
    connection.close()
    return {str(name): " ".join(sorted(re.findall(r"\w+", str(sql)))) for name, sql in found}


def test_head_is_the_newest_revision() -> None:
    revisions = {}
    for path in VERSIONS.glob("[0-9]*.py"):
        text = path.read_text()
        found = re.search(r'^revision = "(\w+)"', text, re.M)
        before = re.search(r'^down_revision = (?:"(\w+)"|None)', text, re.M)
        assert found
        assert before
        assert path.name.startswith(found[1] + "_")
        revisions[found[1]] = before[1]
    assert max(revisions) == migrate.HEAD
    ordered = sorted(revisions)
    assert [revisions[name] for name in ordered] == [None, *ordered[:-1]], "one line of revisions, in order"


def test_an_upgrade_is_done_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "mailfleet.db"
    assert migrate.version_of(path) is None
    assert migrate.upgrade(path)
    assert migrate.version_of(path) == migrate.HEAD
    assert not migrate.upgrade(path)


def test_what_the_foundation_held_is_there_after_the_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "mailfleet.db"
    migrate.upgrade(path, "0001")
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO tally VALUES (5, 3, 70), (5, 101, 2)")
    connection.execute("INSERT INTO site (key, kind, hosts) VALUES ('k', 'mx', '[]')")
    connection.execute(
        "INSERT INTO delivery (id, tenant_id, flow_id, content_id, priority, domain_id, state, due_ms, expires_ms,"
        " accepted_ms, address, address_key) VALUES (7, 1, 50, 9, 10, 1, 1, 0, 0, 0, 'a@b.example', 'a@b.example')"
    )
    assert migrate.upgrade(path)
    tx = SqliteTx(connection)
    assert campaigns.tally(tx, 5) == {3: 70, 101: 2}
    assert sites.shared(tx) == {}
    tenants.ensure_default(tx)
    tx.run("INSERT INTO flow VALUES (50, 1, 2, 5, 10, 1, 2)")
    assert [one.id for one in deliveries.page(tx, 1, address_key="a@b.example")] == [7]
    connection.close()


@pytest.mark.parametrize("name", ["with space", "100%d", "what?mode=ro", "hash#tag", "ünïcode", "a+b&c"])
def test_a_data_folder_of_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "mailfleet.db"
    assert migrate.upgrade(path)
    assert path.stat().st_size
    assert migrate.version_of(path) == migrate.HEAD


def test_a_newer_database_is_not_touched(database_path: Path) -> None:
    connection = apsw.Connection(str(database_path))
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(ConfigError, match="9999") as caught:
        migrate.upgrade(database_path)
    assert str(database_path) in caught.value.where
    assert caught.value.mend


def test_a_file_that_is_no_database_is_told_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "mailfleet.db"
    path.write_bytes(b"what somebody else keeps here, " * 100)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="not a database") as caught:
        migrate.upgrade(path)
    assert "backup" in caught.value.mend
    assert path.read_bytes() == before


def test_a_start_waits_for_who_still_has_the_database(database_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = apsw.Connection(str(database_path))
    other.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
    other.execute("BEGIN EXCLUSIVE").fetchall()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(migrate.version_of, database_path)
        assert wait([asked], 0.3).not_done, "it waits"
        other.close()
        assert asked.result(60) == migrate.HEAD
    other = apsw.Connection(str(database_path))
    other.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
    other.execute("BEGIN EXCLUSIVE").fetchall()
    monkeypatch.setattr(migrate, "BUSY_MS", 1)
    with pytest.raises(ConfigError, match="locked"):
        migrate.version_of(database_path)
    other.close()


def test_an_upgrade_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mailfleet.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE token (x)")
    before = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    with pytest.raises(Exception, match="token"):
        migrate.upgrade(path)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == before
    connection.execute("DROP TABLE token")
    connection.close()
    assert migrate.upgrade(path)
    assert migrate.version_of(path) == migrate.HEAD


def test_a_start_with_nothing_to_upgrade_does_not_load_alembic(database_path: Path) -> None:
    code = (
        "import sys, pathlib; from mailfleet.store import migrate;"
        "assert not migrate.upgrade(pathlib.Path(sys.argv[1]));"
        "assert 'alembic' not in sys.modules and 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(database_path)], check=True)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_commits_are_synced(database: Database) -> None:
    assert await database.write(lambda tx: (tx.value("PRAGMA journal_mode"), tx.value("PRAGMA synchronous"))) == (
        "wal",
        2,
    )
