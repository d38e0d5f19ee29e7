"""What a warm-up may deliver is held by the commits that claim, settle and release."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mailfleet.policy.lifecycle import DeliveryState as S
from mailfleet.store import queue, sites, warmups
from mailfleet.store.database import Tx
from mailfleet.store.rows import Backlog
from tests.store.rows import NOW_MS, new_delivery, running_campaign, settlement

HERE = Backlog(7, 10, 50, 0, 0)
PAIR = warmups.Warmup(7, "gmail", "standard", "warming", 0, 50, 20_000, 0, 0, 0, 0, "", NOW_MS)


@pytest.fixture
def held(tx: Tx) -> list[queue.Claimed]:
    """Six deliveries of a warming pair, claimed and reserved."""
    tx.run("INSERT INTO site (id, key, kind, hosts, provider) VALUES (?, 'k', 'mx', '[]', 'gmail')", (HERE.site_id,))
    assert sites.site(tx, HERE.site_id) is not None
    running_campaign(tx, 5, 50, range(1, 7))
    queue.insert(tx, [new_delivery(one, campaign_id=5) for one in range(1, 7)], now_ms=NOW_MS)
    warmups.put(tx, PAIR)
    claimed = queue.claim(tx, HERE, limit=6, now_ms=NOW_MS, lease_id=1, egress_id=7)
    warmups.reserve(tx, {PAIR.key: len(claimed)})
    return claimed


def reserved(tx: Tx) -> int:
    return warmups.every(tx)[0].reserved


def test_settling_counts_to_the_day_and_lets_go(tx: Tx, held: list[queue.Claimed]) -> None:
    ends = [(S.DELIVERED, 1), (S.DELIVERED, 2), (S.QUEUED, 2), (S.BOUNCED, 2)]
    made = [
        replace(settlement(one, state), day=day, reached=True, provider="gmail")
        for one, (state, day) in zip(held, ends, strict=False)
    ]
    queue.settle(tx, made, lease_id=1, now_ms=NOW_MS)
    assert reserved(tx) == 2
    queue.settle(tx, made, lease_id=1, now_ms=NOW_MS)
    assert reserved(tx) == 2, "a second time changes nothing"
    assert warmups.day(tx, PAIR.key, 1)[5:10] == (1, 1, 0, 0, 0)
    assert warmups.day(tx, PAIR.key, 2)[5:10] == (1, 3, 1, 1, 0)
    assert warmups.day(tx, PAIR.key, 3)[5:10] == (0, 0, 0, 0, 0)


def test_what_never_reached_the_provider_counts_for_nothing(tx: Tx, held: list[queue.Claimed]) -> None:
    queue.settle(tx, [replace(settlement(held[0], S.QUEUED), provider="gmail")], lease_id=1, now_ms=NOW_MS)
    assert reserved(tx) == 5
    assert warmups.today(tx, 0) == []


def test_what_goes_back_is_reserved_no_more(tx: Tx, held: list[queue.Claimed]) -> None:
    queue.hand_back(tx, held[:2], lease_id=1, now_ms=NOW_MS)
    queue.hand_back(tx, held[:2], lease_id=1, now_ms=NOW_MS)
    assert reserved(tx) == 4
    queue.release(tx, 1, now_ms=NOW_MS)
    assert reserved(tx) == 0


def test_what_is_under_lease_when_a_warm_up_begins_is_counted(tx: Tx, held: list[queue.Claimed]) -> None:
    warmups.put(tx, PAIR._replace(state="warm"))
    warmups.reserve(tx, {PAIR.key: 3})
    warmups.put(tx, PAIR._replace(stage=2))
    warmups.recount(tx, PAIR.key)
    found = warmups.get(tx, PAIR.key)
    assert found is not None
    assert (found.reserved, found.stage) == (len(held), 2)


def test_the_history_keeps_counts_and_what_followed(tx: Tx) -> None:
    warmups.add(tx, {(7, "gmail", 4, "delivered"): 40, (7, "gmail", 4, "complained"): 1})
    warmups.close_day(
        tx, warmups.day(tx, PAIR.key, 4)._replace(stage=3, cap=50, move="up", reason="all of it went well")
    )
    warmups.add(tx, {(7, "gmail", 4, "delivered"): 2})
    assert warmups.history(tx, 7) == [warmups.Day(7, "gmail", 4, 3, 50, 42, 0, 0, 0, 1, "up", "all of it went well")]
