"""Sealing decides: from then on giving up removes nothing, and a list that is suppressed as a whole is finished."""

from __future__ import annotations

from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.store import campaigns, queue
from mailfleet.store.database import Database
from tests.store.rows import NOW_MS, new_campaign, new_delivery


async def _loaded(database: Database, state: DeliveryState) -> campaigns.Campaign:
    made = new_campaign(5, 60, rows=2, first_delivery_id=1, last_delivery_id=2)
    rows = [
        new_delivery(one, flow_id=60, campaign_id=5, content_id=made.content_id, state=state, reason="said so")
        for one in (1, 2)
    ]
    await database.write(lambda tx: campaigns.start_loading(tx, made, stream_id=2, priority=10, weight=1))
    await database.write(lambda tx: queue.stage(tx, rows))
    return made


async def _count(database: Database) -> int:
    return int(await database.read(lambda tx: tx.value("SELECT count(*) FROM delivery")))


async def test_what_was_not_sealed_can_be_discarded(database: Database) -> None:
    made = await _loaded(database, DeliveryState.QUEUED)
    assert await database.write(lambda tx: campaigns.discard_some(tx, made))
    assert await _count(database) == 0
    assert await database.read(lambda tx: campaigns.get(tx, made.id)) is None


async def test_what_was_sealed_stays_whoever_gives_up(database: Database) -> None:
    made = await _loaded(database, DeliveryState.QUEUED)
    await database.write(lambda tx: campaigns.seal(tx, made))
    assert await database.write(lambda tx: campaigns.discard_some(tx, made))
    assert await _count(database) == 2
    assert await database.write(lambda tx: campaigns.go_on_sealing(tx, made.id, now_ms=NOW_MS))
    assert await database.write(lambda tx: campaigns.discard_some(tx, made))
    assert await _count(database) == 2


async def test_a_list_suppressed_as_a_whole_is_finished_by_whoever_seals_it(database: Database) -> None:
    made = await _loaded(database, DeliveryState.SUPPRESSED)
    await database.write(lambda tx: campaigns.seal(tx, made))
    assert await database.write(lambda tx: campaigns.go_on_sealing(tx, made.id, now_ms=NOW_MS))
    found = await database.read(lambda tx: campaigns.get(tx, made.id))
    assert found is not None
    assert (found.state, found.finished_ms) == ("finished", NOW_MS)
