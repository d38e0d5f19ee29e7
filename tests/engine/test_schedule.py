"""Claiming: whose turn it is, what the urgent may do, and that nobody is mailed who must not be."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from mailfleet.base.errors import CommitUnknownError
from mailfleet.engine import locate, schedule, take
from mailfleet.engine import orders as orders_module
from mailfleet.engine.limits import LaneLimits
from mailfleet.store import sites, tenants
from mailfleet.store.database import Tx
from tests.engine.plant import LITERAL, OWNER, Plant, Works, running, until
from tests.engine.test_lane import Host
from tests.net.scripted_peer import scripted
from tests.store.rows import check_laws


def addresses(who: str, count: int) -> list[str]:
    return [f"{who}{number}@{LITERAL}" for number in range(count)]


async def scanned(plant: Plant, works: Works) -> None:
    """What waits is known, every domain located."""
    await plant.locate_all()
    await works.scheduler._scan()
    await works.scheduler._orders()  # makes the lanes


async def orders(works: Works) -> dict[str, int]:
    """What would be claimed now: campaign or stream name -> deliveries."""
    names = {0: ""} | {row[0]: row[1] for row in await works.plant.rows("SELECT flow_id, name FROM campaign")}
    found: Counter[str] = Counter()
    for order in await works.scheduler._orders():
        found[names.get(order.backlog.flow_id, "single")] += order.limit
    return dict(found)


async def test_campaigns_share_a_lane_by_weight(plant: Plant) -> None:
    works = await Works(plant).start()
    await plant.upload(*addresses("a", 40), name="first")
    await plant.upload(*addresses("b", 40), name="second")
    await scanned(plant, works)
    found = await orders(works)
    assert found == {"first": 8, "second": 8}, "the first come is not the only served"
    await plant.database.write(
        lambda tx: tx.run("UPDATE flow SET weight = 3 WHERE campaign_id <> 0 AND id = (SELECT max(id) FROM flow)")
    )
    plant.clock.skip(10)
    found = await orders(works)
    assert found == {"first": 4, "second": 12}


async def test_over_some_turns_the_lightest_among_many_is_served(plant: Plant) -> None:
    works = await Works(plant).start()
    for number in range(30):
        await plant.upload(*addresses(f"c{number}-", 3), name=f"c{number}")
    await plant.locate_all()
    served: set[str] = set()
    for _ in range(30):
        await works.scheduler._scan()
        served |= set(await orders(works))
    assert len(served) == 30


async def test_the_urgent_are_claimed_first_and_have_room_of_their_own(plant: Plant) -> None:
    works = await Works(plant).start()
    await plant.upload(*addresses("bulk", 100), name="big")
    await scanned(plant, works)
    (lane,) = works.scheduler.lanes.all
    works.limits = lane.limits = LaneLimits(0, 1, 1)
    lane.allowed = 0  # nobody works it off
    await works.scheduler._claim()
    assert lane.held == lane.target
    assert await orders(works) == {}
    await plant.send(f"reset@{LITERAL}")
    await scanned(plant, works)
    assert await orders(works) == {"single": lane.target}


@pytest.mark.parametrize("steer", ["pause", "cancel"])
async def test_what_does_not_run_takes_no_share(plant: Plant, steer: str) -> None:
    works = await Works(plant).start()
    await plant.upload(*addresses("a", 40), name="stopped")
    await plant.upload(*addresses("b", 40), name="running")
    await scanned(plant, works)
    (page,) = [(await plant.campaigns.list(OWNER, None, 9)).items]
    (stopped,) = [one.campaign for one in page if one.name == "stopped"]
    await (plant.campaigns.pause(OWNER, stopped, "") if steer == "pause" else plant.campaigns.cancel(OWNER, stopped))
    plant.clock.skip(10)
    assert await orders(works) == {"running": 16}


async def test_retries_and_fresh_mail_of_a_campaign_take_turns(plant: Plant) -> None:
    works = await Works(plant).start()
    await plant.upload(*addresses("a", 60), name="one")
    await plant.database.write(lambda tx: tx.run("UPDATE delivery SET way = 1 WHERE address LIKE 'a1%'"))
    await scanned(plant, works)
    limits = Counter({order.backlog.way: order.limit for order in await works.scheduler._orders()})
    assert limits == {0: 8, 1: 8}


async def test_what_is_not_due_is_not_claimed(plant: Plant) -> None:
    works = await Works(plant).start()
    await plant.send(f"a@{LITERAL}", send_at_ms=plant.clock.now_ms() + 5000)
    await scanned(plant, works)
    assert await orders(works) == {}
    plant.clock.skip(5)
    assert await orders(works) == {"single": 16}


async def test_memory_is_bounded_over_all_lanes(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders_module, "MAX_HELD", 10)
    works = await Works(plant).start()
    await plant.upload(*addresses("a", 100))
    await scanned(plant, works)
    (lane,) = works.scheduler.lanes.all
    lane.allowed = 0
    for _ in range(10):
        await works.scheduler._claim()
    assert works.scheduler.held <= 10 + lane.target


async def test_sites_belong_to_one_slot(plant: Plant) -> None:
    works = await Works(plant).start()
    works.scheduler._sharing._slots = 2
    await plant.upload(*addresses("a", 3))
    site_id = await plant.locate_all()
    for slot in (0, 1):
        works.scheduler._sharing._slot = slot
        await works.scheduler._scan()
        assert bool(works.scheduler._waiting.sites) == (site_id % 2 == slot)


async def test_a_shared_site_is_everybodys_with_a_part_of_its_limits_each(plant: Plant) -> None:
    await plant.upload(*addresses("a", 3))
    site_id = await plant.locate_all()
    await plant.database.write(lambda tx: sites.set_shares(tx, site_id, 3))
    connections = []
    for slot in range(3):
        works = await Works(plant, limits=LaneLimits(10, 100, 5), slot=slot).start()
        works.scheduler._sharing._slots, works.scheduler._sharing._slot = 3, slot
        await works.scheduler._scan()
        lane = await works.scheduler.lanes.of(1, site_id)
        assert lane is not None
        connections.append(lane.limits.connections)
    assert sorted(connections) == [3, 3, 4]
    assert connections[site_id % 3] == 4, "the owner has what cannot be divided"


async def test_a_commit_claims_no_more_than_is_good_for_the_others(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take, "CLAIM_ORDERS", 1)
    monkeypatch.setattr(take, "MAX_CLAIM", 5)
    works = await Works(plant).start()
    await plant.upload(*addresses("a", 40))
    await plant.upload(*addresses("b", 40))
    await scanned(plant, works)
    (lane,) = works.scheduler.lanes.all
    lane.allowed = 0
    assert await works.scheduler._claim() is True, "the other campaign's turn comes with the next commit"
    assert lane.held == 8
    assert await works.scheduler._claim() is False
    assert lane.held == 16


async def test_a_claim_that_nobody_heard_of_goes_back(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    works = await Works(plant).start()
    await plant.upload(*addresses("a", 30))
    await scanned(plant, works)
    (lane,) = works.scheduler.lanes.all
    lane.allowed = 0
    write = plant.database.write

    async def deaf(work: Callable[[Tx], object]) -> object:
        await write(work)
        raise CommitUnknownError("the server went away")

    with monkeypatch.context() as patched:
        patched.setattr(plant.database, "write", deaf)
        await works.scheduler._claim()
    assert Counter((await plant.states()).values()) == {"leased": 16, "queued": 14}
    assert lane.held == 0
    plant.clock.skip(10)
    await works.scheduler._scan()
    await works.scheduler._claim()
    assert lane.held == 16
    assert Counter((await plant.states()).values()) == {"leased": 16, "queued": 14}
    assert (await plant.kinds()).count("lease_released") == 16
    await plant.database.read(check_laws)


# With everything running


async def test_urgent_mail_wakes_whoever_delivers_it(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked for by the clock: neither its domain nor the mail would be found."""
    monkeypatch.setattr(schedule, "TICK_S", 3600.0)
    monkeypatch.setattr(locate, "TICK_S", 3600.0)
    host = Host()
    async with scripted(host) as server, running(Works(plant, server.port), schedule=True, locate=True):
        for number in range(3):
            await plant.send(f"reset{number}@{LITERAL}")
            await until(lambda number=number: len(host.got) == number + 1)


