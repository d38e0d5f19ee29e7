"""Being woken by a commit, whoever made it; and what is left of listeners that were killed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from mailfleet.base.errors import InputError
from mailfleet.store.database import Database, Place, Tx
from mailfleet.store.database import open_database as open_door
from mailfleet.store.wake import Listener, wake_all
from tests.store.fixtures import OpenDatabase

LISTENER = """
import asyncio, pathlib, sys
from mailfleet.store.database import open_database

async def main():
    place = sys.argv[1]
    database = open_database(place if "://" in place else pathlib.Path(place))
    woken = asyncio.Event()
    database.on_wake(woken.set)
    await database.read(lambda tx: None)
    print("listening", flush=True)
    await woken.wait()
    print("woken", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Heard:
    """Counts the calls."""

    def __init__(self) -> None:
        self.calls = 0
        self._event = asyncio.Event()

    def __call__(self) -> None:
        self.calls += 1
        self._event.set()

    async def once_more(self) -> None:
        """Wait for a call since the last look."""
        await asyncio.wait_for(self._event.wait(), 20)
        self._event.clear()


async def listening(database: Database) -> Heard:
    """A listener that is known to hear: on a server it takes a moment until it does."""
    heard = Heard()
    database.on_wake(heard)
    async with asyncio.timeout(20):
        while not heard.calls:
            await database.write(lambda tx: tx.wake())
            await asyncio.sleep(0.01)
    await heard.once_more()
    return heard


async def test_a_commit_wakes_everybody(open_database: OpenDatabase) -> None:
    one, other = open_database(), open_database()
    first, second = await listening(one), await listening(other)
    for database in (one, other):
        await database.write(lambda tx: tx.wake())
        await first.once_more()
        await second.once_more()


async def test_asking_twice_is_listening_once(database_path: Path) -> None:
    heard = Heard()
    door = open_door(database_path)
    for _ in range(3):  # a loop that is begun anew after trouble
        door.on_wake(heard)
    assert len([name for name in os.listdir(database_path.parent) if ".wake-" in name]) == 1
    door.close()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_nobody_is_woken_for_nothing(database: Database) -> None:
    heard = await listening(database)
    before = heard.calls

    def fails(tx: Tx) -> None:
        tx.wake()
        raise InputError("no")

    await database.write(lambda tx: tx.run("UPDATE site SET shares = 1"))
    results = await asyncio.gather(
        *(database.write(work) for work in (lambda tx: None, fails, lambda tx: None)), return_exceptions=True
    )
    assert isinstance(results[1], InputError)
    assert heard.calls == before
    await database.write(lambda tx: tx.wake())
    await heard.once_more()
    assert heard.calls == before + 1


async def test_a_listener_in_another_process_and_one_that_was_killed(database: Database, place: Place) -> None:
    listener = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LISTENER, str(place), stdout=asyncio.subprocess.PIPE
    )
    assert listener.stdout
    try:
        assert await listener.stdout.readline() == b"listening\n"
        woken = asyncio.create_task(listener.stdout.readline())
        async with asyncio.timeout(20):
            while not woken.done():
                await database.write(lambda tx: tx.wake())
                await asyncio.sleep(0.01)
        assert woken.result() == b"woken\n"
    finally:
        listener.kill()
        await listener.wait()
    await database.write(lambda tx: tx.wake())
    await database.write(lambda tx: tx.wake())


async def test_fifos_of_killed_listeners_are_removed(database_path: Path) -> None:
    database = open_door(database_path)
    stale = database_path.with_name(f"{database_path.name}.wake-1-0")
    os.mkfifo(stale)
    await database.write(lambda tx: tx.wake())
    await database.write(lambda tx: None)  # the one before has done its waking
    assert not stale.exists()
    database.on_wake(lambda: None)
    assert len(list(database_path.parent.glob("*.wake-*"))) == 1
    database.close()
    assert list(database_path.parent.glob("*.wake-*")) == []


async def test_a_listener_that_does_not_look_holds_up_nobody(database_path: Path) -> None:
    """More bytes than its FIFO takes."""
    called = asyncio.Event()
    listener = Listener(database_path, called.set)
    for _ in range(70_000):
        wake_all(database_path)
    await asyncio.wait_for(called.wait(), 20)
    listener.close()
