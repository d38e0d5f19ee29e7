"""Bring a database to this program's schema. Runs once at start, in the supervisor, before any role."""

from __future__ import annotations

from pathlib import Path

import apsw

from mailfleet.base.errors import ConfigError

HEAD = "0002"  # a test compares it with the newest file in migrations/versions


def version_of(path: Path) -> str | None:
    """The schema version of the database, or ``None`` when there is none yet. Raises ``ConfigError`` for a broken file."""
    if not path.exists():
        return None
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'alembic_version'").fetchall():
            return None
        found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        return str(found[0][0]) if found else None
    except (apsw.NotADBError, apsw.CorruptError) as error:
        what = f"the database cannot be read: {error}"
        raise ConfigError(what, where=str(path), mend="restore it from a backup, or give another --data") from None
    finally:
        connection.close()


def upgrade(path: Path, to: str = HEAD) -> bool:
    """Create or upgrade the database; true if anything was done. Raises ``ConfigError`` for one that is newer than this program."""
    found = version_of(path)
    if found == to:
        return False
    if found is not None and found > HEAD:
        raise ConfigError(
            f"the database has schema {found}, this Mailfleet knows {HEAD}",
            where=str(path),
            mend="run the newer Mailfleet that last used this data folder, or restore a backup made by this version",
        )
    # Alembic is only imported when there is something to do: a start without migrations stays fast.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import URL

    path.parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["url"] = URL.create("sqlite", database=str(path))  # any folder name is good
    command.upgrade(config, to)
    return True
