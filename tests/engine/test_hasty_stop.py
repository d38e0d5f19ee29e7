"""A delivery process that is told to stop while something keeps it waiting: in time, and with the truth about the wire."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from mailfleet.app import compose, deliver
from mailfleet.app.folder import DataFolder
from mailfleet.config.settings import DatabaseSettings, Delivery, Settings
from mailfleet.engine.settle import Settler
from mailfleet.store.database import Place
from tests.engine.plant import LITERAL, Plant, until
from tests.engine.test_lane import Host, addresses
from tests.net.scripted_peer import scripted


@pytest.fixture
def folder(plant: Plant, place: Place, tmp_path: Path) -> DataFolder:
    folder = DataFolder(place.parent if isinstance(place, Path) else tmp_path / "data")
    folder.prepare(sandbox=False)
    folder.master_key.write_bytes(bytes(range(32)))
    return folder


def base(folder: DataFolder, port: int, place: Place) -> compose.Base:
    delivery = Delivery(remote_port=port, loopback_only=True, ipv6=False, connections_per_site=2)
    return compose.base(
        Settings(
            data=folder.root,
            delivery=delivery,
            database=DatabaseSettings(url="" if isinstance(place, Path) else place),
        ),
        folder,
        "deliver",
    )


async def test_what_was_on_the_wire_is_a_possible_repeat_the_rest_just_goes_back(
    plant: Plant, folder: DataFolder, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliver, "GRACE_S", 0.2)
    host = Host()
    host.gate = asyncio.Event()  # never set: no message is answered
    await plant.send(*addresses(5))
    plant.clock.at_ms = 0
    await plant.database.write(lambda tx: tx.run("UPDATE delivery SET expires_ms = 1 << 50"))
    async with scripted(host) as server:
        process, stop = base(folder, server.port, place), asyncio.Event()
        task = asyncio.create_task(deliver.run(process, 0, 1, stop))
        await until(lambda: host.open_now == 2 and any(folder.run.glob("journal-*")))
        await until(lambda: sum(path.read_bytes().count(b"S ") for path in folder.run.glob("journal-*")) == 2)
        stop.set()
        await asyncio.wait_for(task, 20)
        process.database.close()
    assert set((await plant.states()).values()) == {"queued"}
    last = sorted([(await plant.kinds(address))[-1] for address in addresses(5)])
    assert last == ["lease_released"] * 3 + ["repeat_possible"] * 2
    assert await plant.rows("SELECT * FROM lease") == []
    assert list(folder.run.glob("journal-*")) == []


async def test_a_250_that_could_not_be_settled_in_time_is_not_forgotten(
    plant: Plant, folder: DataFolder, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settler is stuck (a disk that is full for a while) when the stop comes."""
    monkeypatch.setattr(deliver, "GRACE_S", 0.2)
    stuck = asyncio.Event()

    async def never(_: object, __: object) -> None:
        await stuck.wait()

    monkeypatch.setattr(Settler, "_commit", never)
    host = Host()
    await plant.send(*addresses(3))
    async with scripted(host) as server:
        process, stop = base(folder, server.port, place), asyncio.Event()
        task = asyncio.create_task(deliver.run(process, 0, 1, stop))
        await until(lambda: len(host.got) == 3)
        await until(lambda: sum(path.read_bytes().count(b"D ") for path in folder.run.glob("journal-*")) == 3)
        stop.set()
        await asyncio.wait_for(task, 20)
        process.database.close()
    assert set((await plant.states()).values()) == {"delivered"}
    assert len(host.got) == 3
    assert LITERAL in addresses(1)[0]
    assert os.listdir(folder.run) == ["deliver-0.lock"]
