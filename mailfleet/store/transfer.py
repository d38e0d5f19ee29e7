"""A database moved from one engine to the other: every table copied in one transaction and read back before it counts.

The target is either as it was or complete, whenever this is interrupted. Who moves holds the folder's lock: no server runs.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import apsw
import orjson

from mailfleet.base.errors import ConflictError
from mailfleet.store import checks, events
from mailfleet.store.database import Place, Row, Tx
from mailfleet.store.migrate import place_words
from mailfleet.store.postgres import PostgresTx
from mailfleet.store.postgres_session import Session
from mailfleet.store.schema import metadata_for
from mailfleet.store.sqlite import SqliteTx, open_connection

CHUNK = 5000
COUNTED = ("event", "lease", "mail_domain", "site")  # tables whose ids the engine counts
_DAY_MS = 86_400_000
_MASK = (1 << 64) - 1

Progress = Callable[[str, int], None]
"""Called with the table and how many more of its rows have been dealt with; each row is copied once and read back once."""


class Door(Protocol):
    """One open transaction of an engine."""

    tx: Tx

    def each(self, table: str, columns: list[str]) -> Iterator[list[Row]]:
        """Every row, in chunks."""
        ...

    def commit(self) -> None:
        """Make it last."""
        ...


class _Sqlite:
    def __init__(self, path: Path) -> None:
        self._connection = open_connection(path)
        self._connection.execute("BEGIN IMMEDIATE")
        self.tx: Tx = SqliteTx(self._connection)

    def each(self, table: str, columns: list[str]) -> Iterator[list[Row]]:
        found = self._connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1")
        while chunk := list(islice(found, CHUNK)):
            yield chunk

    def commit(self) -> None:
        self._connection.execute("COMMIT")

    def close(self) -> None:
        with contextlib.suppress(apsw.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._connection.close()


class _Postgres:
    def __init__(self, url: str) -> None:
        self._session = Session(url)
        self._session.open()
        self._session.execute("BEGIN")
        self.tx: Tx = PostgresTx(self._session)

    def each(self, table: str, columns: list[str]) -> Iterator[list[Row]]:
        self.tx.run(f"DECLARE {table}_rows NO SCROLL CURSOR FOR SELECT {', '.join(columns)} FROM {table} ORDER BY 1")
        while chunk := self.tx.rows(f"FETCH {CHUNK} FROM {table}_rows"):
            yield chunk
        self.tx.run(f"CLOSE {table}_rows")

    def commit(self) -> None:
        self._session.execute("COMMIT")

    def close(self) -> None:
        self._session.close()


@contextlib.contextmanager
def door(place: Place) -> Iterator[Door]:
    """A transaction on the database there, rolled back unless it is committed."""
    opened = _Sqlite(place) if isinstance(place, Path) else _Postgres(place)
    try:
        yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def snapshot(place: Place) -> Iterator[Tx]:
    """One consistent view, for reading beside whoever writes."""
    if isinstance(place, Path):
        connection = open_connection(place, readonly=True)
        connection.execute("BEGIN")
        try:
            yield SqliteTx(connection)
        finally:
            connection.close()
        return
    session = Session(place)
    session.open()
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield PostgresTx(session)
    finally:
        session.close()


class Moved(NamedTuple):
    """A table that was moved: its rows and their checksum, the same on both sides."""

    table: str
    rows: int
    checksum: str


def copy(source: Place, target: Place, progress: Progress) -> list[Moved]:
    """Copy everything, and commit when what is read back is the same. Both are of this program's schema.

    Raises ``ConflictError`` when the target holds something else already; one that holds exactly this is left as it is,
    so that a move that was interrupted at its end can be repeated.
    """
    with door(source) as old, door(target) as new:
        tables = {
            name: [column.name for column in table.columns] for name, table in metadata_for("sqlite").tables.items()
        }
        filled = any(checks.counts(new.tx).values())
        if not filled:
            _make_room(old.tx, new.tx)
        moved = []
        for table, columns in sorted(tables.items()):
            copied = _copy_table(old, None if filled else new, table, columns, progress)
            if copied != _read_back(new, table, columns, progress):
                what = f"{place_words(target)} holds other things already" if filled else f"the copy of {table} differs"
                raise ConflictError(what, where="--to", mend="give an empty database" if filled else "try it again")
            moved.append(copied)
        _go_on_counting(old.tx, new.tx)
        new.commit()
        return moved


def _make_room(old: Tx, new: Tx) -> None:
    """The parts of the event log for the days that there are."""
    first, last = old.row("SELECT min(at_ms), max(at_ms) FROM event") or (None, None)
    if first is not None:
        events.make_parts(
            new, now_ms=max(int(first), int(last) - 400 * _DAY_MS), days=min(400, (last - first) // _DAY_MS + 2)
        )


def _copy_table(old: Door, new: Door | None, table: str, columns: list[str], progress: Progress) -> Moved:
    count = total = 0
    for rows in old.each(table, columns):
        if new is not None:
            new.tx.fill(table, columns, rows)
        total += sum(map(_digest, rows))
        count += len(rows)
        progress(table, len(rows))
    return Moved(table, count, f"{total & _MASK:016x}")


def _read_back(new: Door, table: str, columns: list[str], progress: Progress) -> Moved:
    return _copy_table(new, None, table, columns, progress)


def _digest(row: Row) -> int:
    """The same for a row wherever it is stored; NUL as the engine that has no place for it keeps it."""
    plain = [value.hex() if isinstance(value, bytes) else value for value in row]
    text = orjson.dumps(plain).replace(b"\\u0000", "\ufffd".encode())
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _go_on_counting(old: Tx, new: Tx) -> None:
    """Numbers go on after the highest that was ever given: one that came back would let an old cursor or lease pass for a new one."""
    for table in COUNTED:
        last = max(_last_number(old, table), _last_number(new, table))
        if new.engine == "postgres":
            if last:
                new.value("SELECT setval(pg_get_serial_sequence(?::text, 'id'), ?::bigint)", (table, last))
        elif table in ("event", "lease"):
            new.run("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
            new.run("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last))


def _last_number(tx: Tx, table: str) -> int:
    highest = int(tx.value(f"SELECT coalesce(max(id), 0) FROM {table}"))
    if tx.engine == "sqlite":
        return max(highest, int(tx.value("SELECT max(seq) FROM sqlite_sequence WHERE name = ?", (table,)) or 0))
    return max(highest, int(tx.value(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {table}_id_seq")))


def retire(url: str) -> None:
    """Make what was moved away from a server unusable by accident: a start on it says what happened."""
    session = Session(url)
    session.open()
    try:
        session.execute("ALTER TABLE alembic_version RENAME TO alembic_version_moved")
    finally:
        session.close()
