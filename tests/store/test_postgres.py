"""What only a server has: processes that write at once, deadlocks, connections that break, parts of tables and of counts."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

import asyncpg
import pytest

from mailfleet.base.errors import BusyError, CommitUnknownError, ConfigError, InputError
from mailfleet.policy.lifecycle import DeliveryState, FlowState
from mailfleet.store import campaigns, events, migrate, postgres, queue, tenants
from mailfleet.store.database import Database, Place, Tx, open_database
from mailfleet.store.events import EventRow
from mailfleet.store.queue import Backlog
from tests.store.cluster import Cluster, fetch
from tests.store.fixtures import OpenDatabase
from tests.store.proxy import Proxy
from tests.store.rows import NOW_MS, TENANT, check_laws, new_delivery, running_campaign, settlement

T = TypeVar("T")
S = DeliveryState
HERE = Backlog(7, 10, 50, 0, 0)


@pytest.fixture
def engine() -> str:
    return "postgres"


async def in_the_end(database: Database, work: Callable[[Tx], T]) -> T:
    """Write, as soon as the server can be reached again."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await database.write(work)
            except BusyError:
                await asyncio.sleep(0.05)


def event(number: int) -> EventRow:
    return EventRow(NOW_MS, TENANT, "deferred", 0, number, None)


async def prepare(database: Database, count: int) -> None:
    """Campaign 5 with ``count`` deliveries."""

    def work(tx: Tx) -> None:
        running_campaign(tx, 5, 50, range(1, count + 1))
        queue.insert(tx, [new_delivery(one, campaign_id=5) for one in range(1, count + 1)], now_ms=NOW_MS)

    await database.write(work)


async def test_a_cursor_passes_no_event_by(open_database: OpenDatabase) -> None:
    """Two processes write as fast as they can while a third follows: in the end it has seen every number, in order."""
    doors, reader = [open_database(), open_database()], open_database()
    writes = 150

    async def write(door: Database) -> None:
        for number in range(0, writes, 5):
            works = [lambda tx, n=n: events.append(tx, [event(n), event(n)]) for n in range(number, number + 5)]
            await asyncio.gather(*(door.write(work) for work in works))

    writing = [asyncio.create_task(write(door)) for door in doors]
    seen: list[int] = []
    while not all(task.done() for task in writing) or len(seen) < 4 * writes:
        cursor = seen[-1] if seen else 0
        found = await reader.read(lambda tx, cursor=cursor: events.after(tx, TENANT, cursor=cursor, limit=50))  # type: ignore[misc]
        seen += [one.id for one in found]
        for task in writing:
            if task.done():
                task.result()
    assert len(seen) == len(set(seen)) == 4 * writes
    assert seen == sorted(seen)
    assert len(await fetch_ids(reader)) == 4 * writes


async def fetch_ids(database: Database) -> list[int]:
    return [row[0] for row in await database.read(lambda tx: tx.rows("SELECT id FROM event ORDER BY id"))]


async def test_a_job_that_fails_takes_its_events_with_it(database: Database) -> None:
    def fails(tx: Tx) -> None:
        events.append(tx, [event(2)])
        assert tx.value("SELECT count(*) FROM event WHERE delivery_id = 2") == 1
        raise InputError("no")

    go = threading.Event()
    holding = asyncio.create_task(database.write(lambda tx: go.wait(20)))
    works = [lambda tx: events.append(tx, [event(1)]), fails, lambda tx: events.append(tx, [event(3)])]
    writes = [asyncio.create_task(database.write(work)) for work in works]
    await asyncio.sleep(0)
    go.set()
    results = await asyncio.gather(*writes, return_exceptions=True)
    await holding
    assert [type(result) for result in results] == [type(None), InputError, type(None)]
    rows = await database.read(lambda tx: tx.rows("SELECT delivery_id FROM event ORDER BY id"))
    assert rows == [(1,), (3,)]


async def test_who_stands_in_each_others_way_goes_again(open_database: OpenDatabase) -> None:
    """Both take two counters in opposite order, at the same moment: a deadlock, of which nobody hears."""
    one, other = open_database(), open_database()
    await one.write(lambda tx: tx.run("INSERT INTO tally (campaign_id, state, n) VALUES (1, 1, 0), (2, 1, 0)"))
    met = threading.Barrier(2)
    tries: Counter[str] = Counter()

    def take(name: str, order: tuple[int, int]) -> Callable[[Tx], None]:
        def work(tx: Tx) -> None:
            tries[name] += 1
            tx.run("UPDATE tally SET n = n + 1 WHERE campaign_id = ?", (order[0],))
            if tries[name] == 1:
                met.wait(20)
            tx.run("UPDATE tally SET n = n + 1 WHERE campaign_id = ?", (order[1],))

        return work

    await asyncio.gather(one.write(take("one", (1, 2))), other.write(take("other", (2, 1))))
    assert await one.read(lambda tx: tx.rows("SELECT n FROM tally")) == [(2,), (2,)]
    assert sum(tries.values()) > 2


