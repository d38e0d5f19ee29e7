"""Long questions are asked one at a time and their answers shared, so that many who look cost no more than one."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mailfleet.base.errors import BusyError
from mailfleet.engine.shared import MAX_WAITING, OLD, REST, LongReads, Shared
from mailfleet.store.database import Database, Tx
from tests.engine.plant import OWNER, Plant


class Costly:
    """A question that takes ``cost_s`` by a clock that nothing else moves."""

    def __init__(self, cost_s: float) -> None:
        self.now_s, self.cost_s, self.asked = 100.0, cost_s, 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    def monotonic_s(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError("nobody sleeps here")

    async def ask(self, _: str) -> int:
        self.asked += 1
        number = self.asked
        await self.go_on.wait()
        self.now_s += self.cost_s
        return number


async def test_who_asks_at_once_gets_one_answer() -> None:
    question = Costly(1)
    shared = Shared(question, question.ask)
    answers = await asyncio.gather(*(shared.get("x") for _ in range(50)))
    assert [answer.value for answer in answers] == [1] * 50
    assert (await shared.get("y")).value == 2


async def test_an_answer_is_good_for_as_long_as_it_was_dear() -> None:
    question = Costly(1)
    shared = Shared(question, question.ask)
    await shared.get("x")
    question.now_s += REST - 0.1
    assert (await shared.get("x")).value == 1
    question.now_s += 0.2
    question.go_on.clear()
    assert (await shared.get("x")).value == 1, "a viewer does not wait while the answer is not too old"
    question.go_on.set()
    await asyncio.sleep(0)
    assert question.asked == 2
    question.now_s += OLD + 1
    assert (await shared.get("x")).value > 1, "an old one is not shown"


async def test_what_costs_nothing_is_always_new() -> None:
    question = Costly(0)
    shared = Shared(question, question.ask)
    assert [(await shared.get("x")).value for _ in range(3)] == [1, 2, 3]


async def test_a_viewer_that_leaves_takes_the_answer_from_nobody() -> None:
    question = Costly(1)
    question.go_on.clear()
    shared = Shared(question, question.ask)
    first, second = asyncio.create_task(shared.get("x")), asyncio.create_task(shared.get("x"))
    await asyncio.sleep(0)
    first.cancel()
    question.go_on.set()
    assert (await second).value == 1


async def test_long_reads_take_turns_and_leave_a_reader_free(database: Database) -> None:
    reads, go_on, began, inside = LongReads(database), threading.Event(), threading.Event(), []

    def long(tx: Tx) -> int:
        inside.append(1)
        began.set()
        assert go_on.wait(60)
        return int(tx.value("SELECT 1"))

    try:
        waiting = [asyncio.create_task(reads.read(long)) for _ in range(MAX_WAITING)]
        assert await asyncio.to_thread(began.wait, 60)
        assert await database.read(lambda tx: tx.value("SELECT 2")) == 2
        with pytest.raises(BusyError, match="too many long questions") as refused:
            await reads.read(long)
        assert refused.value.retry_after_s == 5
        assert (len(inside), reads.waiting, reads.refused) == (1, MAX_WAITING, 1)
    finally:
        go_on.set()
    assert await asyncio.gather(*waiting) == [1] * MAX_WAITING
    assert (reads.waiting, reads.answered) == (0, MAX_WAITING)


async def test_many_viewers_of_the_backlog_cost_one_walk(plant: Plant) -> None:
    await plant.upload(*(f"u{number}@x.example" for number in range(6)))
    views = await asyncio.gather(*(plant.observer.queue(OWNER) for _ in range(40)))
    assert {view.queued for view in views} == {6}
    assert plant.backlog.walks == 1


async def test_many_readers_of_a_report_cost_one_walk(plant: Plant) -> None:
    campaign = (await plant.upload(*(f"u{number}@x.example" for number in range(6)))).campaign
    assert campaign is not None
    reports = await asyncio.gather(*(plant.campaigns.report(OWNER, campaign.campaign) for _ in range(10)))
    assert {sum(row.count for row in report.rows) for report in reports} == {6}
    assert plant.reads.answered == 1
