"""A PostgreSQL server of the tests' own: started in a temporary folder on a free port, by a user who may, and stopped at the end."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from tests.ports import free_port

T = TypeVar("T")
MEMORY = "/dev/shm"
INITDB = ("-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8")
COMMON = (
    "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 120\nshared_buffers = 64MB\n"
    "log_min_messages = warning\nmax_wal_size = 256MB\n"
)


def programs() -> Path:
    """The folder of the newest server programs of this machine; without one the test fails, it does not pass by."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    assert found, "PostgreSQL is not installed: run scripts/install-database"
    return found[-1].parent


class Cluster:
    """One server, kept in memory where the machine can, so that its syncs cost nothing."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailfleet-pg-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
        self.data = self.folder / "data"
        self.password = secrets.token_hex(8)
        self._as: list[str] = []
        if os.getuid() == 0:  # the server refuses to run as root
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
            shutil.chown(self.folder, "postgres", "postgres")
        secret = self.folder / "secret"
        secret.write_text(self.password)
        if self._as:
            shutil.chown(secret, "postgres")
        self._run("initdb", "-N", "-D", str(self.data), "-U", "mailfleet", f"--pwfile={secret}", *INITDB)
        self.port = free_port()
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(COMMON + f"port = {self.port}\n")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, str(programs() / program), *arguments], cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        log = str(self.folder / "log")
        command = [*self._as, str(programs() / "pg_ctl"), "start", "-w", "-t", "60", "-D", str(self.data), "-l", log]
        # The server keeps what it inherits: a pipe of ours would never end.
        done = subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert done.returncode == 0, (self.folder / "log").read_text()

    def stop(self, mode: str = "fast") -> None:
        """``fast`` ends connections and writes down what is open; ``immediate`` is as if the power went."""
        self._run("pg_ctl", "stop", "-w", "-D", str(self.data), "-m", mode)

    def url(self, database: str = "postgres") -> str:
        """Where a database of it is."""
        return f"postgresql://mailfleet:{self.password}@127.0.0.1:{self.port}/{database}"

    def command(self, *statements: str, database: str = "postgres") -> None:
        """Run statements, each by itself."""

        async def run() -> None:
            connection = await asyncpg.connect(self.url(database))
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        wait(run())

    def create(self, name: str, template: str = "template1") -> str:
        """A new database; its URL."""
        self.command(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        self.command(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def remove(self) -> None:
        """Stop it and leave nothing."""
        self.stop("immediate")
        shutil.rmtree(self.folder)


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a thread of its own: tests that await have a loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def fetch(url: str, sql: str) -> list[tuple[Any, ...]]:
    """What a database says."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()
