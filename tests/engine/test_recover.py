"""After a crash: what the remote took is delivered, the rest is released, and doing it twice changes nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from mailfleet.engine.journal import Journal
from mailfleet.engine.recover import owner_of, recover_lease, slot_lock
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.store import queue
from tests.engine.plant import LITERAL, NOW_MS, OWNER, Plant
from tests.store.rows import check_laws


async def crashed(plant: Plant, count: int = 6) -> tuple[int, list[queue.Claimed]]:
    """A campaign that is under the lease of a process that is gone; the journal folder is as it left it."""
    await plant.upload(*(f"u{number}@{LITERAL}" for number in range(count)))
    await plant.locate_all()
    lease_id = await plant.database.write(lambda tx: queue.new_lease(tx, "deliver-0", 0, NOW_MS))
    return lease_id, await plant.claim_all(lease_id)


async def test_what_was_taken_is_delivered_and_the_rest_is_released(plant: Plant) -> None:
    lease_id, held = await crashed(plant)
    log = Journal(plant.folder, 0, lease_id)
    for one in held[:4]:
        log.started(one.id)
    log.accepted(held[0].id, "250 2.0.0 queued as X1")
    log.accepted(held[1].id, "250 2.0.0 queued as X2")
    del log
    assert await recover_lease(plant.database, plant.folder, 0, lease_id, plant.clock) == 6
    assert list((await plant.states()).values()) == ["delivered"] * 2 + ["queued"] * 4
    for number, kinds in enumerate(
        [["delivered"], ["delivered"], ["repeat_possible"], ["repeat_possible"], ["lease_released"], ["lease_released"]]
    ):
        assert await plant.kinds(f"u{number}@{LITERAL}") == ["accepted", *kinds]
    kind, data = (await plant.events(f"u0@{LITERAL}"))[-1]
    assert (kind, data) == ("delivered", {"attempt": 1, "reply": "250 2.0.0 queued as X1", "from_journal": True})
    assert list(plant.folder.glob("journal-*")) == []
    assert await plant.database.read(lambda tx: queue.leases_of_slot(tx, 0, 0)) == []
    await plant.database.read(check_laws)


@pytest.mark.parametrize(("elsewhere", "kind"), [(False, "lease_released"), (True, "repeat_possible")])
async def test_of_a_journal_that_may_have_lost_lines_nothing_is_said_to_be_untried(
    plant: Plant, elsewhere: bool, kind: str
) -> None:
    """After a loss of power, or in a copy of the folder, a missing S proves nothing; a D still does."""
    lease_id, held = await crashed(plant, 3)
    log = Journal(plant.folder, 0, lease_id)
    log.accepted(held[0].id, "250 ok")
    del log
    owner = owner_of(plant.folder, 0).replace(" ", " another-start-" if elsewhere else " ", 1)
    await plant.database.write(lambda tx: tx.run("UPDATE lease SET owner = ? WHERE id = ?", (owner, lease_id)))
    await recover_lease(plant.database, plant.folder, 0, lease_id, plant.clock)
    assert await plant.kinds(f"u0@{LITERAL}") == ["accepted", "delivered"]
    assert await plant.kinds(f"u2@{LITERAL}") == ["accepted", kind]


async def test_recovering_twice_changes_nothing(plant: Plant) -> None:
    lease_id, held = await crashed(plant)
    log = Journal(plant.folder, 0, lease_id)
    log.started(held[0].id)
    log.accepted(held[0].id, "250 ok")
    journals = {path: path.read_bytes() for path in plant.folder.glob("journal-*")}
    await recover_lease(plant.database, plant.folder, 0, lease_id, plant.clock)
    states, events = await plant.states(), await plant.events()
    for path, found in journals.items():  # a crash before the files were removed
        path.write_bytes(found)
    assert await recover_lease(plant.database, plant.folder, 0, lease_id, plant.clock) == 0
    assert (await plant.states(), await plant.events()) == (states, events)


async def test_a_crash_between_settling_and_releasing_is_gone_on_with(plant: Plant) -> None:
    lease_id, held = await crashed(plant)
    log = Journal(plant.folder, 0, lease_id)
    for one in held[:3]:
        log.started(one.id)
        log.accepted(one.id, "250 ok")
    settlement = queue.Settlement(held[0], DeliveryState.DELIVERED, 1, NOW_MS, "none", "250 ok", "{}")
    await plant.database.write(lambda tx: queue.settle(tx, [settlement], lease_id=lease_id, now_ms=NOW_MS))
    await plant.database.write(lambda tx: queue.release(tx, lease_id, now_ms=NOW_MS, limit=0))
    assert await recover_lease(plant.database, plant.folder, 0, lease_id, plant.clock) == 5
    assert list((await plant.states()).values()) == ["delivered"] * 3 + ["queued"] * 3
    await plant.database.read(check_laws)


async def test_a_campaign_whose_last_outcome_was_in_the_journal_is_finished(plant: Plant) -> None:
    lease_id, held = await crashed(plant, 2)
    log = Journal(plant.folder, 0, lease_id)
    for one in held:
        log.accepted(one.id, "250 ok")
    await recover_lease(plant.database, plant.folder, 0, lease_id, plant.clock)
    (campaign,) = (await plant.campaigns.list(OWNER, None, 9)).items
    assert (campaign.state, campaign.delivered) == ("finished", 2)


async def test_without_a_journal_everything_is_released(plant: Plant) -> None:
    lease_id, _ = await crashed(plant)
    assert await recover_lease(plant.database, plant.folder, 0, lease_id, plant.clock) == 6
    assert set((await plant.states()).values()) == {"queued"}


async def test_leases_of_slots_that_no_longer_exist_are_reaped(plant: Plant) -> None:
    await crashed(plant)
    await plant.maintainer.reap_leases()
    assert set((await plant.states()).values()) == {"queued"}


@pytest.fixture
def holder(plant: Plant) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the lock of slot 0."""
    hold = (
        "import sys, pathlib\n"
        "from mailfleet.engine.recover import slot_lock\n"
        "with slot_lock(pathlib.Path(sys.argv[1]), 0, wait=True) as held:\n"
        "    print(held, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(plant.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout
    assert holder.stdout.readline() == b"True\n"
    yield holder
    holder.kill()
    holder.communicate()


async def test_a_lease_whose_process_lives_is_left_alone(plant: Plant, holder: subprocess.Popen[bytes]) -> None:
    await crashed(plant)
    with slot_lock(plant.folder, 0, wait=False) as held:
        assert not held
    await plant.maintainer.reap_leases()
    assert set((await plant.states()).values()) == {"leased"}
    holder.kill()  # the kernel lets go of its lock
    holder.communicate()
    await plant.maintainer.reap_leases()
    assert set((await plant.states()).values()) == {"queued"}


async def test_a_lease_that_has_not_run_out_is_left_alone(plant: Plant) -> None:
    lease_id, _ = await crashed(plant)
    await plant.database.write(lambda tx: queue.renew_lease(tx, lease_id, NOW_MS + 1))
    await plant.maintainer.reap_leases()
    assert set((await plant.states()).values()) == {"leased"}
