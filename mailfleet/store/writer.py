"""The writer thread and the readers' threads that every engine has: jobs that wait share one commit."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from mailfleet.base.errors import BusyError
from mailfleet.store.database import StoreClosedError, Tx

T = TypeVar("T")
MAX_GROUP = 512  # jobs that share one commit


@dataclass(slots=True)
class Job:
    """One write that somebody waits for."""

    work: Callable[[Tx], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None


class ThreadedDatabase(ABC):
    """``store.database.Database`` without its engine: who runs a group, and who reads, is told below."""

    def __init__(self, readers: int) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._closed = False
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="store-read")
        self._writer = threading.Thread(target=self._write_loop, name="store-write", daemon=True)
        self._writer.start()
        self.commits = self._commits_seen = 0
        self.jobs = 0

    async def write(self, work: Callable[[Tx], T]) -> T:
        """See ``Database.write``."""
        if self._closed:
            raise StoreClosedError("the database is closed")
        loop = asyncio.get_running_loop()
        job = Job(work, loop, loop.create_future())
        self._jobs.put(job)
        result: T = await job.future
        return result

    async def read(self, work: Callable[[Tx], T]) -> T:
        """See ``Database.read``."""
        if self._closed:
            raise StoreClosedError("the database is closed")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    async def trouble(self) -> str:
        """See ``Database.trouble``."""
        if self.commits == self._commits_seen:
            try:
                await self.write(self._touch)
            except BusyError as error:
                return error.reason
        self._commits_seen = self.commits
        return ""

    def close(self) -> None:
        """See ``Database.close``."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
            self._writer.join(timeout=30)
            self._readers.shutdown(wait=True)
            self._end()

    @abstractmethod
    def _run_group(self, group: list[Job]) -> None:
        """Run and commit a group, in the writer thread; every job gets its result or its error."""

    @abstractmethod
    def _read(self, work: Callable[[Tx], T]) -> T:
        """Run ``work`` on a snapshot, in a reader thread."""

    @abstractmethod
    def _touch(self, tx: Tx) -> None:
        """Write something that changes nothing, and would fail where the next real write does."""

    @abstractmethod
    def _end_writer(self) -> None:
        """Close what the writer thread opened, in that thread."""

    @abstractmethod
    def _end(self) -> None:
        """Close the rest, when both kinds of threads are over."""

    def _write_loop(self) -> None:
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
            self._run_group(group)
            _answer(group)
        self._end_writer()


def _answer(group: list[Job]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in group:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, jobs in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(_settle_futures, jobs)


def _settle_futures(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
