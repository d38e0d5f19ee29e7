"""Steering a campaign: pause, resume, cancel, and the clock's part of the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mailfleet.base.errors import ConflictError, InputError, NotFoundError
from mailfleet.base.ids import TenantId
from mailfleet.engine.attempt import Attempt
from mailfleet.engine.maintain import Maintainer, discard_unsealed
from mailfleet.engine.requests import Actor, RecipientRow
from mailfleet.policy.outcome import Outcome, Phase
from mailfleet.smtp.reply import Reply
from mailfleet.store import campaigns
from mailfleet.store.database import Tx
from tests.engine.plant import NOW_MS, OWNER, Plant, Works, running
from tests.store.rows import check_laws

ADDRESSES = [f"u{number}@x.example" for number in range(5)]
FULL = Outcome(Phase.RCPT, reply=Reply(452, ("4.2.2 mailbox full",)))


async def campaign(plant: Plant, **values: Any) -> str:
    answer = await plant.upload(*ADDRESSES, **values)
    assert answer.campaign
    await plant.locate_all()
    return answer.campaign.campaign


async def test_pausing_stops_claims_and_resuming_goes_on(plant: Plant) -> None:
    name = await campaign(plant)
    paused = await plant.campaigns.pause(OWNER, name, "a typo")
    assert (paused.state, paused.pause_reason) == ("paused", "a typo")
    assert await plant.claim_all(1) == []
    page = await plant.observer.deliveries(OWNER, campaign=name, state="paused", recipient=None, after=None, limit=9)
    assert [one.state for one in page.items] == ["paused"] * 5
    assert (await plant.campaigns.pause(OWNER, name, "again")).pause_reason == "a typo", "twice is once"
    resumed = await plant.campaigns.resume(OWNER, name)
    assert (resumed.state, resumed.pause_reason) == ("sending", "")
    assert len(await plant.claim_all(1)) == 5
    told = [kind for kind in await plant.kinds() if kind.startswith("campaign")]
    assert told == ["campaign_created", "campaign_paused", "campaign_resumed"]


async def test_cancelling_is_for_good(plant: Plant) -> None:
    name = await campaign(plant)
    assert (await plant.campaigns.cancel(OWNER, name)).state == "cancelled"
    assert await plant.claim_all(1) == [], "from the commit on, before the rows have followed"
    assert (await plant.campaigns.cancel(OWNER, name)).state == "cancelled"
    for steer in (plant.campaigns.resume(OWNER, name), plant.campaigns.pause(OWNER, name, "")):
        with pytest.raises(ConflictError, match="cancelled"):
            await steer
    await plant.maintainer.finish_cancelling()
    assert set((await plant.states()).values()) == {"cancelled"}
    view = await plant.campaigns.get(OWNER, name)
    assert (view.cancelled, view.pending, view.finished_at is not None) == (5, 0, True)
    await plant.database.read(check_laws)


async def test_what_is_on_its_way_when_cancelled_ends_as_it_ends(plant: Plant) -> None:
    name = await campaign(plant)
    async with running(Works(plant)) as works:
        held = await plant.claim_all(works.lease_id)
        await plant.campaigns.cancel(OWNER, name)
        await plant.maintainer.finish_cancelling()
        taken = Outcome(Phase.MESSAGE, reply=Reply(250, ("ok",)))
        for one, outcome in zip(held, [taken, taken, FULL, FULL, taken], strict=True):
            await works.settler.take(Attempt(one, outcome, ""))
        await works.settler.drained()
    assert (await plant.campaigns.get(OWNER, name)).finished_at is None
    await plant.maintainer.finish_cancelling()
    view = await plant.campaigns.get(OWNER, name)
    assert (view.delivered, view.cancelled, view.state, view.finished_at is not None) == (3, 2, "cancelled", True)
    await plant.database.read(check_laws)


async def test_a_finished_campaign_cannot_be_steered(plant: Plant) -> None:
    await plant.manager.suppress(OWNER, "gone@x.example", None, "x")
    answer = await plant.upload("gone@x.example")
    assert answer.campaign
    for steer in (
        plant.campaigns.resume(OWNER, answer.campaign.campaign),
        plant.campaigns.pause(OWNER, answer.campaign.campaign, ""),
        plant.campaigns.cancel(OWNER, answer.campaign.campaign),
    ):
        with pytest.raises(ConflictError, match="finished") as caught:
            await steer
        assert caught.value.mend


async def test_other_tenants_see_nothing(plant: Plant) -> None:
    name = await campaign(plant)
    stranger = Actor(TenantId(2))
    asks: list[Callable[[], Any]] = [
        lambda: plant.campaigns.get(stranger, name),
        lambda: plant.campaigns.pause(stranger, name, ""),
        lambda: plant.campaigns.cancel(stranger, name),
        lambda: plant.campaigns.report(stranger, name),
        lambda: plant.campaigns.get(OWNER, "cmp_0000000000007"),
    ]
    for ask in asks:
        with pytest.raises(NotFoundError):
            await ask()
    assert (await plant.campaigns.list(stranger, None, 9)).items == []
    with pytest.raises(InputError, match="cmp_X"):
        await plant.campaigns.get(OWNER, "nonsense")


async def test_a_list_that_is_still_loading_is_no_campaign_yet(plant: Plant) -> None:
    one = await plant.open()
    await one.add([RecipientRow(2, "a@x.example", {})], [])
    assert (await plant.campaigns.list(OWNER, None, 9)).items == []
    await one.seal()
    assert len((await plant.campaigns.list(OWNER, None, 9)).items) == 1


async def test_campaigns_in_pages_newest_first(plant: Plant) -> None:
    names = [await campaign(plant, name=f"c{number}") for number in range(3)]
    first = await plant.campaigns.list(OWNER, None, 2)
    assert [one.campaign for one in first.items] == names[:0:-1]
    second = await plant.campaigns.list(OWNER, first.next, 2)
    assert [one.campaign for one in second.items] == names[:1]
    assert second.next is None


# By the clock


async def test_a_scheduled_campaign_starts_by_the_clock(plant: Plant) -> None:
    name = await campaign(plant, send_at_ms=NOW_MS + 60_000)
    await plant.maintainer.start_scheduled()
    assert (await plant.campaigns.get(OWNER, name)).state == "scheduled"
    assert await plant.claim_all(1) == []
    plant.clock.skip(60)
    assert (await plant.campaigns.get(OWNER, name)).state == "sending", "shown at once"
    await plant.maintainer.start_scheduled()
    await plant.maintainer.start_scheduled()
    assert (await plant.kinds()).count("campaign_started") == 1
    assert len(await plant.claim_all(1)) == 5


async def test_a_scheduled_campaign_that_is_paused_and_resumed_is_scheduled_again(plant: Plant) -> None:
    name = await campaign(plant, send_at_ms=NOW_MS + 60_000)
    await plant.campaigns.pause(OWNER, name, "wait")
    assert (await plant.campaigns.resume(OWNER, name)).state == "scheduled"
    plant.clock.skip(60)
    await plant.maintainer.start_scheduled()
    assert (await plant.campaigns.get(OWNER, name)).state == "sending"
    assert (await plant.kinds()).count("campaign_started") == 1


@pytest.mark.parametrize("steer", ["cancel", "pause"])
async def test_the_clock_does_not_undo_what_a_person_did_meanwhile(plant: Plant, steer: str) -> None:
    name = await campaign(plant, send_at_ms=NOW_MS + 60_000)
    plant.clock.skip(60)

    class Meanwhile:
        """The person is quicker than the write that follows the read. No door of its own."""

        commits = jobs = 0

        def on_wake(self, callback: Callable[[], None]) -> None:
            plant.database.on_wake(callback)

        def close(self) -> None:
            pass

        async def trouble(self) -> str:
            return await plant.database.trouble()

        async def read(self, work: Callable[[Tx], Any]) -> Any:
            found = await plant.database.read(work)
            await (
                plant.campaigns.cancel(OWNER, name) if steer == "cancel" else plant.campaigns.pause(OWNER, name, "no")
            )
            return found

        async def write(self, work: Callable[[Tx], Any]) -> Any:
            return await plant.database.write(work)

    await Maintainer(Meanwhile(), plant.folder, plant.clock).start_scheduled()
    assert (await plant.campaigns.get(OWNER, name)).state == ("cancelled" if steer == "cancel" else "paused")
    assert await plant.claim_all(1) == []


async def test_sealing_that_an_entrance_left_half_done_is_gone_on_with(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaigns, "SEAL_STEP", 2)
    one = await plant.open()
    await one.add([RecipientRow(line, address, {}) for line, address in enumerate(ADDRESSES, start=2)], [])
    ((first, last, number),) = await plant.rows("SELECT min(id), max(id), max(campaign_id) FROM delivery")

    def decide(tx: Tx) -> None:
        found = campaigns.get(tx, number)
        assert found
        campaigns.seal(tx, found._replace(rows=5, first_delivery_id=first, last_delivery_id=last))
        campaigns.go_on_sealing(tx, number, now_ms=NOW_MS)

    await plant.database.write(decide)  # and here the entrance dies
    await discard_unsealed(plant.database)
    for _ in range(5):
        await plant.maintainer.finish_sealing()
    assert (await plant.kinds()).count("accepted") == 5
    (view,) = (await plant.campaigns.list(OWNER, None, 9)).items
    assert (view.state, view.queued) == ("sending", 5)
    await plant.database.read(check_laws)


async def test_a_list_that_was_never_taken_whole_is_discarded_at_the_next_start(plant: Plant) -> None:
    name = await campaign(plant)
    before = await plant.counts()
    one = await plant.open()
    await one.add([RecipientRow(2, "a@x.example", {})], [])
    await discard_unsealed(plant.database)
    await discard_unsealed(plant.database)
    assert await plant.counts() == before
    assert (await plant.campaigns.get(OWNER, name)).queued == 5


async def test_one_kind_of_periodic_work_that_fails_does_not_stop_the_others(plant: Plant) -> None:
    import asyncio

    name = await campaign(plant)
    await plant.campaigns.cancel(OWNER, name)
    done = asyncio.Event()

    class Failing(Maintainer):
        async def finish_cancelling(self) -> None:
            raise ZeroDivisionError

        async def reap_leases(self) -> None:
            done.set()

    stop = asyncio.Event()
    task = asyncio.create_task(Failing(plant.database, plant.folder, plant.clock).run(stop))
    await asyncio.wait_for(done.wait(), 20)
    stop.set()
    await asyncio.wait_for(task, 20)
