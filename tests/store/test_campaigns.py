"""Campaigns in the store: loading is invisible, sealing goes in steps that anybody may go on with, discarding leaves nothing."""

from __future__ import annotations

import re

import pytest

from mailfleet.policy.lifecycle import DeliveryState, EventKind, FlowState
from mailfleet.store import campaigns, contents, deliveries, events, queue, tenants
from mailfleet.store.campaigns import Campaign
from mailfleet.store.database import Tx
from mailfleet.store.schema import metadata_for
from tests.store.rows import NOW_MS, TENANT, check_laws, kinds, new_campaign, new_delivery, settlement

S = DeliveryState
ROWS = 25


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "SEAL_STEP", 10)


def load(tx: Tx, campaign_id: int = 5, *, suppressed: tuple[int, ...] = (), **values: object) -> Campaign:
    """A campaign with ROWS staged rows, still loading."""
    campaign = new_campaign(campaign_id, campaign_id * 10)._replace(**values)  # type: ignore[arg-type]  # the caller's care
    contents.put(
        tx,
        contents.Content(campaign.content_id, TENANT, "raw", b"x", contents.ContentInfo(from_domain="a.example")),
        now_ms=NOW_MS,
    )
    campaigns.start_loading(tx, campaign, stream_id=2, priority=10, weight=3)
    first = campaign_id * 1000
    queue.stage(
        tx,
        [
            new_delivery(
                first + number,
                campaign_id=campaign_id,
                flow_id=campaign.flow_id,
                content_id=campaign.content_id,
                state=S.SUPPRESSED if number in suppressed else S.QUEUED,
                reason="manual: no" if number in suppressed else None,
            )
            for number in range(ROWS)
        ],
    )
    return campaign._replace(rows=ROWS, first_delivery_id=first, last_delivery_id=first + ROWS - 1)


def seal(tx: Tx, campaign: Campaign) -> int:
    """Seal to the end; how many steps it took."""
    campaigns.seal(tx, campaign)
    steps = 1
    while not campaigns.go_on_sealing(tx, campaign.id, now_ms=NOW_MS):
        steps += 1
    return steps


def visible(tx: Tx, campaign: Campaign) -> tuple[int, int, int]:
    """Deliveries listed, events listed, campaigns listed."""
    bounds = (campaign.id, campaign.first_delivery_id, campaign.last_delivery_id)
    return (
        len(deliveries.page(tx, TENANT)) + len(deliveries.page(tx, TENANT, campaign=bounds)),
        len(events.after(tx, TENANT, cursor=0, limit=100)),
        len(campaigns.newest(tx, TENANT, before=None, limit=10)),
    )


def test_nothing_of_a_loading_campaign_is_seen_or_claimed(tx: Tx) -> None:
    campaign = load(tx)
    assert visible(tx, campaign) == (0, 0, 0)
    assert deliveries.one(tx, TENANT, 5000) is None
    assert deliveries.of_content(tx, TENANT, campaign.content_id, 10) == []
    (waiting,) = queue.backlog(tx)
    assert queue.claim(tx, waiting, limit=10, now_ms=NOW_MS, lease_id=1) == []
    assert [one.id for one in campaigns.in_state(tx, "loading")] == [5]


def test_a_sealed_campaign_leaves_only_when_everything_is_told(tx: Tx) -> None:
    campaign = load(tx, suppressed=(3, 24))
    campaigns.seal(tx, campaign)
    for told in (10, 20):
        assert not campaigns.go_on_sealing(tx, 5, now_ms=NOW_MS)
        assert tx.value("SELECT count(*) FROM event") == told
        (waiting,) = queue.backlog(tx)
        assert queue.claim(tx, waiting, limit=10, now_ms=NOW_MS, lease_id=1) == []
    assert campaigns.go_on_sealing(tx, 5, now_ms=NOW_MS)
    assert campaigns.go_on_sealing(tx, 5, now_ms=NOW_MS), "once more is harmless"
    found = campaigns.get(tx, 5)
    assert found
    assert (found.state, found.rows, found.told_to_id) == ("sending", ROWS, 5024)
    assert tx.value("SELECT count(*) FROM event") == ROWS + 1
    assert kinds(tx, 5000) == ["accepted"]
    assert kinds(tx, 5003) == ["suppressed"]
    assert tx.value("SELECT data FROM event WHERE delivery_id = 5003") == '{"reason":"manual: no"}'
    assert tx.value("SELECT kind FROM event ORDER BY id DESC LIMIT 1") == EventKind.CAMPAIGN_CREATED
    assert visible(tx, campaign) == (2 * ROWS, ROWS + 1, 1)
    assert len(queue.claim(tx, waiting, limit=100, now_ms=NOW_MS, lease_id=1)) == ROWS - 2
    check_laws(tx)