async def test_each_process_counts_for_itself_and_the_sum_is_right(open_database: OpenDatabase) -> None:
    doors = [open_database() for _ in range(3)]
    await prepare(doors[0], 90)
    parts = {await door.write(lambda tx: tx.part) for door in doors}
    assert len(parts) == 3

    def step(lease: int) -> Callable[[Tx], int]:
        def work(tx: Tx) -> int:
            held = queue.claim(tx, HERE, limit=7, now_ms=NOW_MS, lease_id=lease)
            queue.settle(tx, [settlement(one, S.DELIVERED) for one in held], lease_id=lease, now_ms=NOW_MS)
            return len(held)

        return work

    async def drain(door: Database, lease: int) -> int:
        total = 0
        while got := await door.write(step(lease)):
            total += got
        return total

    shares = await asyncio.gather(*(drain(door, lease) for lease, door in enumerate(doors, start=1)))
    assert sum(shares) == 90
    tally = await doors[0].read(lambda tx: campaigns.tally(tx, 5))
    assert tally == {S.QUEUED: 0, S.LEASED: 0, S.DELIVERED: 90}
    await doors[0].read(check_laws)
    finished = [
        await door.write(lambda tx: campaigns.finish_where_done(tx, campaigns.done(tx), now_ms=NOW_MS))
        for door in doors
    ]
    assert finished == [[5], [], []]


async def test_claims_at_the_same_moment_take_different_rows(open_database: OpenDatabase) -> None:
    one, other = open_database(), open_database()
    await prepare(one, 20)
    claimed, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(tx: Tx) -> list[int]:
        held = queue.claim(tx, HERE, limit=12, now_ms=NOW_MS, lease_id=1)
        loop.call_soon_threadsafe(claimed.set)
        assert go.wait(20)
        return [row.id for row in held]

    first = asyncio.create_task(one.write(slow))
    await claimed.wait()
    held = await other.write(lambda tx: queue.claim(tx, HERE, limit=12, now_ms=NOW_MS, lease_id=2))
    go.set()
    assert len(held) == 8, "what is being claimed is passed over, not waited for"
    assert not {row.id for row in held} & set(await first)
    await one.read(check_laws)


async def test_a_pause_waits_for_claims_under_way_and_is_obeyed_by_those_after(open_database: OpenDatabase) -> None:
    one, other = open_database(), open_database()
    await prepare(one, 20)
    claimed, go = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(tx: Tx) -> int:
        held = queue.claim(tx, HERE, limit=5, now_ms=NOW_MS, lease_id=1)
        loop.call_soon_threadsafe(claimed.set)
        assert go.wait(20)
        return len(held)

    claim = asyncio.create_task(one.write(slow))
    await claimed.wait()
    pause = asyncio.create_task(other.write(lambda tx: tenants.set_flow_state(tx, 50, FlowState.PAUSED)))
    await other.read(lambda tx: tx.value("SELECT 1"))
    assert not pause.done()
    go.set()
    assert await claim == 5
    await pause
    assert await one.write(lambda tx: queue.claim(tx, HERE, limit=5, now_ms=NOW_MS, lease_id=1)) == []


async def test_what_a_remote_said_is_kept_whatever_it_is(database: Database) -> None:
    """PostgreSQL's text has no place for NUL."""

    def work(tx: Tx) -> None:
        events.append(tx, [EventRow(NOW_MS, TENANT, "deferred", 0, 1, "a\0b")])
        queue.stage(tx, [new_delivery(1, reason="\0"), new_delivery(2, reason="ä😀")])

    await database.write(work)
    rows = await database.read(lambda tx: tx.rows("SELECT reason FROM delivery ORDER BY id"))
    assert rows == [("\ufffd",), ("ä😀",)]
    assert await database.read(lambda tx: tx.value("SELECT data FROM event")) == "a\ufffdb"


async def test_days_have_parts_of_their_own(database: Database) -> None:
    assert await database.write(lambda tx: events.make_parts(tx, now_ms=NOW_MS, days=3)) == 3
    assert await database.write(lambda tx: events.make_parts(tx, now_ms=NOW_MS, days=4)) == 1
    await database.write(lambda tx: events.append(tx, [event(1), event(2)._replace(at_ms=5)]))
    rows = await database.read(lambda tx: tx.rows("SELECT tableoid::regclass::text FROM event ORDER BY id"))
    assert rows == [("event_20270115",), ("event_default",)]
    assert await database.write(lambda tx: events.make_parts(tx, now_ms=5, days=1)) == 0, "it has rows already"


# Connections that break


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    proxy = Proxy(cluster.port)
    yield proxy
    proxy.close()


@pytest.fixture
def behind(proxy: Proxy, place: Place, cluster: Cluster) -> Iterator[Database]:
    """The test's database through a wire that can be cut."""
    database = open_database(str(place).replace(f":{cluster.port}/", f":{proxy.port}/"))
    yield database
    database.close()


