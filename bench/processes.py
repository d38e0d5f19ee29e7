"""Programs that a measurement starts: in a folder of their own, watched, and stopped whatever happens."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

# A real disk: /tmp is memory on many machines, and there a sync costs nothing.
WORK_FOLDER = os.environ.get("MAILFLEET_BENCH_FOLDER", "/var/tmp")
START_WITHIN_S = 60.0


class BenchError(Exception):
    """A measurement that did not happen, with the words of whoever failed."""


def tail(*paths: Path, lines: int = 15) -> str:
    """The last lines of each log that is there."""
    found = []
    for path in paths:
        if path.is_file():
            found += [f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-lines:]]
    return "\n".join(found) or "(no log)"


def program(name: str, script: str) -> str:
    """Where ``name`` is; raises ``BenchError`` that names the script which installs it."""
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")
    if found is None:
        raise BenchError(f"{name} is missing: run {script} as root")
    return found


@contextlib.contextmanager
def work_folder(name: str) -> Iterator[Path]:
    """A folder through which other users' programs can pass; removed at the end."""
    root = Path(tempfile.mkdtemp(prefix=f"mailfleet-bench-{name}-", dir=WORK_FOLDER))
    root.chmod(0o755)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@contextlib.contextmanager
def running(command: Sequence[str], log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` in a session of its own, its words in ``log``; at the end the whole session is stopped."""
    with log.open("ab") as output:
        process = subprocess.Popen(  # type: ignore[call-overload]
            command,
            stdin=subprocess.DEVNULL,
            **{"stdout": output, "stderr": output, "start_new_session": True, **options},
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], patience_s: float = 40) -> None:
    """Ask the session to end; after a while end it."""
    for number, wait_s in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait_s)


def wait_until(
    ready: Callable[[], bool],
    process: subprocess.Popen[bytes],
    name: str,
    log: Callable[[], str],
    within_s: float = START_WITHIN_S,
) -> None:
    """Until ``ready``; raises ``BenchError`` when the process ends or the time runs out first."""
    until_s = time.monotonic() + within_s
    while not ready():
        if process.poll() is not None or time.monotonic() > until_s:
            raise BenchError(f"{name} did not come up; its log:\n{log()}")
        time.sleep(0.05)


def greets(port: int, host: str = "127.0.0.1") -> bool:
    """Does an SMTP server say 220 there?"""
    with contextlib.suppress(OSError), socket.create_connection((host, port), 5) as probe:
        greeting = probe.recv(4)
        probe.sendall(b"QUIT\r\n")
        return greeting.startswith(b"220")
    return False


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM, host: str = "127.0.0.1") -> int:
    """A port nobody uses at the moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
