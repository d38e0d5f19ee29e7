"""Block lists served by a real DNS server: listed, error codes, silence, a list that answers for everything, and off again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailfleet.config.blocklists import load_blocklists
from mailfleet.config.warmup import load_plans
from mailfleet.engine.blocklists import Blocklists
from mailfleet.engine.fleet import Fleet
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.policy.blocklists import BlockList
from mailfleet.store import brakes, egress, warmups
from tests.engine.plant import DOMAIN, NOW_MS, OWNER, Plant
from tests.engine.test_ways_out import pool
from tests.peers.knot import Knot

ZONE, OTHER_ZONE, DOMAINS = "bl.test", "other.test", "dbl.test"
FREE = ["2.0.0.127 A 127.0.0.2", "*.cutoff A 127.0.0.2"]
LISTED = [*FREE, "11.0.0.127 A 127.0.0.4", '11.0.0.127 TXT "seen in a spam trap at" " noon"']
CODES = {"127.0.0.2": "a spam source", "127.0.0.4": "a hijacked machine"}
ERRORS = {"127.255.255.254": "this resolver is refused"}
IPS = BlockList("ips", "Our list", ZONE, "ip", "rest", codes=CODES, errors=ERRORS, private=True, every_s=3600)
NAMES = BlockList("names", "Our names", DOMAINS, "domain", listed="bad.example", free="good.example")


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    made = Knot(tmp_path / "knot", {ZONE: FREE, OTHER_ZONE: FREE, DOMAINS: ["bad.example A 127.0.1.2"]})
    yield made
    made.close()


def watcher(plant: Plant, knot: Knot, *lists: BlockList, patience_s: float = 10) -> Blocklists:
    querier = DnsQuerier([knot.address], patience_s, plant.clock)
    return Blocklists(
        plant.database,
        querier,
        {one.name: one for one in lists},
        load_plans(),
        clock=plant.clock,
        ids=plant.ids,
        rng=random.Random(1),
        time_scale=1,
    )


async def look(plant: Plant, watching: Blocklists, hours: float = 2) -> None:
    """The next look at everything."""
    plant.clock.skip(hours * 3600)
    await watching.look_now(OWNER)
    await watching.run_due()


async def test_a_listing_opens_an_incident_rests_the_source_and_closes(plant: Plant, knot: Knot) -> None:
    await pool(plant, {11: 1, 12: 1})
    day = NOW_MS // 86_400_000
    pair = warmups.Warmup(11, "gmail", "standard", "warm", 8, 12_500, day, 0, 0, 0, 0, "", NOW_MS)
    await plant.database.write(lambda tx: warmups.put(tx, pair))
    watching = watcher(plant, knot, IPS)
    await look(plant, watching)
    assert (await watching.incidents(OWNER, None, 9))[0] == []

    knot.replace(ZONE, LISTED)
    await look(plant, watching)
    assert (await watching.incidents(OWNER, None, 9))[0] == [], "once may be a mistake"
    await look(plant, watching)
    ((incident,), _) = await watching.incidents(OWNER, None, 9)
    assert (incident.source, incident.state, incident.action) == ("s11", "open", "rest")
    assert (incident.codes, incident.words) == ("127.0.0.4", "seen in a spam trap at noon")
    (brake,) = await plant.database.read(brakes.in_force)
    assert (brake.egress_id, brake.permille, brake.until_ms, brake.origin) == (11, 0, 0, "blocklist")
    assert "127.0.0.11 is on Our list: a hijacked machine" in brake.reason
    await look(plant, watching)
    assert len((await watching.incidents(OWNER, None, 9))[0]) == 1, "it is the same one"

    knot.replace(ZONE, FREE)
    await look(plant, watching)
    await look(plant, watching)
    ((incident,), _) = await watching.incidents(OWNER, None, 9)
    assert (incident.state, incident.ended_why) == ("closed", "no longer on the list, seen twice")
    assert await plant.database.read(brakes.in_force) == []
    (again,) = await plant.database.read(warmups.every)
    assert (again.state, again.stage, again.cap) == ("warming", 4, 1600)
    kinds = [kind for kind in await plant.kinds() if kind.startswith(("listing", "brake"))]
    assert sorted(kinds) == ["brake_off", "brake_on", "listing_closed", "listing_opened"]


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        (["2.0.0.127 A 127.255.255.254"], "this resolver is refused"),
        ([], "does not list 127.0.0.2"),
        (["* A 127.0.0.2"], "it answers for everything"),
        (["* A 198.51.100.7"], "which no block list does"),
    ],
)
async def test_a_list_that_fails_its_test_is_not_believed(plant: Plant, knot: Knot, zone: list[str], said: str) -> None:
    await pool(plant, {11: 1})
    knot.replace(ZONE, [*zone, *(["11.0.0.127 A 127.0.0.4"] if "*" not in "".join(zone) else [])])
    watching = watcher(plant, knot, IPS)
    for _ in range(3):
        await look(plant, watching, 30)
    (view,) = await watching.lists(OWNER)
    assert said in view.believed
    assert (await watching.incidents(OWNER, None, 9))[0] == []
    assert await plant.database.read(brakes.in_force) == []


async def test_silence_neither_opens_nor_closes(plant: Plant, knot: Knot) -> None:
    await pool(plant, {11: 1})
    knot.replace(ZONE, LISTED)
    watching = watcher(plant, knot, IPS)
    await look(plant, watching)
    await look(plant, watching)
    knot.freeze()
    await look(plant, watcher(plant, knot, IPS, patience_s=0.4))
    (view,) = await watching.lists(OWNER)
    assert "no server answered in time" in view.believed
    ((incident,), _) = await watching.incidents(OWNER, None, 9)
    assert incident.state == "open"
    knot.thaw()
    await look(plant, watching)
    (view,) = await watching.lists(OWNER)
    assert (view.believed, view.listed) == ("yes", ["127.0.0.11"])


async def test_a_drained_source_takes_new_mail_again_after_it(plant: Plant, knot: Knot) -> None:
    await pool(plant, {11: 1})
    knot.replace(ZONE, LISTED)
    drains = BlockList("ips", "Our list", ZONE, "ip", "drain", private=True)
    watching = watcher(plant, knot, drains)
    await look(plant, watching)
    await look(plant, watching)
    row = await plant.database.read(lambda tx: egress.by_name(tx, "s11"))
    assert row is not None
    assert (row.state, row.reason[:25]) == ("draining", "127.0.0.11 is on Our list")
    knot.replace(ZONE, FREE)
    await look(plant, watching)
    await look(plant, watching)
    row = await plant.database.read(lambda tx: egress.by_name(tx, "s11"))
    assert row is not None
    assert row.state == "active"


@pytest.mark.parametrize("before", [True, False], ids=["before", "meanwhile"])
async def test_a_source_that_a_person_drains_stays_so_after_it(plant: Plant, knot: Knot, before: bool) -> None:
    await pool(plant, {11: 1})
    fleet = Fleet(plant.database, plant.box, plant.clock)
    knot.replace(ZONE, LISTED)
    watching = watcher(plant, knot, BlockList("ips", "Our list", ZONE, "ip", "drain", private=True))
    if before:
        await fleet.set_state(OWNER, "source", "s11", "draining", "it moves out")
    await look(plant, watching)
    await look(plant, watching)
    if not before:
        plant.clock.skip(60)
        await fleet.set_state(OWNER, "source", "s11", "active", "")
        await fleet.set_state(OWNER, "source", "s11", "draining", "it moves out")
    knot.replace(ZONE, FREE)
    await look(plant, watching)
    await look(plant, watching)
    ((incident,), _) = await watching.incidents(OWNER, None, 9)
    assert incident.state == "closed"
    view = await fleet.egress(OWNER, "source", "s11")
    assert (view.state, view.reason) == ("draining", "it moves out")


@pytest.mark.parametrize("first", [ZONE, OTHER_ZONE])
async def test_a_source_on_two_lists_waits_for_both(plant: Plant, knot: Knot, first: str) -> None:
    await pool(plant, {11: 1})
    for zone in (ZONE, OTHER_ZONE):
        knot.replace(zone, LISTED)
    lists = [BlockList(zone, zone, zone, "ip", "drain", private=True) for zone in (ZONE, OTHER_ZONE)]
    watching = watcher(plant, knot, *lists)
    await look(plant, watching)
    await look(plant, watching)
    for zone, state in ((first, "draining"), ({ZONE: OTHER_ZONE, OTHER_ZONE: ZONE}[first], "active")):
        knot.replace(zone, FREE)
        await look(plant, watching)
        await look(plant, watching)
        row = await plant.database.read(lambda tx: egress.by_name(tx, "s11"))
        assert row is not None
        assert row.state == state


async def test_sending_domains_are_watched_and_told_of(plant: Plant, knot: Knot) -> None:
    knot.replace(DOMAINS, ["bad.example A 127.0.1.2", f"{DOMAIN} A 127.0.1.2"])
    watching = watcher(plant, knot, NAMES)
    await look(plant, watching)
    await look(plant, watching)
    ((incident,), _) = await watching.incidents(OWNER, None, 9)
    assert (incident.target, incident.action, incident.state) == (DOMAIN, "watch", "open")
    assert await plant.database.read(brakes.in_force) == []


def test_the_shipped_lists_are_sound_and_own_ones_go_over_them(tmp_path: Path) -> None:
    shipped = load_blocklists()
    assert {"spamhaus-zen", "barracuda", "spamcop", "mailspike", "psbl", "uceprotect-1", "spamhaus-dbl"} <= set(shipped)
    own = tmp_path / "own.toml"
    own.write_text(
        '[[list]]\nname = "psbl"\noff = true\n[[list]]\nname = "mine"\nzone = "bl.mine.example"\nprivate = true\n'
    )
    found = load_blocklists(own)
    assert "psbl" not in found
    assert found["mine"].private
