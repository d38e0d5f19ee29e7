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

__all__ = ["Database", "Params", "Row", "StoreClosedError", "Tx", "open_database"]

T = TypeVar("T")


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


class Database(Protocol):
    """One process's door to the database."""

    commits: int  # so far, of this process
    jobs: int

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

        Several commits may make one call, and a call may be lost: whoever listens also looks from time to time.
        """
        ...

    def close(self) -> None:
        """Finish what is queued, then close. Safe to call twice."""
        ...


def open_database(place: Path, *, readers: int = 2) -> Database:
    """The embedded database in this file."""
    from mailfleet.store.sqlite import SqliteDatabase

    return SqliteDatabase(place, readers=readers)