@pytest.mark.parametrize("step", [1, 7, 25, 26, 1000])
def test_steps_of_any_size_tell_everything_once(tx: Tx, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaigns, "SEAL_STEP", step)
    assert seal(tx, load(tx)) == -(-ROWS // step)
    assert tx.value("SELECT count(*) FROM event WHERE kind = 'accepted'") == ROWS
    check_laws(tx)


def test_rows_of_others_in_the_same_range_are_not_told_of(tx: Tx) -> None:
    campaign = load(tx)
    queue.insert(tx, [new_delivery(4999), new_delivery(5025)], now_ms=NOW_MS)
    wide = campaign._replace(first_delivery_id=4000, last_delivery_id=6000)
    seal(tx, wide)
    assert kinds(tx, 4999) == kinds(tx, 5025) == ["accepted"]


def test_a_crash_between_steps_is_gone_on_with(tx: Tx) -> None:
    """Each step is a commit of its own: what comes after finds the rest to tell."""
    campaign = load(tx)
    campaigns.seal(tx, campaign)
    campaigns.go_on_sealing(tx, 5, now_ms=NOW_MS)
    assert [one.id for one in campaigns.in_state(tx, "sealing")] == [5]
    tx.run("SAVEPOINT half")
    campaigns.go_on_sealing(tx, 5, now_ms=NOW_MS)
    tx.run("ROLLBACK TO half")
    while not campaigns.go_on_sealing(tx, 5, now_ms=NOW_MS):
        pass
    assert tx.value("SELECT count(*) FROM event WHERE kind = 'accepted'") == ROWS
    check_laws(tx)


def test_a_campaign_for_later_is_scheduled(tx: Tx) -> None:
    seal(tx, load(tx, send_at_ms=NOW_MS + 1))
    seal(tx, load(tx, 6, send_at_ms=NOW_MS))
    assert [one.id for one in campaigns.in_state(tx, "scheduled")] == [5]
    assert [one.id for one in campaigns.in_state(tx, "sending")] == [6]


def test_discarding_goes_in_steps_and_leaves_nothing(tx: Tx) -> None:
    before = everything(tx)
    campaign = load(tx, suppressed=(1,))
    other = load(tx, 6)
    assert not campaigns.discard_some(tx, campaign, limit=10)
    assert not campaigns.discard_some(tx, campaign, limit=10)
    assert campaigns.discard_some(tx, campaign, limit=10)
    assert campaigns.discard_some(tx, campaign, limit=10), "once more is harmless"
    assert tx.value("SELECT count(*) FROM delivery") == ROWS, "the other campaign's"
    while not campaigns.discard_some(tx, other):
        pass
    assert everything(tx) == before


def everything(tx: Tx) -> dict[str, int]:
    return {name: tx.value(f"SELECT count(*) FROM {name}") for name in metadata_for(tx.engine).tables}


def test_moves_take_the_flow_along(tx: Tx) -> None:
    seal(tx, load(tx))
    for state, kind, flow_state in (
        ("paused", EventKind.CAMPAIGN_PAUSED, FlowState.PAUSED),
        ("sending", EventKind.CAMPAIGN_RESUMED, FlowState.ACTIVE),
        ("cancelled", EventKind.CAMPAIGN_CANCELLED, FlowState.CANCELLED),
    ):
        found = campaigns.get(tx, 5)
        assert found
        campaigns.move(tx, found, state, kind, now_ms=NOW_MS, reason="why" if state == "paused" else "")
        flow = tenants.flow(tx, 50)
        moved = campaigns.get(tx, 5)
        assert flow
        assert moved
        assert (moved.state, flow.state, moved.pause_reason) == (state, flow_state, "why" if state == "paused" else "")
        assert tx.value("SELECT kind FROM event ORDER BY id DESC LIMIT 1") == kind
    assert tx.value("SELECT data FROM event WHERE kind = 'campaign_paused'") == '{"reason":"why"}'


def test_a_campaign_finishes_when_nothing_is_left_and_not_before(tx: Tx) -> None:
    seal(tx, load(tx))
    (waiting,) = queue.backlog(tx)
    held = queue.claim(tx, waiting, limit=100, now_ms=NOW_MS, lease_id=1)
    queue.settle(tx, [settlement(one, S.DELIVERED) for one in held[1:]], lease_id=1, now_ms=NOW_MS)
    assert campaigns.finish_where_done(tx, [5], now_ms=NOW_MS) == []
    queue.settle(tx, [settlement(held[0], S.QUEUED)], lease_id=1, now_ms=NOW_MS)
    assert campaigns.finish_where_done(tx, [5], now_ms=NOW_MS) == []
    (retry,) = queue.backlog(tx)
    (last,) = queue.claim(tx, retry, limit=100, now_ms=NOW_MS, lease_id=1)
    queue.settle(tx, [settlement(last, S.EXPIRED)], lease_id=1, now_ms=NOW_MS)
    assert campaigns.finish_where_done(tx, [5, 999], now_ms=NOW_MS + 7) == [5]
    assert campaigns.finish_where_done(tx, [5], now_ms=NOW_MS + 9) == []
    found = campaigns.get(tx, 5)
    assert found
    assert (found.state, found.finished_ms) == ("finished", NOW_MS + 7)
    assert tx.value("SELECT count(*) FROM event WHERE kind = 'campaign_finished'") == 1


def test_a_cancelled_campaign_stays_cancelled_when_its_rows_are_done(tx: Tx) -> None:
    seal(tx, load(tx))
    found = campaigns.get(tx, 5)
    assert found
    campaigns.move(tx, found, "cancelled", EventKind.CAMPAIGN_CANCELLED, now_ms=NOW_MS)
    assert [one.id for one in campaigns.unfinished_cancelled(tx)] == [5]
    queue.cancel(tx, 50, now_ms=NOW_MS)
    campaigns.finish_where_done(tx, [5], now_ms=NOW_MS + 1)
    campaigns.finish_where_done(tx, [5], now_ms=NOW_MS + 2)
    assert campaigns.unfinished_cancelled(tx) == []
    ended = campaigns.get(tx, 5)
    assert ended
    assert (ended.state, ended.finished_ms) == ("cancelled", NOW_MS + 1)


def test_newest_first_in_pages(tx: Tx) -> None:
    for number in (5, 6, 7):
        seal(tx, load(tx, number))
    assert [one.id for one in campaigns.newest(tx, TENANT, before=None, limit=2)] == [7, 6]
    assert [one.id for one in campaigns.newest(tx, TENANT, before=6, limit=2)] == [5]
    assert campaigns.newest(tx, TENANT + 1, before=None, limit=2) == []


def test_what_two_last_commits_left_is_found(tx: Tx) -> None:
    """Each process adds to its own part of a count, and neither sees what the other has not committed yet."""
    seal(tx, load(tx))
    (waiting,) = queue.backlog(tx)
    held = queue.claim(tx, waiting, limit=100, now_ms=NOW_MS, lease_id=1)
    assert campaigns.done(tx) == []
    queue.settle(tx, [settlement(one, S.DELIVERED) for one in held], lease_id=1, now_ms=NOW_MS)
    assert campaigns.done(tx) == [5]
    tx.run("UPDATE tally SET n = n - 3 WHERE campaign_id = 5 AND state = 3")
    tx.run("INSERT INTO tally (campaign_id, state, part, n) VALUES (5, 3, 7, 3)")
    assert campaigns.tally(tx, 5) == {S.QUEUED: 0, S.LEASED: 0, S.DELIVERED: ROWS}
    assert campaigns.finish_where_done(tx, campaigns.done(tx), now_ms=NOW_MS) == [5]
    assert campaigns.done(tx) == []


def test_an_address_is_found_in_every_block(tx: Tx) -> None:
    for number in (1, 2, 3):
        rows = [new_delivery(number * 100 + n, address_key=f"user{n}@example.org") for n in range(3)]
        queue.stage(tx, rows, block=number * 7)
    tx.run("INSERT INTO flow VALUES (50, 1, 2, 5, 10, 1, 2)")
    found = deliveries.page(tx, TENANT, address_key="user1@example.org")
    assert [one.id for one in found] == [301, 201, 101]
    sql = f"SELECT 1 FROM delivery d WHERE {deliveries._OF_ADDRESS}"
    told = tx.rows(f"EXPLAIN {'QUERY PLAN ' * (tx.engine == 'sqlite')}{sql}", {"address_key": "x"})
    steps = [str(row[-1]) for row in told]
    assert not [step for step in steps if re.search(r"Seq Scan on delivery|SCAN (delivery|a|d)\b(?!.*INDEX)", step)], (
        steps
    )