async def test_a_campaign_and_single_mail_from_the_queue_to_the_host(plant: Plant) -> None:
    host = Host()
    async with scripted(host) as server, running(Works(plant, server.port), schedule=True, locate=True):
        await plant.upload(*addresses("a", 120))
        await plant.send(*addresses("b", 5))
        await until(lambda: len(host.got) == 125)
        await until(lambda: _all(plant, "delivered"))
    assert len({recipient for _, recipient in host.got}) == 125, "each once"
    assert (await plant.kinds()).count("campaign_finished") == 1
    assert "lease_released" not in await plant.kinds()
    await plant.database.read(check_laws)


async def _all(plant: Plant, state: str) -> bool:
    return set((await plant.states()).values()) == {state}


async def test_who_was_suppressed_since_is_not_mailed(plant: Plant) -> None:
    host = Host()
    await plant.upload(*addresses("a", 4))
    await plant.manager.suppress(OWNER, f"a2@{LITERAL}", "bulk", "asked to")
    async with scripted(host) as server, running(Works(plant, server.port), schedule=True, locate=True):
        await until(lambda: _ended(plant, 4))
    assert f"a2@{LITERAL}" not in [recipient for _, recipient in host.got]
    assert (await plant.events(f"a2@{LITERAL}"))[-1] == ("suppressed", {"reason": "manual: asked to"})
    assert (await plant.kinds())[-1] == "campaign_finished"
    await plant.database.read(check_laws)


