"""After the clock was set back: what was to go at once or after a wait goes that much earlier, what has a time to send keeps it."""

from __future__ import annotations

from mailfleet.base.ids import EPOCH_MS, MADE_SHIFT
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.store import clock_steps, queue, sites
from mailfleet.store.database import Tx
from tests.store.rows import NOW_MS, new_delivery, running_campaign, settlement

HOUR_MS = 3_600_000
AHEAD_MS = NOW_MS + HOUR_MS  # what the clock said before it was set back to NOW_MS


def made_at(at_ms: int, number: int) -> int:
    return ((at_ms - EPOCH_MS) << MADE_SHIFT) + number


def due(tx: Tx) -> dict[int, int]:
    return {int(row[0]): int(row[1]) for row in tx.rows("SELECT id, due_ms FROM delivery")}


def test_what_was_to_go_at_once_is_due_now_and_what_has_a_time_keeps_it(tx: Tx) -> None:
    fresh, scheduled, earlier = made_at(AHEAD_MS, 1), made_at(AHEAD_MS, 2), made_at(NOW_MS - HOUR_MS, 3)
    of_campaign = made_at(AHEAD_MS, 4)
    running_campaign(tx, 5, 50, [of_campaign])
    tx.run("UPDATE campaign SET send_at_ms = ? WHERE id = 5", (AHEAD_MS,))
    rows = [
        new_delivery(fresh, due_ms=AHEAD_MS - 2),
        new_delivery(scheduled, due_ms=AHEAD_MS + 4 * HOUR_MS),
        new_delivery(earlier, due_ms=NOW_MS - HOUR_MS),
        new_delivery(of_campaign, due_ms=AHEAD_MS, campaign_id=5),
    ]
    queue.insert(tx, rows, now_ms=AHEAD_MS)
    assert clock_steps.hurry(tx, now_ms=NOW_MS, step_ms=HOUR_MS, after=0, told=0, since_ms=0) is None
    assert due(tx) == {
        fresh: NOW_MS,
        scheduled: AHEAD_MS + 4 * HOUR_MS,
        earlier: NOW_MS - HOUR_MS,
        of_campaign: AHEAD_MS,
    }


def test_retries_keep_the_length_of_their_wait_in_steps(tx: Tx) -> None:
    running_campaign(tx, 5, 50, [1])
    queue.insert(tx, [new_delivery(number) for number in range(1, 8)], now_ms=NOW_MS)
    lease = queue.new_lease(tx, "x", 0, NOW_MS)
    claimed = queue.claim(tx, queue.backlog(tx)[0], limit=7, now_ms=NOW_MS, lease_id=lease)
    deferred = [settlement(one, DeliveryState.QUEUED, due_ms=AHEAD_MS + 60_000 * one.id) for one in claimed]
    queue.settle(tx, deferred, lease_id=lease, now_ms=AHEAD_MS)
    after: int | None = 0
    steps = 0
    while after is not None:
        after = clock_steps.hurry(tx, now_ms=NOW_MS, step_ms=HOUR_MS, after=after, told=0, since_ms=0, limit=3)
        steps += 1
    assert steps == 3
    assert due(tx) == {number: NOW_MS + 60_000 * number for number in range(1, 8)}


def test_domains_are_looked_up_again_and_the_newest_of_all_is_known(tx: Tx) -> None:
    sites.domains(tx, ["a.example", "b.example"])
    tx.run("UPDATE mail_domain SET next_locate_ms = ? WHERE name = 'a.example'", (AHEAD_MS,))
    assert clock_steps.look_up_again(tx, now_ms=NOW_MS) == 1
    assert len(sites.due_domains(tx, now_ms=NOW_MS, slot=0, slots=1, limit=9)) == 2
    assert clock_steps.last_told(tx) == (0, 0)
    queue.insert(tx, [new_delivery(made_at(AHEAD_MS, 1))], now_ms=AHEAD_MS)
    assert clock_steps.last_told(tx).at_ms == AHEAD_MS
    assert clock_steps.newest_id(tx) == made_at(AHEAD_MS, 1)
