"""A PostgreSQL cluster of its own, on a free port of loopback, as durable as it comes."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bench.processes import BenchError, free_port, running, tail, wait_until, work_folder
from mailfleet.config.settings import Settings

USER = "postgres"  # PostgreSQL refuses to run as root
DURABILITY = (
    "PostgreSQL fsync=on, synchronous_commit=on: accepted and settled only after the write-ahead log is on disk"
)
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "max_connections": "100",
}


def programs() -> Path:
    """The folder of the newest installed version. Raises ``BenchError`` when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise BenchError("PostgreSQL is missing: run scripts/install-bench-peers as root")
    return found[-1].parent


def require_setting() -> None:
    """Raises ``BenchError`` while Mailfleet has no setting for the database to use."""
    section = Settings.model_fields.get("database")
    if section is None or "url" not in getattr(section.annotation, "model_fields", {}):
        raise BenchError("this Mailfleet has no setting database.url: it runs on SQLite only")


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Start a cluster with one empty database. Yields its URL."""
    with work_folder("postgresql") as root:
        shutil.chown(root, USER)
        data, log = root / "data", root / "log"
        log.touch()
        shutil.chown(log, USER)
        _as_postgres([str(programs() / "initdb"), "-D", str(data), "-A", "trust", "-E", "UTF8", "--no-locale"])
        port = free_port()
        options = {**SETTINGS, "listen_addresses": "127.0.0.1", "unix_socket_directories": str(root)}
        command = [str(programs() / "postgres"), "-D", str(data), "-p", str(port)]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with running(command, log, user=USER, group=USER, extra_groups=[], cwd=root, env=_environment()) as process:
            wait_until(lambda: _answers(port), process, "PostgreSQL", lambda: tail(log))
            _as_postgres([str(programs() / "createdb"), "-h", "127.0.0.1", "-p", str(port), "mailfleet"])
            yield f"postgresql://{USER}@127.0.0.1:{port}/mailfleet"


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C"}


def _as_postgres(command: list[str]) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        user=USER,
        group=USER,
        extra_groups=[],
        cwd="/",
        env=_environment(),
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{Path(command[0]).name}: {done.stderr.strip()}")


def _answers(port: int) -> bool:
    ready = [str(programs() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return subprocess.run(ready, check=False).returncode == 0
    return False
