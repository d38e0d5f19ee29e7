"""PostgreSQL: one writer connection a process that groups commits, a few readers, LISTEN and NOTIFY to wake.

Processes write at the same time here, so what SQLite gives by taking turns is made where it is needed: rows that a decision
stands on are locked (``FOR SHARE``, ``FOR UPDATE``), claims skip what others hold, each process adds to its own part of a
count, and what is logged takes a lock just before the commit, so that its numbers follow the order of commits.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg
import structlog

from mailfleet.base.errors import BusyError, CommitUnknownError
from mailfleet.store.database import Tx
from mailfleet.store.postgres_session import (
    WRITER_SETTINGS,
    AgainError,
    LostError,
    ServerBusyError,
    Session,
    connect,
    words,
)
from mailfleet.store.statements import (
    Engine,
    Params,
    Row,
    Sql,
    columns_for_postgres,
    for_postgres,
    params_for_postgres,
    rows_for_postgres,
)
from mailfleet.store.writer import Job, ThreadedDatabase

T = TypeVar("T")
log = structlog.get_logger()
TRIES = 6  # of a group that stands in another's way
CHANNEL = "mailfleet_wake"
ASK_WITHIN_S = 15.0  # whether a commit came through whose connection was lost
_LOCKS = 0x6D61696C  # advisory locks of ours: (this, which)
_LOG_LOCK = 1
_NOW_MS = "(extract(epoch FROM now()) * 1000)::bigint"
_MARKS_KEPT_MS = 30 * 86_400_000  # of writers that have committed nothing since
NODE_LOCKS = _LOCKS + 2  # (this, number of the node): held by each of its processes
_PART_LOCKS = _LOCKS + 1  # (this, part): held as long as the connection lives
_Log = tuple[str, tuple[str, ...]]  # table, columns


class PostgresTx:
    """``Tx`` over a session whose transaction somebody else opens and ends."""

    engine: Engine = "postgres"

    def __init__(self, session: Session, part: int = 0) -> None:
        self._session, self.part = session, part
        self.wakes = False
        self._logged: dict[_Log, list[Sequence[Any]]] = {}
        self._log_locked = False

    def run(self, sql: Sql, params: Params = ()) -> int:
        """See ``Tx.run``."""
        statement = for_postgres(sql)
        self._flush_for(statement.text)
        values = params_for_postgres(statement, params)
        status = str(self._session.wait(self._session.connection.execute(statement.text, *values)))
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    def many(self, sql: Sql, rows: Iterable[Params]) -> None:
        """See ``Tx.many``."""
        statement = for_postgres(sql)
        self._flush_for(statement.text)
        values = [params_for_postgres(statement, row) for row in rows]
        if values:
            self._session.wait(self._session.connection.executemany(statement.text, values))

    def batch(self, sql: Sql, rows: Sequence[Sequence[Any]]) -> list[Row]:
        """See ``Tx.batch``."""
        return self._fetch(for_postgres(sql).text, columns_for_postgres(rows)) if rows else []

    def fill(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See ``Tx.fill``."""
        if rows:
            copy = self._session.connection.copy_records_to_table
            self._session.wait(copy(table, columns=columns, records=rows_for_postgres(rows)))

    def log(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """See ``Tx.log``: kept until the commit, or until a statement of this transaction asks for the table."""
        self._logged.setdefault((table, tuple(columns)), []).extend(rows)

    def lock_log(self) -> None:
        """See ``Tx.lock_log``."""
        if not self._log_locked:
            self._session.execute(f"SELECT pg_advisory_xact_lock({_LOCKS}, {_LOG_LOCK})")
            self._log_locked = True

    def rows(self, sql: Sql, params: Params = ()) -> list[Row]:
        """See ``Tx.rows``."""
        statement = for_postgres(sql)
        return self._fetch(statement.text, params_for_postgres(statement, params))

    def row(self, sql: Sql, params: Params = ()) -> Row | None:
        """See ``Tx.row``."""
        found = self.rows(sql, params)
        return found[0] if found else None

    def value(self, sql: Sql, params: Params = ()) -> Any:
        """See ``Tx.value``."""
        found = self.rows(sql, params)
        return found[0][0] if found else None

    def wake(self) -> None:
        """See ``Tx.wake``."""
        self.wakes = True

    def flush(self) -> None:
        """Write down what was logged so far."""
        if self._logged:
            waiting, self._logged = self._logged, {}
            self.lock_log()
            for (table, columns), rows in waiting.items():
                self.fill(table, columns, rows)

    def mark(self) -> tuple[bool, bool, dict[_Log, list[Sequence[Any]]]]:
        """What a savepoint has to bring back besides rows."""
        return self.wakes, self._log_locked, {key: list(rows) for key, rows in self._logged.items()}

    def back_to(self, mark: tuple[bool, bool, dict[_Log, list[Sequence[Any]]]]) -> None:
        """What is not in the database is as it was at ``mark``; a lock that was taken since is gone with the savepoint."""
        self.wakes, self._log_locked, self._logged = mark

    def _fetch(self, text: str, values: Sequence[Any]) -> list[Row]:
        self._flush_for(text)
        return [tuple(row) for row in self._session.wait(self._session.connection.fetch(text, *values))]

    def _flush_for(self, text: str) -> None:
        if self._logged and any(_names(text, table) for table, _ in self._logged):
            self.flush()


@lru_cache(maxsize=2000)
def _names(text: str, table: str) -> bool:
    return re.search(rf"\b{table}\b", text) is not None


class PostgresDatabase(ThreadedDatabase):
    """One process's door to the server."""

    def __init__(self, url: str, *, readers: int = 2, node: str = "") -> None:
        self._url, self._node = url, node
        self._session = Session(url, WRITER_SETTINGS)
        self._part = self._generation = 0
        self._writer_id, self._mark = random.getrandbits(62), 0
        self._local = threading.local()
        self._reading: list[Session] = []
        self._listening: dict[Callable[[], None], tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = {}
        super().__init__(readers)

    def on_wake(self, callback: Callable[[], None]) -> None:
        """See ``Database.on_wake``."""
        if callback not in self._listening:
            loop = asyncio.get_running_loop()
            self._listening[callback] = (loop, loop.create_task(self._listen(callback)))

    async def _listen(self, callback: Callable[[], None]) -> None:
        wait_s = 0.1
        while True:
            ended = asyncio.Event()
            try:
                connection = await connect(self._url)
            except Exception as error:
                log.warning("cannot listen for being woken", reason=words(error))
                await asyncio.sleep(wait_s)
                wait_s = min(5.0, wait_s * 2)
                continue
            try:
                connection.add_termination_listener(lambda _, ended=ended: ended.set())
                await connection.add_listener(CHANNEL, lambda *_: callback())
                wait_s = 0.1
                callback()  # what was said before it listened was not heard
                await ended.wait()
            except Exception as error:
                log.warning("cannot listen for being woken", reason=words(error))
            finally:
                connection.terminate()

    def _read(self, work: Callable[[Tx], T]) -> T:
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = Session(self._url)
            self._reading.append(session)
        _begin(session, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            return work(PostgresTx(session))
        except AgainError as error:
            raise BusyError(f"the database server cannot take it: {error}", retry_after_s=5) from None
        finally:
            with contextlib.suppress(BusyError):
                if session.opened:
                    session.execute("ROLLBACK")

    def _touch(self, tx: Tx) -> None:
        tx.rows("SELECT pg_current_xact_id()")  # a transaction with a number has a commit that is written down

    def _end_writer(self) -> None:
        self._session.close()

    def _end(self) -> None:
        # In a thread of its own, for the caller's may have a loop that runs.
        with ThreadPoolExecutor(1) as elsewhere:
            for session in self._reading:
                elsewhere.submit(session.close)
        for loop, task in self._listening.values():
            with contextlib.suppress(RuntimeError):  # the loop is closed: the task is over
                loop.call_soon_threadsafe(task.cancel)

    def _run_group(self, group: list[Job]) -> None:
        careful = False  # a savepoint for each, once one of the group has failed
        tries = 0
        while True:
            try:
                careful = self._try(group, careful)
                if not careful:
                    return
                continue
            except AgainError as error:
                tries += 1
                if tries < TRIES:
                    time.sleep(random.uniform(0.001, 0.01) * 2**tries)  # noqa: S311
                    continue
                _tell(group, BusyError(f"the database server cannot take it: {error}", retry_after_s=2))
            except BaseException as error:
                _tell(group, error)
            return

    def _try(self, group: list[Job], careful: bool) -> bool:
        """Run and commit. True when it has to be run again carefully, because one of several failed."""
        session = self._session
        for job in group:
            job.result = job.error = None
        _begin(session, "BEGIN")
        try:
            if self._generation != session.generation:
                self._introduce(session)
            tx = PostgresTx(session, self._part)
            for job in group:
                if careful:
                    _run_in_savepoint(session, tx, job)
                else:
                    job.result = job.work(tx)
            tx.flush()
            self._write_mark(session)
        except asyncpg.ReadOnlySQLTransactionError:
            session.drop()  # the primary may be another one by now
            raise LostError("the database server is a standby, which takes no writes", retry_after_s=5) from None
        except (AgainError, ServerBusyError):
            _roll_back(session)
            raise
        except Exception as error:
            _roll_back(session)
            if careful or len(group) == 1:
                raise
            log.debug("a group is run again, each by itself", reason=words(error))
            return True
        self._commit(tx)
        self.commits += 1
        self.jobs += len(group)
        return False

    def _introduce(self, session: Session) -> None:
        """On a new connection: what goes with it, and a row for this writer's marks that is there before the first of them."""
        self._part = self._take_part()
        if self._node:
            session.execute(f"SELECT pg_advisory_lock_shared({NODE_LOCKS}, {node_number(self._node)})")
        session.execute(
            f"DELETE FROM commit_mark WHERE since_ms < {_NOW_MS} - {_MARKS_KEPT_MS} AND writer <> {self._writer_id};"
            f"INSERT INTO commit_mark (writer, mark, since_ms) VALUES ({self._writer_id}, {self._mark}, {_NOW_MS})"
            " ON CONFLICT (writer) DO NOTHING; COMMIT; BEGIN"
        )
        self._generation = session.generation

    def _write_mark(self, session: Session) -> None:
        self._mark += 1
        values = f"mark = {self._mark}, since_ms = {_NOW_MS}"
        session.execute(f"UPDATE commit_mark SET {values} WHERE writer = {self._writer_id}")

    def _commit(self, tx: PostgresTx) -> None:
        try:
            done = self._session.execute(f"NOTIFY {CHANNEL}; COMMIT" if tx.wakes else "COMMIT")
        except LostError as error:
            self._ask_whether_committed(error)
            return
        # A transaction in which a statement has failed is rolled back by COMMIT, and that is no error to the server.
        assert done == "COMMIT", "a job has hidden the error of a statement"

    def _ask_whether_committed(self, lost: LostError) -> None:
        """The connection was lost while it committed: the mark says what became of it, as soon as the server answers again.

        ``FOR UPDATE`` waits for the old transaction where the server has not noticed yet that nobody is at its other end.
        The number that the server gave the transaction would not do: after a crash it is given once more, to another one.

        Returns if it is committed; raises ``AgainError`` if not, and ``CommitUnknownError`` when that cannot be learnt.
        """
        until_s = time.monotonic() + ASK_WITHIN_S
        while time.monotonic() < until_s:
            try:
                self._session.open()
                asked = f"SELECT mark FROM commit_mark WHERE writer = {self._writer_id} FOR UPDATE"
                found = PostgresTx(self._session).value(asked)
            except (AgainError, BusyError):
                time.sleep(0.1)
                continue
            if (
                found is None
            ):  # of a writer that was silent for very long, or another server took over, from before it was there
                break
            if found == self._mark:
                return
            raise AgainError(lost.reason)
        raise CommitUnknownError(f"the database server may have committed or not: {lost.reason}", retry_after_s=5)

    def _take_part(self) -> int:
        """A part of every count that no other process has; the lock goes with the connection."""
        found = PostgresTx(self._session).value(
            f"SELECT n FROM generate_series(0, 9999) AS n WHERE pg_try_advisory_lock({_PART_LOCKS}, n) LIMIT 1"
        )
        assert found is not None, "ten thousand processes"
        return int(found)


def node_number(node: str) -> int:
    """A node's name as an advisory lock can hold it."""
    return int.from_bytes(hashlib.blake2b(node.encode(), digest_size=4).digest(), "big") >> 1


def _begin(session: Session, statement: str) -> None:
    """Begin; a connection that turns out to be gone only now is opened once more, for nothing has been done on it."""
    was_open = session.opened
    session.open()
    try:
        session.execute(statement)
    except LostError:
        if not was_open:
            raise
        session.open()
        session.execute(statement)


def _run_in_savepoint(session: Session, tx: PostgresTx, job: Job) -> None:
    mark = tx.mark()
    session.execute("SAVEPOINT job")
    try:
        job.result = job.work(tx)
    except (AgainError, ServerBusyError):
        raise
    except Exception as error:
        session.execute("ROLLBACK TO job")
        tx.back_to(mark)
        job.error = error
    session.execute("RELEASE job")


def _roll_back(session: Session) -> None:
    with contextlib.suppress(BusyError):
        if session.opened:
            session.execute("ROLLBACK")


def _tell(group: list[Job], error: BaseException) -> None:
    for job in group:
        job.result = None
        job.error = error
