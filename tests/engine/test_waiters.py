"""Those who wait are called in their order, as many as are wanted, and a call that comes too late is passed on."""

from __future__ import annotations

import asyncio

from mailfleet.engine.waiters import Waiters


async def started(waiters: Waiters, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(waiters.wait()) for _ in range(count)]
    await asyncio.sleep(0)
    assert len(waiters) == count
    return tasks


async def ended(tasks: list[asyncio.Task[None]]) -> list[bool]:
    for _ in range(3):
        await asyncio.sleep(0)
    return [task.done() for task in tasks]


async def test_as_many_as_are_wanted_in_their_order() -> None:
    waiters = Waiters()
    tasks = await started(waiters, 4)
    waiters.call(0)
    assert await ended(tasks) == [False] * 4
    waiters.call(1)
    assert await ended(tasks) == [True, False, False, False]
    waiters.call(2)
    waiters.call(9)
    assert await ended(tasks) == [True] * 4
    waiters.call(9)  # for nobody: it is not kept
    (late,) = await started(waiters, 1)
    assert await ended([late]) == [False]
    waiters.call_all()
    await late


async def test_who_gives_up_is_not_called() -> None:
    waiters = Waiters()
    first, second = await started(waiters, 2)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert len(waiters) == 1
    waiters.call(1)
    await second


async def test_a_call_that_comes_too_late_is_passed_on() -> None:
    waiters = Waiters()
    first, second = await started(waiters, 2)
    waiters.call(1)
    first.cancel()  # before it could notice
    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], asyncio.CancelledError)
    assert await ended([second]) == [True]


async def test_who_is_about_to_go_is_passed_over() -> None:
    waiters = Waiters()
    first, second, third = await started(waiters, 3)
    first.cancel()
    third.cancel()
    waiters.call(1)
    assert await ended([first, second, third]) == [True, True, True]
    assert (first.cancelled(), second.cancelled(), third.cancelled()) == (True, False, True)
    assert len(waiters) == 0
