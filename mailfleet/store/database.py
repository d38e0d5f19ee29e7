"""What every engine promises: transactions that plain functions work in, grouped commits, snapshots, and being woken.

Store code is plain synchronous functions over a ``Tx``; ``Database.write`` runs them in the writer thread, many per
commit, and answers only after the commit is on disk. Nothing here knows what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mailfleet.base.errors import MailfleetError
from mailfleet.store.statements import Engine, Params, Row, Sql

__all__ = ["Database", "Params", "Place", "Row", "StoreClosedError", "Tx", "hold_table", "open_database"]

T = TypeVar("T")
Place = Path | str  # a file of the embedded engine, or the URL of a server


class StoreClosedError(MailfleetError):
    """The database was closed while work was waiting for it."""


class Tx(Protocol):
    """What store code may do inside a transaction; statements and parameters as ``store.statements`` says."""

    engine: Engine
    part: int  # the part of a shared counter that is this process's own: nobody else writes it

    def run(self, sql: Sql, params: Params = ()) -> int:
        """Execute; returns the number of rows changed."""
        ...

    def many(self, sql: Sql, rows: Iterable[Params]) -> None:
        """Execute once per row."""
        ...

    def batch(self, sql: Sql, rows: Sequence[Sequence[Any]]) -> list[Row]:
        """One statement over many rows; what its RETURNING gives, in no order. The SQLite text is run for each row, the
        PostgreSQL text once, with an array for each column."""
        ...

    def fill(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert many rows, the fastest way there is."""
        ...

    def log(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert into a table whose counted ids follow the order of commits, of all processes; where the engine makes it
        so only with a lock, as late as it can."""
        ...

    def lock_log(self) -> None:
        """For a statement that inserts into such a table by itself: from here to the commit nobody else does."""
        ...

    def rows(self, sql: Sql, params: Params = ()) -> list[Row]:
        """All rows."""
        ...

    def row(self, sql: Sql, params: Params = ()) -> Row | None:
        """The first row, or ``None``."""
        ...

    def value(self, sql: Sql, params: Params = ()) -> Any:
        """The first column of the first row, or ``None``."""
        ...

    def wake(self) -> None:
        """After this commit, wake every process that listens (``Database.on_wake``). A hint: it may be lost."""
        ...


def hold_table(tx: Tx, table: str) -> None:
    """From here to the commit nobody else changes a table, or holds it: for whoever decides by its rows, those that are not there
    among them. SQLite has one writer at a time."""
    if tx.engine == "postgres":
        tx.run(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")


class Database(Protocol):
    """One process's door to the database."""

    @property
    def commits(self) -> int:
        """So far, of this process."""
        ...

    @property
    def jobs(self) -> int:
        """Writes that these commits were made of."""
        ...

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` in a write transaction and return its result once it is durable.

        ``work`` may be run more than once, each time from the same state, so it leaves nothing behind but its result and
        what it did to ``Tx``. Raises whatever ``work`` raises, its own changes undone; ``BusyError`` when the database
        cannot take it now.
        """
        ...

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` on one consistent snapshot, beside the writer. Raises what ``work`` raises, or ``BusyError``."""
        ...

    async def trouble(self) -> str:
        """Empty, or why nothing can be committed at the moment. What was committed since the last call answers it; else it is
        tried."""
        ...

    def on_wake(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` on this event loop soon after a commit, of any process, in which ``Tx.wake`` was called.

        Asking again for the same callback changes nothing: a loop that is begun anew does not listen twice.
        Several commits may make one call, a call may be lost, and one may come for nothing: whoever listens looks for itself,
        and from time to time without being called.
        """
        ...

    def close(self) -> None:
        """Finish what is queued, then close. Safe to call twice."""
        ...


def open_database(place: Place, *, readers: int = 2, node: str = "") -> Database:
    """The embedded database in this file, or the one on a PostgreSQL server at this URL.

    ``node`` names the server that this process belongs to, so that a second one on the same database is noticed.
    """
    if isinstance(place, Path):
        from mailfleet.store.sqlite import SqliteDatabase

        return SqliteDatabase(place, readers=readers)
    from mailfleet.store.postgres import PostgresDatabase

    return PostgresDatabase(place, readers=readers, node=node)