async def _ended(plant: Plant, count: int) -> bool:
    states = list((await plant.states()).values())
    return sum(state in ("delivered", "suppressed") for state in states) == count


async def test_mail_that_waited_past_its_expiry_is_tried_once(plant: Plant) -> None:
    host = Host()
    await plant.send(f"a@{LITERAL}")
    plant.clock.skip(30 * 86_400)
    async with scripted(host) as server, running(Works(plant, server.port), schedule=True, locate=True):
        await until(lambda: _all(plant, "delivered"))
    assert len(host.got) == 1


async def test_a_stop_hands_back_what_was_claimed(plant: Plant) -> None:
    host = Host()
    host.gate = asyncio.Event()
    await plant.upload(*addresses("a", 60))
    works = Works(plant)
    async with scripted(host) as server:
        works.port = server.port
        async with running(works, schedule=True, locate=True):
            await until(lambda: host.open_now == 2 and works.scheduler.held > 5)
            host.gate.set()
    states = Counter((await plant.states()).values())
    assert states["leased"] == 0
    assert states["delivered"] == len(host.got)
    assert states["delivered"] + states["queued"] == 60
    assert "lease_released" in await plant.kinds()
    await plant.database.read(check_laws)


async def test_pausing_stops_a_campaign_that_is_under_way(plant: Plant) -> None:
    host = Host()
    host.gate = asyncio.Event()
    answer = await plant.upload(*addresses("a", 500))
    assert answer.campaign
    async with scripted(host) as server, running(Works(plant, server.port), schedule=True, locate=True) as works:
        await until(lambda: host.open_now == 2)
        await plant.campaigns.pause(OWNER, answer.campaign.campaign, "wait")
        plant.clock.skip(5)
        held = works.scheduler.held
        host.gate.set()
        await until(lambda: not works.scheduler.held)
        await works.settler.drained()
        await asyncio.sleep(0.3)
        paused_at = len(host.got)
        assert paused_at <= held + 3 + 200
        assert paused_at < 500
        await plant.campaigns.resume(OWNER, answer.campaign.campaign)
        plant.clock.skip(5)
        await until(lambda: len(host.got) == 500)
    assert len({recipient for _, recipient in host.got}) == 500
    ((flow,),) = await plant.rows("SELECT flow_id FROM campaign")
    assert await plant.database.read(lambda tx: tenants.flow(tx, flow))
