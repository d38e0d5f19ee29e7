"""The caches: bounded, shared by who asks at once, and fresh enough."""

from __future__ import annotations

import asyncio

import pytest

from mailfleet.engine import catalog
from mailfleet.engine.catalog import Catalog, Fresh
from mailfleet.policy.lifecycle import FlowState
from mailfleet.store import contents, sending, tenants
from mailfleet.store.database import Tx
from tests.engine.plant import DOMAIN, NOW_MS, OWNER, FakeClock, Plant


async def put_contents(plant: Plant, count: int, size: int) -> None:
    info = contents.ContentInfo(from_domain=DOMAIN)

    def put(tx: Tx) -> None:
        for number in range(1, count + 1):
            contents.put(tx, contents.Content(number, 1, "raw", b"x" * size, info), now_ms=NOW_MS)

    await plant.database.write(put)


async def test_contents_are_kept_while_there_is_room(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "MAX_CONTENT_BYTES", 3000)
    await put_contents(plant, 4, 1000)
    kept = [await plant.catalog.content(number) for number in (1, 2, 3)]
    assert [await plant.catalog.content(number) for number in (1, 2, 3)] == kept
    assert all(a is b for a, b in zip(kept, [await plant.catalog.content(n) for n in (1, 2, 3)], strict=True))
    await plant.catalog.content(1)
    await plant.catalog.content(4)
    assert await plant.catalog.content(1) is kept[0], "used last, goes last"
    assert await plant.catalog.content(2) is not kept[1]


async def test_one_content_larger_than_the_room_is_kept_alone(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "MAX_CONTENT_BYTES", 100)
    await put_contents(plant, 2, 1000)
    first = await plant.catalog.content(1)
    assert await plant.catalog.content(1) is first
    await plant.catalog.content(2)
    assert await plant.catalog.content(1) is not first


async def test_who_asks_at_once_shares_one_load_and_takes_its_room_once(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "MAX_CONTENT_BYTES", 3000)
    await put_contents(plant, 3, 1000)
    found = await asyncio.gather(*(plant.catalog.content(1) for _ in range(50)))
    assert len(set(map(id, found))) == 1
    await plant.catalog.content(2)
    await plant.catalog.content(3)
    assert await plant.catalog.content(1) is found[0]


async def test_a_value_is_looked_up_again_when_it_is_stale() -> None:
    clock, asked = FakeClock(), []

    async def load(key: str) -> int:
        asked.append(key)
        await asyncio.sleep(0)
        return len(asked)

    kept: Fresh[str, int] = Fresh(clock, load, fresh_s=10, size=2)
    assert [await kept.get("a"), await kept.get("a")] == [1, 1]
    clock.skip(10.1)
    assert await asyncio.gather(*(kept.get("a") for _ in range(5))) == [2] * 5
    await kept.get("b")
    await kept.get("c")
    assert asked == ["a", "a", "b", "c"]
    assert [await kept.get("b"), await kept.get("c")] == [3, 4]
    assert await kept.get("a") == 5, "the oldest had to go"
    kept.forget("a")
    kept.forget("never there")
    assert await kept.get("a") == 6


async def test_a_load_that_fails_is_tried_again() -> None:
    tries = []

    async def load(key: str) -> int:
        tries.append(key)
        if len(tries) == 1:
            raise ValueError("not now")
        return 7

    kept: Fresh[str, int] = Fresh(FakeClock(), load, fresh_s=10, size=2)
    with pytest.raises(ValueError, match="not now"):
        await kept.get("a")
    assert await kept.get("a") == 7


async def test_who_gives_up_does_not_spoil_it_for_the_others() -> None:
    go = asyncio.Event()

    async def load(key: str) -> int:
        await go.wait()
        return 7

    kept: Fresh[str, int] = Fresh(FakeClock(), load, fresh_s=10, size=2)
    first, second = asyncio.create_task(kept.get("a")), asyncio.create_task(kept.get("a"))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    go.set()
    assert await second == 7


async def test_the_nearest_parent_signs(plant: Plant) -> None:
    await plant.add_domain("news.shop.example", ed25519=True)
    for name, signs, keys in (
        (DOMAIN, DOMAIN, 1),
        ("a.b.shop.example", DOMAIN, 1),
        ("news.shop.example", "news.shop.example", 2),
        ("x.news.shop.example", "news.shop.example", 2),
    ):
        identity = await plant.catalog.identity(name)
        assert identity
        assert (identity.domain.name, len(identity.signers)) == (signs, keys)
    for name in ("example", "other.example", "notshop.example"):
        assert await plant.catalog.identity(name) is None


async def test_a_removed_key_is_noticed(plant: Plant) -> None:
    identity = await plant.catalog.identity(DOMAIN)
    assert identity
    await plant.database.write(lambda tx: sending.remove(tx, identity.domain.id))
    assert await plant.catalog.identity(DOMAIN) is identity
    plant.clock.skip(catalog.KEYS_FRESH_S + 1)
    assert await plant.catalog.identity(DOMAIN) is None


async def test_a_paused_flow_is_noticed(plant: Plant) -> None:
    await plant.upload("a@x.example")
    ((flow_id,),) = await plant.rows("SELECT flow_id FROM campaign")
    view = await plant.catalog.flow(flow_id)
    assert view
    assert (view.stream, view.kind, view.flow.state) == ("bulk", "bulk", FlowState.ACTIVE)
    await plant.database.write(lambda tx: tenants.set_flow_state(tx, flow_id, FlowState.PAUSED))
    plant.clock.skip(catalog.FLOWS_FRESH_S + 1)
    view = await plant.catalog.flow(flow_id)
    assert view
    assert view.flow.state == FlowState.PAUSED
    assert await plant.catalog.flow(1) is None


async def test_an_inactive_key_does_not_sign(plant: Plant) -> None:
    await plant.database.write(lambda tx: tx.run("UPDATE dkim_key SET active = 0"))
    identity = await Catalog(plant.database, plant.box, plant.clock).identity(DOMAIN)
    assert identity
    assert identity.signers == ()
    assert OWNER.tenant_id == identity.domain.tenant_id
