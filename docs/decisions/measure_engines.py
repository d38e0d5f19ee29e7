"""The figures of ``two-engines.md``: ``.venv/bin/python docs/decisions/measure_engines.py URL``, with the URL of an empty database.

The same rows go through the same store functions on SQLite, in a temporary folder, and on the server: staged, sealed,
claimed over many sites, settled. Each figure is the time of a row, commits included, in a batch that is faster than three
quarters of them: other work on the machine only ever adds time.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from mailfleet.policy.lifecycle import DeliveryState, FlowState
from mailfleet.store import access, campaigns, migrate, queue, sites, tenants
from mailfleet.store.campaigns import Campaign
from mailfleet.store.database import Database, Place, Tx, open_database
from mailfleet.store.queue import Backlog, Claimed, NewDelivery, Settlement

T = TypeVar("T")
ROWS = 100_000
CHUNK, BATCH = 2000, 500
EVENT = '{"attempt":1,"phase":"message","reply":"250 2.0.0 OK","class":"none","transcript":"%s"}' % ("x" * 300)


def say(what: str, batches: list[float]) -> None:
    """One figure, from the seconds a row of each batch."""
    good = sorted(batches)[len(batches) // 4]
    sys.stdout.write(f"  {what:<58}{good * 1e6:8.1f} us a row {1 / good:12,.0f} rows/s\n")


def delivery(number: int, rng: random.Random) -> NewDelivery:
    """Most at twenty domains, the rest at thousands."""
    if rng.random() < 0.7:
        domain = int(20 * rng.random() ** 2) + 1
        site = domain % 8 + 1
    else:
        domain = 30 + int(5000 * rng.random() ** 2)
        site = 10 + domain % 1500
    address = f"recipient{rng.randrange(10**9)}.{number}@domain{domain}.example"
    fields = '{"first_name": "Ann"}'
    return NewDelivery(
        number, 1, 7, 5, 9, 10, domain, site, DeliveryState.QUEUED, 1000, 10**13, 1000, address, address, fields, None
    )


async def timed(database: Database, work: Callable[[Tx], T]) -> tuple[float, T]:
    """Seconds of one write, and its result."""
    start_s = time.perf_counter()
    found = await database.write(work)
    return time.perf_counter() - start_s, found


async def stage(database: Database) -> None:
    """A list on its way in."""
    rng = random.Random(1)  # noqa: S311
    campaign = Campaign(5, 1, 7, 9, "large", "bulk", "loading", ROWS, 0, 0, 1, ROWS, 0, 1, None, None, "")

    def start(tx: Tx) -> None:
        tenants.ensure_default(tx)
        campaigns.start_loading(tx, campaign, stream_id=2, priority=10, weight=1)

    await database.write(start)
    batches = []
    for first in range(1, ROWS + 1, CHUNK):
        rows = [delivery(number, rng) for number in range(first, first + CHUNK)]
        names = {row.address.partition("@")[2] for row in rows}

        def chunk(tx: Tx, rows: list[NewDelivery] = rows, names: set[str] = names) -> None:
            sites.domains(tx, names)
            queue.stage(tx, rows, block=rows[0].id // 16_000 * 16_000 + 1)

        batches.append((await timed(database, chunk))[0] / CHUNK)
    say(f"staged, {CHUNK} a commit, with the look-up of domains", batches)
    await database.write(partial(campaigns.seal, campaign=campaign))
    batches, done = [], False
    while not done:
        step_s, done = await timed(database, lambda tx: campaigns.go_on_sealing(tx, 5, now_ms=1500))
        batches.append(step_s / campaigns.SEAL_STEP)
    say("sealed: an event each, 10,000 a commit", batches)
    await database.write(lambda tx: tenants.set_flow_state(tx, 7, FlowState.ACTIVE))


async def drain(database: Database, lease_id: int, rows: int) -> tuple[list[float], list[float], int]:
    """Claim and settle until ``rows`` are done; seconds a row of both, and how many were."""
    rng = random.Random(2)  # noqa: S311
    claims: list[float] = []
    settles: list[float] = []
    done = 0
    while done < rows:
        waiting = await database.read(queue.backlog)
        if not waiting:
            break
        rng.shuffle(waiting)
        orders = sorted(waiting[:40], key=lambda one: one.site_id)
        seconds, claimed = await timed(database, partial(claim, orders=orders, lease_id=lease_id))
        claims.append(seconds / max(1, len(claimed)))
        for start in range(0, len(claimed), BATCH):
            batch = [settlement(one) for one in claimed[start : start + BATCH]]
            seconds, _ = await timed(database, partial(queue.settle, settlements=batch, lease_id=lease_id, now_ms=3000))
            settles.append(seconds / len(batch))
        done += len(claimed)
    return claims, settles, done


def claim(tx: Tx, *, orders: list[Backlog], lease_id: int) -> list[Claimed]:
    """A hundred of each."""
    found = queue.claim_many(tx, [(one, 100) for one in orders], now_ms=2000, lease_id=lease_id)
    return [one for some in found for one in some]


def settlement(claimed: Claimed) -> Settlement:
    """Delivered."""
    return Settlement(claimed, DeliveryState.DELIVERED, 1, 3000, "none", "250 2.0.0 OK", EVENT)


async def one_write(database: Database) -> None:
    """What a single small commit costs, alone and in company."""
    for many, rounds in ((1, 200), (64, 20)):
        batches = []
        for number in range(rounds):
            keys = [f"{many}-{number}-{one}" for one in range(many)]
            works = [
                partial(access.remember, tenant_id=1, key=key, request_hash=b"", response="{}", now_ms=1)
                for key in keys
            ]
            start_s = time.perf_counter()
            await asyncio.gather(*(database.write(work) for work in works))
            batches.append((time.perf_counter() - start_s) / many)
        say(f"a small write, {many} waiting at once", batches)


async def measure(place: Place) -> None:
    """All of it on one engine."""
    database = open_database(place)
    try:
        await one_write(database)
        await stage(database)
        start_s = time.perf_counter()
        waiting = await database.read(queue.backlog)
        sys.stdout.write(f"  {len(waiting)} backlogs seen in {(time.perf_counter() - start_s) * 1e3:.1f} ms\n")
        claims, settles, _ = await drain(database, 1, ROWS // 2)
        say("claimed, 40 backlogs a commit", claims)
        say(f"settled, {BATCH} a commit", settles)
        other = open_database(place)
        start_s = time.perf_counter()
        results = await asyncio.gather(drain(database, 1, ROWS // 8), drain(other, 2, ROWS // 8))
        done = sum(result[2] for result in results)
        spent_s = time.perf_counter() - start_s
        sys.stdout.write(f"  two writers at once claim and settle {done / spent_s:,.0f} rows/s\n")
        other.close()
    finally:
        database.close()


def main() -> None:
    """Both engines."""
    places: list[tuple[str, Place]] = [("PostgreSQL", url) for url in sys.argv[1:2]]
    with tempfile.TemporaryDirectory(prefix="mailfleet-measure-") as folder:
        for name, place in [("SQLite", Path(folder) / "mailfleet.db"), *places]:
            migrate.upgrade(place)
            sys.stdout.write(f"{name}\n")
            asyncio.run(measure(place))


if __name__ == "__main__":
    main()
