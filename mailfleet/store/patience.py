"""A door for processes that have nothing else to do than wait: what they read they get, however long the server is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import structlog

from mailfleet.base.errors import BusyError
from mailfleet.store.database import Database, Tx

T = TypeVar("T")
log = structlog.get_logger()
FIRST_WAIT_S, MAX_WAIT_S = 0.1, 2.0


class PatientReads:
    """``Database`` whose ``read`` does not raise ``BusyError``: it tries again. Writes are left to who knows what is at stake."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def commits(self) -> int:
        """See ``Database``."""
        return self._database.commits

    @property
    def jobs(self) -> int:
        """See ``Database``."""
        return self._database.jobs

    async def write(self, work: Callable[[Tx], T]) -> T:
        """See ``Database.write``."""
        return await self._database.write(work)

    async def read(self, work: Callable[[Tx], T]) -> T:
        """See ``Database.read``; waits while the database cannot be read."""
        wait_s = FIRST_WAIT_S
        while True:
            try:
                return await self._database.read(work)
            except BusyError as error:
                if wait_s == FIRST_WAIT_S:
                    log.warning("reading waits", reason=error.reason)
                await asyncio.sleep(wait_s)
                wait_s = min(MAX_WAIT_S, wait_s * 2)

    async def trouble(self) -> str:
        """See ``Database.trouble``."""
        return await self._database.trouble()

    def on_wake(self, callback: Callable[[], None]) -> None:
        """See ``Database.on_wake``."""
        self._database.on_wake(callback)

    def close(self) -> None:
        """See ``Database.close``."""
        self._database.close()
