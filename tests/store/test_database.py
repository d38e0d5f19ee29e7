"""The door to the database: grouped commits, neighbours that do not harm each other, snapshots, a full disk."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import apsw
import asyncpg
import pytest

from mailfleet.base.errors import BusyError, InputError
from mailfleet.store.database import Database, Place, StoreClosedError, Tx, open_database
from mailfleet.store.statements import Pair
from mailfleet.store.writer import MAX_GROUP
from tests.store.fixtures import OpenDatabase, with_session


@pytest.fixture(autouse=True)
def table(place: Place, request: pytest.FixtureRequest) -> None:
    if isinstance(place, Path):
        connection = apsw.Connection(str(place))
        connection.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
        connection.close()
    else:
        with_session(place, lambda tx: tx.run("CREATE TABLE note (id BIGSERIAL PRIMARY KEY, body TEXT NOT NULL)"))


def put(tx: Tx, note_id: int, body: str = "x") -> int:
    return tx.run("INSERT INTO note (id, body) VALUES (?, ?)", (note_id, body))


def all_ids(tx: Tx) -> set[int]:
    return {row[0] for row in tx.rows("SELECT id FROM note")}


async def hold(database: Database) -> threading.Event:
    """Keep the writer busy until the event is set, so that what is written meanwhile gathers."""
    started, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def wait(tx: Tx) -> None:
        loop.call_soon_threadsafe(started.set)
        assert go.wait(20)

    task = asyncio.create_task(database.write(wait))
    await started.wait()
    task.add_done_callback(lambda done: done.result())
    return go


async def test_what_a_transaction_can_do(database: Database) -> None:
    def work(tx: Tx) -> None:
        assert put(tx, 1, "one") == 1
        tx.many("INSERT INTO note (id, body) VALUES (:id, :body)", [{"id": n, "body": "many"} for n in (2, 3)])
        assert tx.run("UPDATE note SET body = :body WHERE id > :id", {"body": "new", "id": 1}) == 2
        assert tx.rows("SELECT id, body FROM note ORDER BY id") == [(1, "one"), (2, "new"), (3, "new")]
        assert tx.row("SELECT body FROM note WHERE id = ?", (1,)) == ("one",)
        assert tx.row("SELECT body FROM note WHERE id = ?", (9,)) is None
        assert tx.value("SELECT count(*) FROM note") == 3
        assert tx.value("SELECT body FROM note WHERE id = ?", (9,)) is None
        assert tx.value("INSERT INTO note (id, body) VALUES (4, 'x') RETURNING id") == 4
        assert tx.run("DELETE FROM note WHERE id = 99") == 0

    await database.write(work)
    assert await database.read(all_ids) == {1, 2, 3, 4}


async def test_many_writes_share_a_commit(database: Database) -> None:
    go = await hold(database)
    writes = [asyncio.create_task(database.write(lambda tx, n=n: put(tx, n))) for n in range(1000)]  # type: ignore[misc]
    await asyncio.sleep(0)
    before = database.commits
    go.set()
    assert await asyncio.gather(*writes) == [1] * 1000
    assert database.commits - before <= 1 + 1 + 1000 // MAX_GROUP + 1
    assert len(await database.read(all_ids)) == 1000


@pytest.mark.parametrize("error", [InputError("no"), ValueError("no"), KeyError("no"), AssertionError("no")])
async def test_a_job_that_fails_takes_only_its_own_back(database: Database, error: Exception) -> None:
    def spoil(tx: Tx) -> None:
        put(tx, 500)
        tx.run("DELETE FROM note WHERE id < 500")
        raise error

    go = await hold(database)
    jobs = [lambda tx: put(tx, 1), spoil, lambda tx: put(tx, 2), spoil, lambda tx: put(tx, 3)]
    writes = [asyncio.create_task(database.write(job)) for job in jobs]
    await asyncio.sleep(0)
    go.set()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [int, type(error), int, type(error), int]
    assert await database.read(all_ids) == {1, 2, 3}
    with pytest.raises(type(error)):
        await database.write(spoil)  # alone in its group
    assert await database.read(all_ids) == {1, 2, 3}


async def test_a_broken_constraint_is_the_jobs_own_error(database: Database) -> None:
    await database.write(lambda tx: put(tx, 1))
    go = await hold(database)
    writes = [asyncio.create_task(database.write(lambda tx, n=n: put(tx, n))) for n in (2, 1, 3)]  # type: ignore[misc]
    await asyncio.sleep(0)
    go.set()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert isinstance(results[1], apsw.ConstraintError | asyncpg.UniqueViolationError)
    assert await database.read(all_ids) == {1, 2, 3}


async def test_a_later_job_of_the_group_sees_an_earlier_one(database: Database) -> None:
    go = await hold(database)
    first = asyncio.create_task(database.write(lambda tx: put(tx, 1)))
    second = asyncio.create_task(database.write(all_ids))
    await asyncio.sleep(0)
    go.set()
    await first
    assert await second == {1}


async def test_readers_see_only_what_is_committed(database: Database) -> None:
    inserted, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(tx: Tx) -> None:
        put(tx, 1)
        loop.call_soon_threadsafe(inserted.set)
        assert go.wait(20)

    task = asyncio.create_task(database.write(slow))
    await inserted.wait()
    assert await database.read(all_ids) == set()
    go.set()
    await task
    assert await database.read(all_ids) == {1}


async def test_a_read_is_one_snapshot(database: Database) -> None:
    seen, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def twice(tx: Tx) -> tuple[set[int], set[int]]:
        before = all_ids(tx)
        loop.call_soon_threadsafe(seen.set)
        assert go.wait(20)
        return before, all_ids(tx)

    task = asyncio.create_task(database.read(twice))
    await seen.wait()
    await database.write(lambda tx: put(tx, 1))
    go.set()
    assert await task == (set(), set())
    assert await database.read(all_ids) == {1}


async def test_a_read_cannot_write_and_one_that_fails_harms_no_other(database: Database) -> None:
    for _ in range(5):
        with pytest.raises((apsw.ReadOnlyError, asyncpg.ReadOnlySQLTransactionError)):
            await database.read(lambda tx: put(tx, 1))
        with pytest.raises(ZeroDivisionError):
            await database.read(lambda tx: 1 // tx.value("SELECT 0"))
    assert await database.read(all_ids) == set()


async def test_who_stops_waiting_stops_nobody(database: Database) -> None:
    go = await hold(database)
    given_up = asyncio.create_task(database.write(lambda tx: put(tx, 1)))
    other = asyncio.create_task(database.write(lambda tx: put(tx, 2)))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.sleep(0)
    go.set()
    await other
    assert 2 in await database.read(all_ids)


# A full disk


def limit_pages(tx: Tx) -> None:
    tx.run(f"PRAGMA max_page_count = {tx.value('PRAGMA page_count') + 3}")


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_full_disk_is_busy_and_nothing_is_half_done(database: Database) -> None:
    await database.write(lambda tx: put(tx, 1))
    await database.write(limit_pages)
    for size in (100_000, 2_000_000):
        go = await hold(database)
        writes = [
            asyncio.create_task(database.write(work))
            for work in (
                lambda tx: put(tx, 2),
                lambda tx, size=size: [put(tx, 3), put(tx, 4, "x" * size)],
                lambda tx: put(tx, 5),
            )
        ]
        await asyncio.sleep(0)
        go.set()
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(result, BusyError) for result in results), "a group is committed whole or not at all"
        assert await database.read(all_ids) == {1}
    with pytest.raises(BusyError, match="full") as caught:
        await database.write(lambda tx: put(tx, 3, "x" * 100_000))
    assert caught.value.retry_after_s > 0
    await database.write(lambda tx: tx.run("PRAGMA max_page_count = 1000000"))
    await database.write(lambda tx: put(tx, 4, "x" * 100_000))
    assert await database.read(all_ids) == {1, 4}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_the_job_that_was_wrong_hears_so_even_when_the_disk_is_full(database: Database) -> None:
    def wrong(tx: Tx) -> None:
        raise InputError("no")

    await database.write(limit_pages)
    go = await hold(database)
    writes = [asyncio.create_task(database.write(work)) for work in (wrong, lambda tx: put(tx, 4, "x" * 100_000))]
    await asyncio.sleep(0)
    go.set()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [InputError, BusyError]


# Opening and closing


async def test_closing_finishes_what_is_queued(open_database: OpenDatabase) -> None:
    database = open_database()
    go = await hold(database)
    writes = [asyncio.create_task(database.write(lambda tx, n=n: put(tx, n))) for n in range(20)]  # type: ignore[misc]
    await asyncio.sleep(0)
    threading.Timer(0.05, go.set).start()
    database.close()
    database.close()
    assert await asyncio.gather(*writes) == [1] * 20
    with pytest.raises(StoreClosedError):
        await database.write(lambda tx: put(tx, 99))
    with pytest.raises(StoreClosedError):
        await database.read(all_ids)
    assert await open_database().read(all_ids) == set(range(20))


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_database_that_cannot_be_opened_is_told_to_everybody_who_waits(tmp_path: Path) -> None:
    path = tmp_path / "a folder"
    path.mkdir()
    database = open_database(path)
    for _ in range(2):
        with pytest.raises(BusyError, match="unable to open"):
            async with asyncio.timeout(20):
                await database.write(lambda tx: None)
        with pytest.raises(BusyError, match="unable to open"):
            await database.read(lambda tx: None)
    path.rmdir()
    await database.write(lambda tx: tx.run("CREATE TABLE note (id INTEGER)"))
    assert await database.read(lambda tx: tx.value("SELECT count(*) FROM note")) == 0
    database.close()


BODY = "SELECT body FROM note WHERE id = 0"


async def test_two_doors_take_turns(open_database: OpenDatabase) -> None:
    doors = [open_database(), open_database()]
    await doors[0].write(lambda tx: put(tx, 0, "0"))

    def add_one(tx: Tx) -> None:
        read = int(tx.value(Pair(BODY, f"{BODY} FOR UPDATE")))
        time.sleep(0.0005)  # room for the other to come between, if it could
        tx.run("UPDATE note SET body = ? WHERE id = 0", (str(read + 1),))

    async def work(door: Database) -> None:
        for _ in range(40):
            await door.write(add_one)

    await asyncio.gather(*(work(door) for door in doors for _ in range(2)))
    for door in doors:
        assert await door.read(lambda tx: tx.value("SELECT body FROM note WHERE id = 0")) == "160"
