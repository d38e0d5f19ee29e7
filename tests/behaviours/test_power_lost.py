"""The folder as a disk holds it when the power goes in the middle of a campaign, and starts from what is left of it.

All processes stand still while it is copied, so it is the state of one instant. What was committed was synced; the journal
was not, so the copies differ in how much of it is left.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from mailfleet.base import ids
from mailfleet.engine.journal import replay
from tests.behaviours.live import Live
from tests.behaviours.network import Network
from tests.behaviours.peer import Peer
from tests.behaviours.server import wait_until

RECIPIENTS, SITES, CONNECTIONS = 900, 3, 2
MOST_IN_A_LANE = 2 * 200  # of each priority
SEED = int(os.environ.get("KILL_SEED", "7"))
SETTINGS = {"delivery": {"connections_per_site": CONNECTIONS, "time_scale": 60}}
RNG = random.Random(SEED)


def keep_all(path: Path) -> None:
    """The disk had everything."""


def keep_nothing(path: Path) -> None:
    """Not one page of the journal had been written back, and its file not even made."""
    path.unlink()


def keep_some(path: Path) -> None:
    """It ends anywhere, within a line too, and of what its length says some blocks were not written."""
    data = bytearray(path.read_bytes())[: RNG.randrange(path.stat().st_size + 1)]
    start = RNG.randrange(len(data) + 1)
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    path.write_bytes(data)


KEPT: tuple[Callable[[Path], None], ...] = (keep_all, keep_nothing, keep_some)


def copy_of(source: Path, target: Path, keep: Callable[[Path], None]) -> None:
    """What is on the disk. The shared memory of the database is not, and a write was under way behind its log."""
    (target / "run").mkdir(parents=True)
    for name in ("mailfleet.db", "mailfleet.db-wal", "master.key", "kind", "connection.json"):
        shutil.copy2(source / name, target)
    with (target / "mailfleet.db-wal").open("ab") as log:
        log.write(RNG.randbytes(RNG.randrange(10_000)))
    for path in (source / "run").glob("journal-*"):
        keep(Path(shutil.copy2(path, target / "run")))


def stand_still(group: int) -> None:
    """Stop all processes of a group; over when every thread of them stands, those that were at the disk included."""
    os.killpg(group, signal.SIGSTOP)

    def moving() -> list[Path]:
        found = []
        for path in Path("/proc").glob("[0-9]*/task/*/stat"):
            with contextlib.suppress(OSError):
                state, _, its_group, *_ = path.read_text().rpartition(")")[2].split()
                found += [path] if int(its_group) == group and state not in "TZ" else []
        return found

    wait_until(lambda: not moving())


def took(peers: list[Peer]) -> Counter[str]:
    """Recipient -> how often it was taken."""
    return Counter(re.findall("<(.*)>", message.rcpt)[0] for peer in peers for message in peer.messages)


@pytest.mark.timeout(180)
def test_starts_from_what_is_left(tmp_path: Path, network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    peers = [network.peer() for _ in range(SITES)]
    for number, peer in enumerate(peers):
        network.mail_domain(f"d{number}.test", (10, peer.host))
    people = [f"p{number}@d{number % SITES}.test" for number in range(RECIPIENTS)]
    first = Live(tmp_path / "first", network, SETTINGS)
    with first:
        first.add_domain("shop.test")
        campaign = first.campaign(people, **{"from": "news@shop.test"})["campaign"]
        singles: list[str] = []
        while len(took(peers)) < RECIPIENTS // 3:
            singles.append(f"single{len(singles)}@d{len(singles) % SITES}.test")
            first.message(singles[-1], **{"from": "shop@shop.test"})
        assert first.process is not None
        stand_still(first.process.pid)
        copies = [Live(tmp_path / keep.__name__, network, SETTINGS) for keep in KEPT]
        for copy, keep in zip(copies, KEPT, strict=True):
            copy_of(first.data, copy.data, keep)
        run, leases = first.data / "run", first.rows("SELECT id, slot FROM lease")
        os.killpg(first.process.pid, signal.SIGKILL)
        on_record = [replay(run, slot, lease) for lease, slot in leases]
    wait_until(lambda: not any(peer.open_now for peer in peers))  # what was on the wire has come
    before = took(peers)
    assert set(before.values()) == {1}
    for copy, keep in zip(copies, KEPT, strict=True):
        for peer in peers:
            peer.messages.clear()
        repeats = check_start(copy, peers, campaign, before, {*people, *singles})
        if keep is keep_all:
            assert repeats <= {ids.public("dlv", one) for left in on_record for one in left.on_wire}
            assert len(repeats) <= SITES * CONNECTIONS
        with capsys.disabled():
            print(f"\n  seed {SEED}, {keep.__name__}: {len(before)} sent before, {len(repeats)} of them again", end="")


def check_start(copy: Live, peers: list[Peer], campaign: str, before: Counter[str], everybody: set[str]) -> set[str]:
    """Start from a copy: all is delivered, and what went twice had been under lease and says so. Those deliveries."""
    leased = {
        ids.public("dlv", row[0]): row[1] for row in copy.rows("SELECT id, address FROM delivery WHERE state = 2")
    }
    assert len(leased) <= SITES * (MOST_IN_A_LANE + CONNECTIONS), "the bound of docs/life-of-a-message.md"
    with copy:
        view = copy.wait_campaign(campaign)
        assert view["delivered"] == RECIPIENTS
        wait_until(lambda: everybody <= {row[0] for row in copy.rows("SELECT address FROM delivery WHERE state = 3")})
        after = took(peers)
        assert set(before) | set(after) == everybody
        assert set(after.values()) == {1}
        events = copy.events()
        told = {str(event["delivery"]) for event in events if event["kind"] == "repeat_possible"}
        ends = Counter(event["delivery"] for event in events if event["kind"] == "delivered")
        assert set(ends.values()) == {1}
        assert len(ends) == len(everybody)
        repeats = {delivery for delivery, address in leased.items() if address in before and address in after}
        assert set(before) & set(after) == {leased[one] for one in repeats}, "nothing else goes twice"
        assert repeats <= told
        assert copy.stop() == 0
    return repeats
