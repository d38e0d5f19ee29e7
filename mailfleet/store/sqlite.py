"""The embedded engine: one writer connection a process that groups commits, a few readers, one lock between processes.

Processes take turns by ``flock`` on a file beside the database rather than by SQLite's busy polling: the kernel wakes
the next one at once and frees the lock of a killed one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import apsw
import orjson

from mailfleet.base.errors import BusyError
from mailfleet.store.database import Tx
from mailfleet.store.statements import Engine, Params, Row, Sql, for_sqlite, params_for_sqlite
from mailfleet.store.wake import Listener, wake_all
from mailfleet.store.writer import Job, ThreadedDatabase

T = TypeVar("T")
BUSY_MS = 30_000  # that a connection waits for one that has locked the database
# A long list dirties the same pages of its indexes commit after commit: a longer log writes them home once.
_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "temp_store=MEMORY",
    "cache_size=-32768",
    "wal_autocheckpoint=10000",
    "journal_size_limit=67108864",
)


class SqliteTx:
    """``Tx`` over one connection, whoever opened its transaction."""

    engine: Engine = "sqlite"
    part = 0  # one process writes at a time

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.wakes = False

    def run(self, sql: Sql, params: Params = ()) -> int:
        """See ``Tx.run``."""
        for _ in self._connection.execute(for_sqlite(sql), params_for_sqlite(params)):
            pass
        return self._connection.changes()

    def many(self, sql: Sql, rows: Iterable[Params]) -> None:
        """See ``Tx.many``."""
        self._connection.executemany(for_sqlite(sql), rows)

    def batch(self, sql: Sql, rows: Sequence[Sequence[Any]]) -> list[Row]:
        """See ``Tx.batch``."""
        return self._connection.executemany(for_sqlite(sql), rows).fetchall()

    def fill(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See ``Tx.fill``."""
        marks = ", ".join("?" * len(columns))
        self._connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)

    def log(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See ``Tx.log``. One process writes at a time, so the order is that of commits anyway.

        In one step (``store.whole``): events are written by processes that have better things to do.
        """
        values = ", ".join(f"value->>{place}" for place in range(len(columns)))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM json_each(?)"
        self.run(sql, (orjson.dumps(list(map(tuple, rows))).decode(),))

    def lock_log(self) -> None:
        """See ``Tx.lock_log``: the writer's lock is held already."""

    def rows(self, sql: Sql, params: Params = ()) -> list[Row]:
        """See ``Tx.rows``."""
        return self._connection.execute(for_sqlite(sql), params_for_sqlite(params)).fetchall()

    def row(self, sql: Sql, params: Params = ()) -> Row | None:
        """See ``Tx.row``."""
        found = self._connection.execute(for_sqlite(sql), params_for_sqlite(params))
        return next(iter(found), None)

    def value(self, sql: Sql, params: Params = ()) -> Any:
        """See ``Tx.value``."""
        found = self.row(sql, params)
        return found[0] if found else None

    def wake(self) -> None:
        """See ``Tx.wake``."""
        self.wakes = True


def open_connection(path: Path, *, readonly: bool = False) -> apsw.Connection:
    """A connection with Mailfleet's pragmas: WAL, ``synchronous=FULL`` (a commit is on disk when it returns)."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(BUSY_MS)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").fetchall()
    if readonly:
        connection.execute("PRAGMA query_only=ON")
    return connection


class SqliteDatabase(ThreadedDatabase):
    """One process's door to the database file."""

    def __init__(self, path: Path, *, readers: int = 2) -> None:
        self._path = path
        self._connection: apsw.Connection | None = None  # the writer's
        self._local = threading.local()
        self._listeners: dict[Callable[[], None], Listener] = {}
        self._lock_file = os.open(path.with_name(path.name + ".writer"), os.O_RDWR | os.O_CREAT, 0o600)
        super().__init__(readers)

    def on_wake(self, callback: Callable[[], None]) -> None:
        """See ``Database.on_wake``."""
        if callback not in self._listeners:
            with contextlib.suppress(
                OSError
            ):  # a full disk has no place for it: who listens also looks from time to time
                self._listeners[callback] = Listener(self._path, callback)

    def _read(self, work: Callable[[Tx], T]) -> T:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            try:
                connection = self._local.connection = open_connection(self._path, readonly=True)
            except _EDGE_ERRORS as error:
                raise BusyError(f"the database cannot be read: {error}") from error
        try:
            connection.execute("BEGIN")
            try:
                return work(SqliteTx(connection))
            finally:
                if connection.in_transaction:  # an error of the disk may have ended it
                    connection.execute("COMMIT")
        except _READ_ERRORS as error:
            raise BusyError(f"the database cannot be read: {error}") from error

    def _touch(self, tx: Tx) -> None:
        tx.rows(f"PRAGMA user_version = {tx.value('PRAGMA user_version')}")

    def _end_writer(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _end(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        os.close(self._lock_file)

    def _run_group(self, group: list[Job]) -> None:
        wakes = False
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)
            # Opened here, so that whoever waits hears when it fails.
            connection = self._connection = self._connection or open_connection(self._path)
            connection.execute("BEGIN IMMEDIATE")
            tx = SqliteTx(connection)
            for job in group:
                _run_job(connection, tx, job, alone=len(group) == 1)
            connection.execute("COMMIT")
            self.commits += 1
            self.jobs += len(group)
            wakes = tx.wakes
        except BaseException as error:
            # A disk that is full or failing undoes the whole group: every job hears it, nothing was promised.
            with contextlib.suppress(apsw.Error):
                if self._connection is not None and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            for job in group:
                job.error = job.error or _edge_error(error)
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)
        if wakes:
            with contextlib.suppress(OSError):
                wake_all(self._path)


def _run_job(connection: apsw.Connection, tx: SqliteTx, job: Job, *, alone: bool) -> None:
    if alone:
        job.result = job.work(tx)
        return
    woke = tx.wakes
    connection.execute("SAVEPOINT job")
    try:
        job.result = job.work(tx)
    except _EDGE_ERRORS:
        raise
    except BaseException as error:
        connection.execute("ROLLBACK TO job")
        tx.wakes = woke
        job.error = error
    connection.execute("RELEASE job")


_READ_ERRORS = (apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.BusyError, apsw.CorruptError)
_EDGE_ERRORS = (*_READ_ERRORS, apsw.ReadOnlyError)  # of a read, "read-only" is a bug: it tried to write


def _edge_error(error: BaseException) -> BaseException:
    if isinstance(error, _EDGE_ERRORS):
        return BusyError(f"the database cannot write: {error}", retry_after_s=30)
    return error
