"""After a crash or a hasty stop: what a delivery process left under lease is settled from its journal, the rest released."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import orjson
import structlog

from mailfleet.base.clock import Clock
from mailfleet.engine import journal
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.policy.warmup import day_number
from mailfleet.store import campaigns, queue, sites
from mailfleet.store.database import Database, Tx
from mailfleet.store.queue import Settlement

log = structlog.get_logger()
_BATCH = 1000


@contextlib.contextmanager
def slot_lock(folder: Path, slot: int, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a slot: there is one process per slot. Yields false when ``wait`` is off and somebody else has it.

    The kernel lets go of a killed process's lock, so holding it means that the earlier run is over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / f"deliver-{slot}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def owner_of(folder: Path, slot: int) -> str:
    """What a lease of this slot says of its owner: the slot, this start of the machine, and the folder its journal lies in.

    Another start or another folder means that the journal is what a disk or a copy kept of it, which may not be all.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = "-"
    return f"deliver-{slot} {boot} {folder.stat().st_ino}"


async def recover_lease(
    database: Database, folder: Path, slot: int, lease_id: int, clock: Clock, *, scale: float = 1
) -> int:
    """Settle what the remote is known to have taken, release the rest; returns how many deliveries were under lease.

    The caller holds the slot's lock. Journals are removed only after the commits, so a crash in here repeats it. Where the
    journal may have lost lines with the power, of everything that is released a repeat is said to be possible.
    """
    left = journal.replay(folder, slot, lease_id)
    owner = await database.read(lambda tx: queue.lease_owner(tx, lease_id))
    doubtful = " " in owner and owner != owner_of(folder, slot)
    ids = list(left.accepted)
    settled = 0
    for start in range(0, len(ids), _BATCH):
        part = {one: left.accepted[one] for one in ids[start : start + _BATCH]}
        settled += await database.write(
            partial(_settle, lease_id=lease_id, accepted=part, now_ms=clock.now_ms(), scale=scale)
        )
    released, more, on_wire = 0, True, left.on_wire
    if doubtful:
        on_wire = frozenset(await database.read(lambda tx: queue.leased_ids(tx, lease_id)))
    while more:
        count = await database.write(
            lambda tx: queue.release(
                tx,
                lease_id,
                now_ms=clock.now_ms(),
                on_wire=on_wire,
                day=day_number(clock.now_ms(), scale),
                limit=_BATCH,
            )
        )
        released, more = released + count, count == _BATCH
    for path in left.segments:
        path.unlink(missing_ok=True)
    if settled or released:
        log.warning(
            "recovered what was left under lease",
            slot=slot,
            delivered=settled,
            released=released,
            on_wire=len(on_wire),
            journal="may have lost lines with the power" if doubtful else "whole",
        )
    return settled + released


def _settle(tx: Tx, lease_id: int, accepted: dict[int, str], now_ms: int, scale: float) -> int:
    """Settle what the journal knows to be taken, of what is still under the lease; returns how many."""
    rows = queue.leased_by(tx, lease_id, list(accepted))
    providers = sites.providers_of(tx, {row.site_id for row in rows})
    settlements = []
    for row in rows:
        reply, attempts = accepted[row.id], row.attempts + 1
        event = orjson.dumps({"attempt": attempts, "reply": reply, "from_journal": True}).decode()
        provider, day = providers.get(row.site_id, ""), day_number(now_ms, scale)
        made = Settlement(row, DeliveryState.DELIVERED, attempts, now_ms, "none", reply, event, 1, provider, True, day)
        settlements.append(made)
    queue.settle(tx, settlements, lease_id=lease_id, now_ms=now_ms)
    campaigns.finish_where_done(tx, sorted({row.campaign_id for row in rows} - {0}), now_ms=now_ms)
    return len(settlements)
