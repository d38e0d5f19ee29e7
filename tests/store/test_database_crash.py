"""Processes that write at once, and processes that are killed: what was answered is there, what was not is whole or absent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
import pytest

WRITER = """
import asyncio, os, pathlib, sys
from mailfleet.store.database import open_database

async def main():
    database = open_database(pathlib.Path(sys.argv[1]))
    who, count = int(sys.argv[2]), int(sys.argv[3])

    def pair(n):
        def work(tx):
            tx.run("INSERT INTO pair (who, n, half) VALUES (?, ?, 1)", (who, n))
            tx.run("INSERT INTO pair (who, n, half) VALUES (?, ?, 2)", (who, n))
        return work

    async def one(n):
        await database.write(pair(n))
        os.write(1, b"%d\\n" % n)  # said only after the commit

    n = 0
    while n < count:
        await asyncio.gather(*(one(k) for k in range(n, n + 25)))
        n += 25
    database.close()

asyncio.run(main())
"""


@pytest.fixture
def pairs(database_path: Path) -> Path:
    connection = apsw.Connection(str(database_path))
    connection.execute("CREATE TABLE pair (who INTEGER, n INTEGER, half INTEGER, PRIMARY KEY (who, n, half))")
    connection.close()
    return database_path


def writer(path: Path, who: int, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(who), str(count)], stdout=subprocess.PIPE)


def stored(path: Path, who: int) -> set[int]:
    """The whole pairs; a half one is a broken promise."""
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    found = connection.execute("SELECT n, count(*) FROM pair WHERE who = ? GROUP BY n", (who,)).fetchall()
    connection.close()
    assert all(halves == 2 for _, halves in found)
    return {int(str(n)) for n, _ in found}


def test_two_processes_write_at_once(pairs: Path) -> None:
    both = [writer(pairs, who, 500) for who in (1, 2)]
    for who, one in enumerate(both, start=1):
        said = {int(line) for line in one.communicate()[0].split()}
        assert one.returncode == 0
        assert said == stored(pairs, who) == set(range(500))


def test_what_a_killed_process_had_acknowledged_is_there(pairs: Path) -> None:
    for who in (1, 2, 3):
        one = writer(pairs, who, 1_000_000)
        assert one.stdout
        said = b"".join(one.stdout.readline() for _ in range(60 * who))
        time.sleep(0.003 * who)
        one.send_signal(signal.SIGKILL)
        rest, _ = one.communicate()
        assert one.returncode == -signal.SIGKILL
        acknowledged = {int(line) for line in (said + rest).rsplit(b"\n", 1)[0].split()}
        assert len(acknowledged) >= 60 * who
        assert acknowledged <= stored(pairs, who)


def test_a_killed_writer_holds_up_nobody(pairs: Path) -> None:
    stuck = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import asyncio, os, pathlib, sys, time\n"
            "from mailfleet.store.database import open_database\n"
            "database = open_database(pathlib.Path(sys.argv[1]))\n"
            "def work(tx):\n"
            "    tx.run('INSERT INTO pair VALUES (9, 9, 1)')\n"
            "    os.write(1, b'in\\n')\n"
            "    time.sleep(600)\n"
            "asyncio.run(database.write(work))\n",
            str(pairs),
        ],
        stdout=subprocess.PIPE,
    )
    assert stuck.stdout
    assert stuck.stdout.readline() == b"in\n"
    waiting = writer(pairs, 1, 25)
    time.sleep(0.2)
    assert waiting.poll() is None or stored(pairs, 1) == set()
    os.kill(stuck.pid, signal.SIGKILL)
    stuck.communicate()
    assert waiting.communicate(timeout=60)[0]
    assert waiting.returncode == 0
    assert stored(pairs, 1) == set(range(25))
    assert stored(pairs, 9) == set()
