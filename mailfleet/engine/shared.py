"""Questions whose answer takes a walk over many rows: one is asked at a time, and those who ask the same share the answer.

So however many look, one reader of the database stays free for quick questions, and walks take at most a fifth of the time.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError
from mailfleet.store.database import Database, Tx

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

log = structlog.get_logger()

MAX_WAITING = 16
REST = 4.0  # an answer is good for so many times what it cost
OLD = 10.0  # an answer older than so many times what it cost is shown to nobody
QUICK_S = 0.1  # for an answer as quick as this one may always wait
MAX_ANSWERS = 64


class LongReads:
    """Walks over many rows, one at a time for the whole process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = asyncio.Lock()
        self.waiting = 0  # the one that is being answered included
        self.answered = self.refused = 0

    async def read(self, work: Callable[[Tx], T]) -> T:
        """As ``Database.read``, in turn. Raises ``BusyError`` when ``MAX_WAITING`` others wait."""
        if self.waiting >= MAX_WAITING:
            self.refused += 1
            raise BusyError("too many long questions are being answered", retry_after_s=5)
        self.waiting += 1
        try:
            async with self._turn:
                answer = await self._database.read(work)
            self.answered += 1
            return answer
        finally:
            self.waiting -= 1


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """What was found, and when asking began and ended by the monotonic clock."""

    value: T
    began_s: float
    ended_s: float

    @property
    def cost_s(self) -> float:
        """How long it took."""
        return self.ended_s - self.began_s


class Shared(Generic[K, T]):
    """Answers by what was asked. ``ask`` finds one."""

    def __init__(self, clock: Clock, ask: Callable[[K], Coroutine[Any, Any, T]]) -> None:
        self._clock, self._ask = clock, ask
        self._known: OrderedDict[K, Answer[T]] = OrderedDict()
        self._asking: dict[K, asyncio.Task[Answer[T]]] = {}

    def last(self, key: K) -> Answer[T] | None:
        """The last answer, however old."""
        return self._known.get(key)

    async def get(self, key: K) -> Answer[T]:
        """An answer as fresh as it is cheap. Raises what ``ask`` raises."""
        known, now_s = self._known.get(key), self._clock.monotonic_s()
        if known is not None and now_s - known.ended_s < REST * known.cost_s:
            return known
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._find(key), name="a long question")
            asking.add_done_callback(_heard)
        if known is not None and known.cost_s > QUICK_S and now_s - known.began_s < OLD * known.cost_s:
            return known  # the new one is for those who come next
        return await asyncio.shield(asking)  # who leaves takes it from nobody

    async def _find(self, key: K) -> Answer[T]:
        began_s = self._clock.monotonic_s()
        try:
            value = await self._ask(key)
            answer = Answer(value, began_s, self._clock.monotonic_s())
            self._known[key] = answer
            self._known.move_to_end(key)
            while len(self._known) > MAX_ANSWERS:
                self._known.popitem(last=False)
            return answer
        finally:
            del self._asking[key]


def _heard(task: asyncio.Task[Any]) -> None:
    """A question may fail when nobody waits for its answer any more."""
    if not task.cancelled() and isinstance(task.exception(), BusyError):
        log.info("a long question was not answered", reason=str(task.exception()))