@pytest.mark.parametrize("cut", ["before", "after"])
async def test_a_connection_lost_during_a_commit(behind: Database, proxy: Proxy, place: Place, cut: str) -> None:
    """The server is asked what became of it; what was not committed is run again, and in the end it is there once."""
    await behind.write(lambda tx: None)
    runs: list[int] = []

    def work(tx: Tx) -> str:
        runs.append(1)
        events.append(tx, [event(1)])
        return "done"

    proxy.cut_next = "before" if cut == "before" else "after"
    assert await behind.write(work) == "done"
    assert len(runs) == (2 if cut == "before" else 1)
    assert await fetch(str(place), "SELECT delivery_id FROM event") == [(1,)]


async def test_a_commit_whose_fate_cannot_be_learnt(
    behind: Database, proxy: Proxy, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever settles again does no harm, whether it was committed or not."""
    monkeypatch.setattr(postgres, "ASK_WITHIN_S", 0.3)
    await prepare(behind, 5)
    held = await behind.write(lambda tx: queue.claim(tx, HERE, limit=5, now_ms=NOW_MS, lease_id=1))
    for cut, some in (("before", held[:3]), ("after", held[3:])):
        batch = [settlement(one, S.DELIVERED) for one in some]
        proxy.cut_next = "before" if cut == "before" else "after"
        proxy.closed_to_new = True
        with pytest.raises(CommitUnknownError):
            await behind.write(lambda tx, batch=batch: queue.settle(tx, batch, lease_id=1, now_ms=NOW_MS))  # type: ignore[misc]
        with pytest.raises(BusyError):
            await behind.read(lambda tx: None)
        with pytest.raises(BusyError):
            await behind.write(lambda tx: None)
        proxy.closed_to_new = False
        lost = await in_the_end(behind, lambda tx, batch=batch: queue.settle(tx, batch, lease_id=1, now_ms=NOW_MS))  # type: ignore[misc]
        assert len(lost) == (0 if cut == "before" else len(some))
    assert await fetch(str(place), "SELECT count(*) FROM event WHERE kind = 'delivered'") == [(5,)]
    await behind.read(check_laws)


async def test_connections_that_the_server_ends_are_made_again(database: Database, place: Place) -> None:
    await database.write(lambda tx: events.append(tx, [event(1)]))
    await database.read(lambda tx: None)
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    await fetch(str(place), others)
    assert await database.read(lambda tx: tx.value("SELECT count(*) FROM event")) == 1
    await database.write(lambda tx: events.append(tx, [event(2)]))
    assert await database.read(lambda tx: tx.value("SELECT count(*) FROM event")) == 2


async def test_a_connection_lost_in_the_middle_undoes_the_group(database: Database, place: Place) -> None:
    async def end_it() -> None:
        ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        ends += " AND datname = current_database()"
        while not await fetch(str(place), ends):
            pass
        go.set()

    go = threading.Event()

    def work(tx: Tx) -> None:
        tx.run("INSERT INTO tally (campaign_id, state, n) VALUES (9, 9, 9)")
        assert go.wait(20)
        tx.value("SELECT 1")

    ending = asyncio.create_task(end_it())
    with pytest.raises(BusyError, match="lost"):
        await database.write(work)
    await ending
    assert await database.read(lambda tx: tx.rows("SELECT * FROM tally")) == []


# What is refused


def refused(place: Place) -> ConfigError | None:
    try:
        migrate.version_of(place)
    except ConfigError as error:
        return error
    return None


def test_a_server_that_may_lose_commits(place: Place, cluster: Cluster) -> None:
    cluster.command("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    try:
        while (refusal := refused(place)) is None:
            pass  # the server takes a moment to read it
        assert "fsync off" in refusal.what
        assert "fsync = on" in refusal.mend
    finally:
        cluster.command("ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()")
        while refused(place) is not None:
            pass


def test_a_database_of_a_newer_program(place: Place, cluster: Cluster) -> None:
    cluster.command("UPDATE alembic_version SET version_num = '9999'", database=str(place).rpartition("/")[2])
    with pytest.raises(ConfigError, match="9999") as caught:
        migrate.upgrade(place)
    assert cluster.password not in str(caught.value)


async def test_an_upgrade_from_nothing_is_done_once_however_many_start(cluster: Cluster) -> None:
    url = cluster.create("fresh")
    done = await asyncio.gather(*(asyncio.to_thread(migrate.upgrade, url) for _ in range(3)))
    assert sorted(done) == [False, False, True]
    assert await asyncio.to_thread(migrate.version_of, url) == migrate.HEAD
    cluster.drop("fresh")


async def test_a_wrong_parameter_is_the_jobs_own_error(database: Database) -> None:
    with pytest.raises(asyncpg.DataError):
        await database.write(lambda tx: tx.run("UPDATE site SET shares = ?", ("many",)))
    assert await database.write(lambda tx: tx.value("SELECT 7")) == 7
