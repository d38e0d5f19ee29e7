"""The embedded database: one writer thread that groups commits, a few reader threads, one lock between processes.

Store code is plain synchronous functions over a ``Tx``; ``Database.write`` runs them in the writer thread, many per
commit, each in its own savepoint, and answers only after the commit is on disk. Nothing here knows what is stored.

Processes take turns by ``flock`` on a file beside the database rather than by SQLite's busy polling: the kernel wakes
the next one at once and frees the lock of a killed one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import apsw

from mailfleet.base.errors import BusyError, MailfleetError

T = TypeVar("T")
Params = Sequence[Any] | Mapping[str, Any]
Row = tuple[Any, ...]

MAX_GROUP = 512  # jobs that share one commit


class StoreClosedError(MailfleetError):
    """The database was closed while work was waiting for it."""


class Tx(Protocol):
    """What store code may do inside a transaction. ``?`` with a sequence, ``:name`` with a mapping."""

    def run(self, sql: str, params: Params = ()) -> int:
        """Execute; returns the number of rows changed."""
        ...

    def many(self, sql: str, rows: Iterable[Params]) -> None:
        """Execute once per row."""
        ...

    def rows(self, sql: str, params: Params = ()) -> list[Row]:
        """All rows."""
        ...

    def row(self, sql: str, params: Params = ()) -> Row | None:
        """The first row, or ``None``."""
        ...

    def value(self, sql: str, params: Params = ()) -> Any:
        """The first column of the first row, or ``None``."""
        ...


class _SqliteTx:
    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def run(self, sql: str, params: Params = ()) -> int:
        for _ in self._connection.execute(sql, params):
            pass
        return self._connection.changes()

    def many(self, sql: str, rows: Iterable[Params]) -> None:
        self._connection.executemany(sql, rows)

    def rows(self, sql: str, params: Params = ()) -> list[Row]:
        return self._connection.execute(sql, params).fetchall()

    def row(self, sql: str, params: Params = ()) -> Row | None:
        found = self._connection.execute(sql, params)
        return next(iter(found), None)

    def value(self, sql: str, params: Params = ()) -> Any:
        found = self.row(sql, params)
        return found[0] if found else None


@dataclass(slots=True)
class _Job:
    work: Callable[[Tx], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


def open_connection(path: Path, *, readonly: bool = False) -> apsw.Connection:
    """A connection with Mailfleet's pragmas: WAL, ``synchronous=FULL`` (a commit is on disk when it returns)."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(30_000)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY", "cache_size=-32768"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("PRAGMA journal_size_limit=67108864").fetchall()
    if readonly:
        connection.execute("PRAGMA query_only=ON")
    return connection


class Database:
    """One process's door to the database file."""

    def __init__(self, path: Path, *, readers: int = 2) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="store-read")
        self._lock_file = os.open(path.with_name(path.name + ".writer"), os.O_RDWR | os.O_CREAT, 0o600)
        self._writer = threading.Thread(target=self._write_loop, name="store-write", daemon=True)
        self._writer.start()
        self.commits = self._commits_seen = 0
        self.jobs = 0

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a write transaction and return its result once it is durable.

        ``work`` may run more than once only if the whole group failed to commit before (it then raises, and nothing of
        it was kept). Raises whatever ``work`` raises, its own changes undone; ``BusyError`` when the disk is full or fails.
        """
        if self._closed:
            raise StoreClosedError("the database is closed")
        loop = asyncio.get_running_loop()
        job = _Job(work, loop, loop.create_future())
        self._jobs.put(job)
        result: T = await job.future
        return result

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` on one consistent snapshot, beside the writer. Raises what ``work`` raises, or ``BusyError``."""
        if self._closed:
            raise StoreClosedError("the database is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    async def trouble(self) -> str:
        """Empty, or why nothing can be committed at the moment. What was committed since the last call answers it; else it is
        tried: a commit that changes nothing is a write all the same."""
        if self.commits == self._commits_seen:
            try:
                await self.write(_touch)
            except BusyError as error:
                return error.reason
        self._commits_seen = self.commits
        return ""

    def close(self) -> None:
        """Finish what is queued, then close. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._writer.join(timeout=30)
            self._readers.shutdown(wait=True)
            os.close(self._lock_file)

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
                return work(_SqliteTx(connection))
            finally:
                if connection.in_transaction:  # an error of the disk may have ended it
                    connection.execute("COMMIT")
        except _READ_ERRORS as error:
            raise BusyError(f"the database cannot be read: {error}") from error

    def _write_loop(self) -> None:
        connection: apsw.Connection | None = None
        closing = False
        while not closing:
            first = self._jobs.get()
            if first is None:
                break
            group = [first]
            while len(group) < MAX_GROUP:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    closing = True
                    break
                group.append(job)
            connection = self._run_group(connection, group)
            _answer(group)
        if connection is not None:
            connection.close()

    def _run_group(self, connection: apsw.Connection | None, group: list[_Job]) -> apsw.Connection | None:
        """Run and commit a group; returns the connection, opened here so that whoever waits hears when it fails."""
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)
            connection = connection or open_connection(self._path)
            connection.execute("BEGIN IMMEDIATE")
            tx = _SqliteTx(connection)
            for job in group:
                _run_job(connection, tx, job, alone=len(group) == 1)
            connection.execute("COMMIT")
            self.commits += 1
            self.jobs += len(group)
        except BaseException as error:
            # A disk that is full or failing undoes the whole group: every job hears it, nothing was promised.
            with contextlib.suppress(apsw.Error):
                if connection is not None and connection.in_transaction:
                    connection.execute("ROLLBACK")
            for job in group:
                job.error = job.error or _edge_error(error)
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)
        return connection


def _run_job(connection: apsw.Connection, tx: Tx, job: _Job, *, alone: bool) -> None:
    if alone:
        job.result = job.work(tx)
        return
    connection.execute("SAVEPOINT job")
    try:
        job.result = job.work(tx)
    except _EDGE_ERRORS:
        raise
    except BaseException as error:
        connection.execute("ROLLBACK TO job")
        job.error = error
    connection.execute("RELEASE job")


def _touch(tx: Tx) -> None:
    tx.rows(f"PRAGMA user_version = {tx.value('PRAGMA user_version')}")


_READ_ERRORS = (apsw.FullError, apsw.IOError, apsw.CantOpenError, apsw.BusyError, apsw.CorruptError)
_EDGE_ERRORS = (*_READ_ERRORS, apsw.ReadOnlyError)  # of a read, "read-only" is a bug: it tried to write


def _edge_error(error: BaseException) -> BaseException:
    if isinstance(error, _EDGE_ERRORS):
        return BusyError(f"the database cannot write: {error}", retry_after_s=30)
    return error


def _answer(group: list[_Job]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in group:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle_futures, jobs)


def _settle_futures(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
