"""Being woken by a commit, whoever made it; and what is left of listeners that were killed."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mailfleet.base.errors import InputError
from mailfleet.store.database import Tx
from mailfleet.store.wake import Listener, wake_all
from tests.store.fixtures import OpenDatabase

LISTENER = """
import asyncio, pathlib, sys
from mailfleet.store.database import open_database

async def main():
    database = open_database(pathlib.Path(sys.argv[1]))
    woken = asyncio.Event()
    database.on_wake(woken.set)
    await database.read(lambda tx: None)
    print("listening", flush=True)
    await woken.wait()
    print("woken", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_commit_wakes_everybody_and_only_if_it_says_so(open_database: OpenDatabase) -> None:
    one, other = open_database(), open_database()
    heard = {"one": asyncio.Event(), "other": asyncio.Event()}
    one.on_wake(heard["one"].set)
    other.on_wake(heard["other"].set)
    await one.write(lambda tx: tx.run("UPDATE site SET shares = 1"))
    assert not heard["one"].is_set()
    for database in (one, other):
        await database.write(lambda tx: tx.wake())
        for event in heard.values():
            await asyncio.wait_for(event.wait(), 20)
            event.clear()


async def test_work_that_failed_wakes_nobody(open_database: OpenDatabase) -> None:
    one = open_database()
    calls: list[int] = []
    called = asyncio.Event()

    def woken() -> None:
        calls.append(1)
        called.set()

    one.on_wake(woken)

    def fails(tx: Tx) -> None:
        tx.wake()
        raise InputError("no")

    results = await asyncio.gather(
        *(one.write(work) for work in (lambda tx: None, fails, lambda tx: None)), return_exceptions=True
    )
    assert isinstance(results[1], InputError)
    assert not calls
    await one.write(lambda tx: tx.wake())
    await asyncio.wait_for(called.wait(), 20)
    assert calls == [1]


async def test_a_listener_in_another_process_and_one_that_was_killed(
    open_database: OpenDatabase, database_path: Path
) -> None:
    database = open_database()
    listener = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LISTENER, str(database_path), stdout=asyncio.subprocess.PIPE
    )
    assert listener.stdout
    try:
        assert await listener.stdout.readline() == b"listening\n"
        await database.write(lambda tx: tx.wake())
        assert await asyncio.wait_for(listener.stdout.readline(), 20) == b"woken\n"
    finally:
        listener.kill()
        await listener.wait()
    await database.write(lambda tx: tx.wake())
    await database.write(lambda tx: tx.wake())


async def test_fifos_of_killed_listeners_are_removed(open_database: OpenDatabase, database_path: Path) -> None:
    database = open_database()
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
