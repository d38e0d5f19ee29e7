"""Bring a database to this program's schema. Runs once at start, in the supervisor, before any role."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import apsw

from mailfleet.base.errors import ConfigError
from mailfleet.store.database import Place
from mailfleet.store.sqlite import BUSY_MS

T = TypeVar("T")
HEAD = "0012"  # a test compares it with the newest file in migrations/versions
_LOCK = 0x6D61696B  # advisory: one at a time, however many nodes start at once


def version_of(place: Place) -> str | None:
    """The schema version of the database, or ``None`` when there is none yet. Raises ``ConfigError`` for one that cannot be read."""
    if not isinstance(place, Path):
        return asyncio.run(_on_server(place, _server_version))
    if not place.exists():
        return None
    connection = apsw.Connection(str(place), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(BUSY_MS)  # roles of a supervisor that was killed may not have ended yet
    try:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'alembic_version'").fetchall():
            return None
        found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        return str(found[0][0]) if found else None
    except (apsw.NotADBError, apsw.CorruptError) as error:
        what = f"the database cannot be read: {error}"
        raise ConfigError(what, where=str(place), mend="restore it from a backup, or give another --data") from None
    except apsw.BusyError:
        what = f"another program has kept the database locked for {BUSY_MS // 1000} s"
        raise ConfigError(what, where=str(place), mend="end it (fuser names it), and start again") from None
    finally:
        connection.close()


def upgrade(place: Place, to: str = HEAD) -> bool:
    """Create or upgrade the database; true if anything was done. Raises ``ConfigError`` for one that is newer than this program."""
    found = version_of(place)
    if found == to:
        return False
    _check_not_newer(found, place)
    if not isinstance(place, Path):

        async def work(connection: Any) -> bool:
            return await _upgrade_server(connection, place, to)

        return asyncio.run(_on_server(place, work))
    # Alembic is only imported when there is something to do: a start without migrations stays fast.
    from alembic import command
    from sqlalchemy import URL

    place.parent.mkdir(parents=True, exist_ok=True)
    config = _config()
    config.attributes["url"] = URL.create("sqlite", database=str(place))  # any folder name is good
    command.upgrade(config, to)
    return True


def _check_not_newer(found: str | None, place: Place) -> None:
    if found is not None and found > HEAD:
        raise ConfigError(
            f"the database has schema {found}, this Mailfleet knows {HEAD}",
            where=place_words(place),
            mend="run the newer Mailfleet that last used this data, or restore a backup made by this version",
        )


def place_words(place: Place) -> str:
    """Where a database is, as it may be shown."""
    if isinstance(place, Path):
        return str(place)
    from mailfleet.store.postgres_session import shown

    return shown(place)


def _config() -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    return config


async def _on_server(url: str, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
    from mailfleet.store.postgres_session import connect, shown, words

    try:
        connection = await connect(url)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{shown(url)} cannot be reached: {words(error)}",
            where="database.url",
            mend="start the server, or set the URL of the one that runs",
        ) from None
    try:
        return await work(connection)
    finally:
        await connection.close(timeout=5)


def check_alone(place: Place, node: str) -> None:
    """Raises ``ConfigError`` while processes of another node use this database: their leases would be taken for ours."""
    if isinstance(place, Path):
        return
    from mailfleet.store.postgres import NODE_LOCKS, node_number

    async def others(connection: Any) -> bool:
        found = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND objid <> $2"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            NODE_LOCKS,
            node_number(node),
        )
        return bool(found)

    if asyncio.run(_on_server(place, others)):
        raise ConfigError(
            "another mailfleet serve uses this database",
            where=place_words(place),
            mend="stop that one first: so far one node works on a database",
        )


async def _server_version(connection: Any) -> str | None:
    if await connection.fetchval("SELECT to_regclass('alembic_version_moved')") is not None:
        raise ConfigError(
            "what this database held was moved away by mailfleet db move",
            where="database.url",
            mend="set the place that it was moved to, or make a new database",
        )
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    found = await connection.fetchval("SELECT version_num FROM alembic_version")
    return None if found is None else str(found)


async def _upgrade_server(connection: Any, url: str, to: str) -> bool:
    """The same migrations, as SQL that Alembic writes: one transaction, and it needs no second driver."""
    from alembic import command

    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        found = await _server_version(connection)
        if found == to:
            return False
        _check_not_newer(found, url)
        config = _config()
        config.output_buffer = io.StringIO()
        command.upgrade(config, f"{found or 'base'}:{to}", sql=True)
        await connection.execute(config.output_buffer.getvalue())
    return True
