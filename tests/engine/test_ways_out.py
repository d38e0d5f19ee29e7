"""Several ways out of one pool: weights, what holds one back, what a remote says of an address, and what a warm-up allows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from mailfleet.base.errors import InputError
from mailfleet.config.warmup import load_plans
from mailfleet.engine import braking
from mailfleet.engine.requests import RecipientRow
from mailfleet.engine.warming import forget_idle
from mailfleet.policy.brakes import Decision
from mailfleet.policy.rates import parse
from mailfleet.store import brakes, counts, egress, warmups
from mailfleet.store.database import Tx
from mailfleet.store.egress import DEFAULT_POOL, Egress, Member, Pool
from tests.engine.plant import LIMITS, LITERAL, NOW_MS, Plant, Works, running, until
from tests.engine.test_lane import Host
from tests.net.scripted_peer import Conversation, scripted
from tests.store.rows import check_laws

FREE = replace(LIMITS, connections=3)


class Site(Host):
    """A host that also remembers from which address each message came."""

    def __init__(self, blocked: str = "") -> None:
        super().__init__(self._says)
        self.blocked, self.by_source, self.tries = blocked, Counter[str](), Counter[str]()
        self.sources: dict[int, str] = {}

    async def __call__(self, remote: Conversation) -> None:
        source = remote.writer.get_extra_info("peername")[0]
        number = self.connections + 1
        self.sources[number] = source
        self.tries[source] += 1
        await super().__call__(remote)
        self.by_source[source] += sum(1 for one, _ in self.got if one == number)

    def _says(self, verb: str, connection: int, sent: int) -> str | None:
        blocked = verb == "MAIL" and self.sources[connection] == self.blocked
        return "554 5.7.1 Service unavailable; Client host blocked using zen.spamhaus.org" if blocked else None


def source(number: int, **values: object) -> Egress:
    row = Egress(
        number, "source", f"s{number}", 0, "", f"127.0.0.{number}", "", "", 0, "", "", None, "", "", "active", "", 0, 0
    )
    return row._replace(**values)  # type: ignore[arg-type]  # names and types are the caller's care


async def pool(plant: Plant, weights: dict[int, int], pool_id: int = DEFAULT_POOL) -> None:
    """Sources 127.0.0.N in a pool."""

    def work(tx: Tx) -> None:
        if pool_id != DEFAULT_POOL:
            egress.insert_pool(tx, Pool(pool_id, 0, f"pool{pool_id}", 0, NOW_MS))
        for number in weights:
            egress.insert(tx, source(number))
        egress.set_members(tx, pool_id, [Member(pool_id, number, weight) for number, weight in weights.items()])

    await plant.database.write(work)


async def delivered(plant: Plant, works: Works, site: Site, count: int, recipients: int = 0) -> None:
    await plant.upload(*[f"u{number}@{LITERAL}" for number in range(recipients or count)])
    await plant.locate_all()
    await until(lambda: len(site.got) >= count)
    await works.settler.drained()


def shares(site: Site) -> dict[str, float]:
    return {one: count / sum(site.by_source.values()) for one, count in site.by_source.items()}


async def test_shares_follow_the_weights(plant: Plant) -> None:
    site = Site()
    await pool(plant, {11: 3, 12: 2, 13: 1})
    ample = replace(LIMITS, connections=12)  # with few, one is full on a slow machine, and others get more
    async with scripted(site) as server, running(Works(plant, server.port, ample), schedule=True) as works:
        await delivered(plant, works, site, 600)
    found = shares(site)
    for address, wanted in (("127.0.0.11", 3 / 6), ("127.0.0.12", 2 / 6), ("127.0.0.13", 1 / 6)):
        assert abs(found[address] - wanted) < 0.05, found
    await plant.database.read(check_laws)


async def test_a_slow_source_holds_nobody_up(plant: Plant) -> None:
    site = Site()
    await pool(plant, {11: 1, 12: 1})
    works = Works(plant, limits=FREE)
    await works.start()
    slow = replace(FREE, rates=parse("2/s"))
    works.scheduler.lanes._limits_for = lambda row, provider: slow if row.id == 11 else FREE
    async with scripted(site) as server, running(works, schedule=True):
        works.port = server.port
        await delivered(plant, works, site, 300)
    assert site.by_source["127.0.0.12"] > 250


async def test_paused_and_retired_ways_out_take_nothing(plant: Plant) -> None:
    site = Site()
    await pool(plant, {11: 1, 12: 1, 13: 1})
    for number, state in ((11, "paused"), (12, "retired")):
        await plant.database.write(lambda tx, n=number, s=state: egress.update(tx, source(n, state=s)))  # type: ignore[misc]  # mypy cannot type defaults of a lambda
    async with scripted(site) as server, running(Works(plant, server.port, FREE), schedule=True) as works:
        await delivered(plant, works, site, 30)
    assert set(site.by_source) == {"127.0.0.13"}


async def test_a_blocked_address_is_left_within_one_attempt(plant: Plant) -> None:
    site = Site(blocked="127.0.0.11")
    await pool(plant, {11: 1, 12: 1})
    async with scripted(site) as server, running(Works(plant, server.port, FREE), schedule=True) as works:
        await plant.upload(*[f"u{number}@{LITERAL}" for number in range(40)])
        await plant.locate_all()
        await until(lambda: site.tries["127.0.0.11"])

        def all_are_there() -> bool:
            plant.clock.at_ms += 1000  # until what was put off is due, whenever that was
            return len(site.got) == 40

        await until(all_are_there)
        await works.settler.drained()
    for address in await plant.states():
        kinds = [(kind, data.get("source")) for kind, data in await plant.events(address)]
        tries = [one for one in kinds if one[0] in ("deferred", "delivered")]
        assert tries in ([("delivered", "s12")], [("deferred", "s11"), ("delivered", "s12")]), tries
    (brake,) = await plant.database.read(brakes.in_force)
    assert (brake.action, brake.egress_id, brake.permille, brake.rule) == ("reroute", 11, 0, "address-blocked")
    assert "zen.spamhaus.org" in brake.words
    assert "brake_on" in await plant.kinds()
    await plant.database.read(check_laws)


async def test_what_is_greylisted_comes_back_from_the_same_address(plant: Plant) -> None:
    def says(verb: str, connection: int, sent: int) -> str | None:
        return "451 4.7.1 Greylisted, please try again later" if connection == 1 and verb == "RCPT" else None

    host, seen = Host(says), list[str]()

    async def greylist(remote: Conversation) -> None:
        seen.append(remote.writer.get_extra_info("peername")[0])
        await host(remote)

    await pool(plant, {11: 1, 12: 1, 13: 1})
    async with scripted(greylist) as server, running(Works(plant, server.port, FREE), schedule=True) as works:
        await plant.upload(f"one@{LITERAL}")
        await plant.locate_all()
        await until(lambda: len(seen) == 1)
        await until(lambda: not works.scheduler.lanes.all[0].busy)
        await works.settler.drained()
        plant.clock.at_ms += 3_600_000
        await until(lambda: host.got)
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert await plant.database.read(brakes.in_force) == [], "greylisting is no signal"


@pytest.mark.parametrize("spill", ["later", "overflow"])
async def test_what_is_beyond_a_warm_up_waits_or_overflows(plant: Plant, spill: str) -> None:
    site = Site()
    await pool(plant, {11: 1})
    await pool(plant, {12: 1}, 7)
    day = NOW_MS // 86_400_000

    def work(tx: Tx) -> None:
        egress.set_overflow(tx, DEFAULT_POOL, 7)
        tx.run("UPDATE stream SET spill = ?", (spill,))
        warmups.put(tx, warmups.Warmup(11, "", "standard", "warming", 0, 100, day, 0, 0, 0, 0, "", NOW_MS))

    await plant.database.write(work)
    plant.clock.at_ms += 86_399_000 - NOW_MS % 86_400_000  # the day is nearly over: all of its quota may go
    async with scripted(site) as server, running(Works(plant, server.port, FREE), schedule=True) as works:
        await delivered(plant, works, site, 100 if spill == "later" else 130, recipients=130)
        await until(lambda: works.scheduler.held == 0)
    assert site.by_source["127.0.0.11"] == 100
    assert site.by_source["127.0.0.12"] == (0 if spill == "later" else 30)
    (today,) = await plant.database.read(lambda tx: warmups.today(tx, day))
    assert (today.delivered, today.attempted) == (100, 100)
    (pair,) = await plant.database.read(warmups.every)
    assert pair.reserved == 0


async def test_the_next_day_has_the_next_cap(plant: Plant) -> None:
    site = Site()
    await pool(plant, {11: 1})
    day = NOW_MS // 86_400_000
    pair = warmups.Warmup(11, "", "standard", "warming", 0, 100, day, 0, 0, 0, 0, "", NOW_MS)
    await plant.database.write(lambda tx: warmups.put(tx, pair))
    plant.clock.at_ms += 86_399_000 - NOW_MS % 86_400_000
    async with scripted(site) as server, running(Works(plant, server.port, FREE), schedule=True) as works:
        await delivered(plant, works, site, 100, recipients=400)
        plant.clock.at_ms += 86_400_000
        await until(lambda: len(site.got) == 300)
        await works.settler.drained()
    (moved,) = [one for one in await plant.database.read(lambda tx: warmups.history(tx, 11)) if one.move]
    assert (moved.day, moved.stage, moved.cap, moved.delivered, moved.move) == (day, 0, 100, 100, "up")
    assert "good (100 of 100 delivered): on to 200 a day" in moved.reason
    assert len(site.got) == 300, "the next stage, and not one more"


async def test_a_campaigns_rate_delays_and_loses_nothing(plant: Plant) -> None:
    site = Site()
    await pool(plant, {11: 1, 12: 1})
    await plant.upload(*[f"u{number}@{LITERAL}" for number in range(30)])
    await plant.database.write(lambda tx: tx.run("UPDATE campaign SET rates = '10/h'"))
    async with scripted(site) as server, running(Works(plant, server.port, FREE), schedule=True):
        await plant.locate_all()
        for hour in range(1, 4):
            for _ in range(10):
                plant.clock.at_ms += 360_500
                before = len(site.got)
                await until(lambda before=before: len(site.got) > before or len(site.got) == 30)
            assert 10 * hour <= len(site.got) <= 10 * hour + 1
        await until(lambda: len(site.got) == 30)


async def test_a_stopped_stream_waits_and_others_do_not(plant: Plant) -> None:
    site = Site()
    await pool(plant, {11: 1})
    stop = Decision("stop", 0, 3_600_000, 600_000, "too many complain", "complaints", "", "reputation", stream_id=2)
    await plant.database.write(lambda tx: braking.apply(tx, [stop], plant.ids, now_ms=NOW_MS, scale=1))
    async with scripted(site) as server, running(Works(plant, server.port, FREE), schedule=True) as works:
        await plant.upload(*[f"u{number}@{LITERAL}" for number in range(5)])
        await plant.send(f"reset@{LITERAL}")
        await plant.locate_all()
        await until(lambda: len(site.got) == 1)
        assert site.got[0][1] == f"reset@{LITERAL}"
        (brake,) = await plant.database.read(brakes.in_force)
        await plant.database.write(lambda tx: braking.lift(tx, brake, NOW_MS, "the list was cleaned"))
        await until(lambda: len(site.got) == 6)
        await works.settler.drained()
    assert (await plant.kinds()).count("brake_off") == 1


async def test_who_was_engaged_lately_goes_first(plant: Plant) -> None:
    """So that what a warm-up lets through goes to those who want it."""
    ages = {"never": "", "old": "2025-03-01", "new": "2025-12-30", "newer": "2025-12-31T09:00:00+01:00"}
    upload = await plant.open()
    rows = [
        RecipientRow(n, f"{who}@{LITERAL}", {"engaged_at": day}) for n, (who, day) in enumerate(ages.items(), start=2)
    ]
    await upload.add([*rows, RecipientRow(9, f"odd@{LITERAL}", {"engaged_at": "last week"})], [])
    answer = await upload.seal()
    assert answer.campaign is None, "and a day that is none is named"
    assert (answer.problems[0].line, answer.problems[0].what) == (9, "engaged_at: 'last week' is no day or time")
    upload = await plant.open()
    await upload.add(rows, [])
    await upload.seal()
    plant.clock.at_ms += 1000
    await plant.locate_all()
    claimed = await plant.rows("SELECT address FROM delivery WHERE state = 1 ORDER BY due_ms")
    assert [address.partition("@")[0] for (address,) in claimed] == ["newer", "new", "old", "never"]


async def test_a_campaign_is_made_with_its_rate(plant: Plant) -> None:
    await plant.upload(f"one@{LITERAL}", rates="10/s,  500/h")
    assert await plant.rows("SELECT rates FROM campaign") == [("10/s 500/h",)]
    with pytest.raises(InputError, match="is no rate"):
        await plant.upload(f"one@{LITERAL}", rates="fast")


async def test_a_warm_source_that_was_idle_begins_half_way(plant: Plant) -> None:
    await pool(plant, {11: 1, 12: 1})
    old_ms = NOW_MS - 40 * 86_400_000
    pair = warmups.Warmup(11, "gmail", "standard", "warm", 10, 100_000, 0, 0, 0, 0, 0, "", old_ms)
    busy = counts.Key(NOW_MS // counts.HOUR_MS - 24, 12, "gmail", "", 2, 0, "delivered")

    def work(tx: Tx) -> int:
        warmups.put(tx, pair)
        warmups.put(tx, pair._replace(egress_id=12))
        counts.add(tx, Counter({busy: 1}))
        return forget_idle(tx, load_plans(), NOW_MS, 1)

    assert await plant.database.write(work) == 1
    first, second = await plant.database.read(warmups.every)
    assert (first.state, first.stage, first.cap) == ("warming", 5, 3200)
    assert first.reason == "nothing was sent for 40 days: from here on again"
    assert second.state == "warm"


async def test_a_provider_is_left_alone_as_long_as_it_wants(plant: Plant) -> None:
    host = Host(lambda verb, connection, sent: "451 4.3.0 try later" if verb == "RCPT" else None)
    async with scripted(host) as server, running(Works(plant, server.port, FREE), schedule=True) as works:
        works.settler._retry_floor_s = lambda provider: 7200
        await plant.send(f"one@{LITERAL}")
        await plant.locate_all()
        await until(lambda: host.connections)
        await until(lambda: plant.rows("SELECT 1 FROM delivery WHERE attempts = 1"))
    ((due_ms,),) = await plant.rows("SELECT due_ms FROM delivery")
    assert due_ms >= NOW_MS + 7_200_000
