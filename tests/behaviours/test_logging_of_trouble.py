"""What a process logs while everything goes wrong: not thousands of lines of one kind, and never a crash of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson

PROGRAM = """
import pathlib, sys, structlog
from mailfleet.app import logs
logs.set_up(pathlib.Path(sys.argv[1]), "deliver-0", "info")
log = structlog.get_logger()
for number in range(1000):
    log.error("settling waits", number=number)
    log.info("told", number=number)
logs.BURST_WINDOW_S = 0
log.error("settling waits", number=1000)
"""


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, check=True)


def test_of_a_thousand_equal_warnings_some_are_logged_and_the_rest_is_counted(tmp_path: Path) -> None:
    terminal = run(tmp_path).stderr.splitlines()
    lines = [orjson.loads(line) for line in (tmp_path / "deliver-0.log").read_text().splitlines()]
    waits = [line for line in lines if line["event"] == "settling waits"]
    assert [line["number"] for line in waits] == [*range(10), 1000]
    assert waits[-1]["left_out"] == 990
    assert len(terminal) == len(waits)
    assert len(lines) - len(waits) == 1000, "what is no warning is left alone"


def test_a_log_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "deliver-0.log").symlink_to("/dev/full")
    terminal = run(tmp_path).stderr
    assert terminal.count("cannot be written: No space left on device") == 1
    assert "settling waits" in terminal
    assert "Traceback" not in terminal
