"""Taking a data folder's database to the other engine, with the server stopped."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from mailfleet.app.folder import DataFolder
from mailfleet.base.errors import ConfigError, ConflictError
from mailfleet.config.settings import Settings
from mailfleet.store import migrate, transfer
from mailfleet.store.database import Place
from mailfleet.store.transfer import Moved, Progress

EMBEDDED = "embedded"


def stored_place(settings: Settings, folder: DataFolder) -> Place:
    """Where this folder's data is now. Raises ``ConfigError`` when there is none."""
    place = folder.place(settings.database.url)
    if migrate.version_of(place) is None:
        raise ConfigError(
            "there is no database yet",
            where=migrate.place_words(place),
            mend="start the server once, or give the --data folder that has one",
        )
    return place


def move(settings: Settings, folder: DataFolder, to: str, progress: Progress) -> list[Moved]:
    """Move everything to the server at the URL ``to``, or back into the folder (``embedded``); the caller holds its lock.

    Whatever interrupts it, it can be repeated: what was stored stays as it is until the copy is complete and checked.
    """
    if to == EMBEDDED:
        return _to_file(settings, folder, progress)
    if not to.startswith(("postgresql://", "postgres://")):
        raise ConfigError(
            "this is no URL of a server", where="--to", mend="write postgresql://USER:PASSWORD@HOST:5432/DATABASE"
        )
    if settings.database.url and not folder.database.exists():
        raise ConflictError(
            "the database is on a server already",
            where="database.url",
            mend="move it into the folder first (--to embedded), or use pg_dump",
        )
    if not folder.database.exists():
        stored_place(settings, folder)  # says why there is none
    _check_newest(folder.database)
    migrate.upgrade(to)
    moved = transfer.copy(folder.database, to, progress)
    # First the mark: between the two steps a start must find either the file or the word that it was moved.
    folder.moved.write_text(migrate.place_words(to) + "\n")
    folder.database.rename(_unused(folder.root / f"{folder.database.name}.before-move"))
    for rest in ("-wal", "-shm"):
        Path(f"{folder.database}{rest}").unlink(missing_ok=True)
    return moved


def _to_file(settings: Settings, folder: DataFolder, progress: Progress) -> list[Moved]:
    url = settings.database.url
    if not url:
        raise ConflictError(
            "the database is in the folder already", where="database.url", mend="there is nothing to move"
        )
    fresh = folder.root / f"{folder.database.name}.moving"
    if not folder.database.exists():
        _check_newest(url)
        for path in (fresh, Path(f"{fresh}-wal"), Path(f"{fresh}-shm")):
            path.unlink(missing_ok=True)
        migrate.upgrade(fresh)
        moved = transfer.copy(url, fresh, progress)
        folder.moved.unlink(missing_ok=True)
        fresh.rename(folder.database)
    else:  # an earlier run came this far
        moved = transfer.copy(url, folder.database, progress)
    transfer.retire(url)
    return moved


def _unused(path: Path) -> Path:
    """The path, or with a number if it is taken: what was kept once is not overwritten."""
    return next(one for number in count(1) if not (one := Path(f"{path}-{number}" if number > 1 else path)).exists())


def _check_newest(place: Place) -> None:
    found = migrate.version_of(place)
    if found != migrate.HEAD:
        raise ConflictError(
            f"the database has schema {found}, this Mailfleet moves {migrate.HEAD}",
            where=migrate.place_words(place),
            mend="run: mailfleet db migrate",
        )
