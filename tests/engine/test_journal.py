"""The outcome journal: what a killed process leaves, in segments that go away once they are settled."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailfleet.engine import journal
from mailfleet.engine.journal import Journal, replay

STARTED, ACCEPTED, SETTLED = "started", "accepted", "settled"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_said_is_replayed(tmp_path: Path) -> None:
    log = Journal(tmp_path, 2, 31)
    log.started(1)
    log.started(2)
    log.accepted(1, "250 2.0.0 queued as 1\nand more")
    log.started(3)
    found = replay(tmp_path, 2, 31)
    assert found.accepted == {1: "250 2.0.0 queued as 1 and more"}
    assert found.on_wire == {2, 3}
    assert [path.name for path in found.segments] == ["journal-2-31-1"]
    assert replay(tmp_path, 2, 3).segments == replay(tmp_path, 1, 31).segments == ()


def test_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    log = Journal(tmp_path, 0, 1)
    log.accepted(7, "250 ok")
    log.accepted(8, "250 ok")
    log.close()
    path = tmp_path / "journal-0-1-1"
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert set(replay(tmp_path, 0, 1).accepted) <= {7, 8}
    path.write_bytes(whole[:-1])
    assert set(replay(tmp_path, 0, 1).accepted) == {7}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"S ", b"D ", b"1", "\u00b2".encode(), b"\n", b" 250", b"\xff"])).map(b"".join)
)
def test_any_bytes_are_read_without_harm(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "journal-0-1-1").write_bytes(garbage)
    found = replay(tmp_path, 0, 1)
    assert all(0 <= number < 1 << 63 for number in {*found.accepted, *found.on_wire})


def test_segments_are_bounded_and_go_when_they_are_settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_SEGMENT_BYTES", 400)
    log = Journal(tmp_path, 0, 1)
    for number in range(100):
        log.started(number)
        log.accepted(number, "250 ok")
    assert len(files(tmp_path)) > 3
    assert all(path.stat().st_size <= 440 for path in tmp_path.iterdir())
    assert set(replay(tmp_path, 0, 1).accepted) == set(range(100))
    log.settled(list(range(90)))
    assert set(replay(tmp_path, 0, 1).accepted) >= set(range(90, 100))
    assert len(files(tmp_path)) <= 2
    log.settled(list(range(90, 100)))
    assert len(files(tmp_path)) == 1
    log.close()
    assert files(tmp_path) == []


def test_the_segment_in_use_is_emptied_when_nothing_in_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MAX_SEGMENT_BYTES", 1600)
    log = Journal(tmp_path, 0, 1)
    for number in range(500):
        log.started(number)
        log.accepted(number, "250 ok")
        log.settled([number])
    assert files(tmp_path) == ["journal-0-1-1"]
    assert (tmp_path / "journal-0-1-1").stat().st_size <= 140
    log.accepted(1000, "250 ok")
    assert replay(tmp_path, 0, 1).accepted[1000] == "250 ok"


def test_an_end_that_is_written_into_a_later_segment_lets_the_earlier_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MAX_SEGMENT_BYTES", 100)
    log = Journal(tmp_path, 0, 1)
    log.started(1)
    for number in range(2, 40):
        log.started(number)
        log.settled([number])
    assert 1 in replay(tmp_path, 0, 1).on_wire
    log.accepted(1, "250 ok")
    assert "journal-0-1-1" not in files(tmp_path)
    assert replay(tmp_path, 0, 1).accepted == {1: "250 ok"}


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from([STARTED, ACCEPTED, SETTLED]), st.integers(0, 12)), max_size=80))
def test_what_is_not_settled_is_always_replayed(tmp_path: Path, steps: list[tuple[str, int]]) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "MAX_SEGMENT_BYTES", 60)
        log = Journal(tmp_path, 0, 1)
        taken: set[int] = set()
        wire: set[int] = set()
        for verb, number in steps:
            if verb == STARTED and number not in taken:
                log.started(number)
                wire.add(number)
            elif verb == ACCEPTED and number in wire:
                log.accepted(number, "250 ok")
                wire.discard(number)
                taken.add(number)
            elif verb == SETTLED:
                log.settled([number])
                taken.discard(number)
                wire.discard(number)
            found = replay(tmp_path, 0, 1)
            assert taken <= set(found.accepted)
            assert wire <= found.on_wire
        log.settled(list(range(13)))
        log.close()
    assert files(tmp_path) == []


def test_closing_keeps_what_is_not_settled(tmp_path: Path) -> None:
    log = Journal(tmp_path, 0, 1)
    log.accepted(1, "250 ok")
    log.close()
    assert replay(tmp_path, 0, 1).accepted == {1: "250 ok"}
    log.settled([1])
    assert files(tmp_path) == [], "what is settled after all goes too"


def test_a_full_disk_does_not_undo_what_the_remote_took(tmp_path: Path) -> None:
    """The outcome stays in memory and is settled from there; only a crash before that would repeat it."""
    log = Journal(tmp_path, 0, 1)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._segment.descriptor)
    os.close(full)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the number is checked below
        log.started(1)
    assert caught.value.errno == errno.ENOSPC, "nothing goes on the wire that cannot be written down"
    log.accepted(1, "250 ok")
    log.settled([1])


def test_a_disk_that_fills_up_within_a_line_costs_no_other_line(tmp_path: Path) -> None:
    log = Journal(tmp_path, 0, 1)
    log.accepted(1, "250 ok")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log._segment.size + 5, before[1]))
    try:
        with pytest.raises(OSError):  # noqa: PT011 - any number: it must not go on the wire
            log.started(20000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.started(3)
    log.accepted(3, "250 ok")
    log.started(4)
    found = replay(tmp_path, 0, 1)
    assert set(found.accepted) == {1, 3}
    assert 4 in found.on_wire


def test_it_survives_the_process(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from mailfleet.engine.journal import Journal\n"
        "log = Journal(pathlib.Path(sys.argv[1]), 0, 1)\n"
        "for n in range(100):\n"
        "    log.started(n)\n"
        "    log.accepted(n, '250 ok')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -signal.SIGKILL
    assert set(replay(tmp_path, 0, 1).accepted) == set(range(100))
