"""The numbers of a role are handed on by a file: whole or not at all, and old ones are told from fresh ones."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mailfleet.base.gauges import Series
from mailfleet.engine import snapshots

SERIES = [Series("taken_total", ("delivered", "gmail"), 3), Series("wait_seconds", (), 0.5, (0, 1, 0), (0.125, 1))]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    snapshots.write(tmp_path, "front", SERIES)
    found = snapshots.read(tmp_path, "front")
    assert found is not None
    assert list(found.series) == SERIES
    assert found.alive
    assert snapshots.read(tmp_path, "jobs") is None


def test_a_role_that_fell_silent_is_not_alive(tmp_path: Path) -> None:
    snapshots.write(tmp_path, "front", SERIES)
    then = time.time() - snapshots.STALE_AFTER_S - 1
    os.utime(snapshots.path_of(tmp_path, "front"), (then, then))
    found = snapshots.read(tmp_path, "front")
    assert found is not None
    assert not found.alive
    assert list(found.series) == SERIES, "its counts stand all the same"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"series": 5}',
        b'{"series": [[1, 2]]}',
        b'{"series": [["taken_total", [], "seven", [], []]]}',
        b"\xff",
        b" " * (snapshots.MAX_FILE_BYTES + 1),
    ],
)
def test_a_damaged_file_is_as_none(tmp_path: Path, content: bytes) -> None:
    snapshots.path_of(tmp_path, "front").write_bytes(content)
    assert snapshots.read(tmp_path, "front") is None


def test_a_role_that_cannot_write_is_alive_all_the_same(tmp_path: Path) -> None:
    snapshots.write(tmp_path, "front", SERIES)
    path = snapshots.path_of(tmp_path, "front")
    os.utime(path, (1, 1))
    path.with_suffix(".new").mkdir()  # nothing can be written there, whoever asks
    with pytest.raises(OSError, match="directory"):
        snapshots.write(tmp_path, "front", SERIES)
    found = snapshots.read(tmp_path, "front")
    assert found is not None
    assert found.alive
