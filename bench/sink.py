"""Where mail ends: Postfix's ``smtp-sink``, one that counts what arrives and one that keeps it for verification."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.processes import BenchError, greets, program, running, wait_until

MAIL_PEERS = "scripts/install-mail-peers"
LOOK_EVERY_S = 0.01


@dataclass(frozen=True)
class Span:
    """Two looks at the counter, the first and the last of a batch; times are ``time.monotonic()``."""

    first_s: float
    first_count: int
    last_s: float
    last_count: int

    @property
    def rate(self) -> float:
        """Messages a second between the two looks."""
        return (self.last_count - self.first_count) / max(self.last_s - self.first_s, LOOK_EVERY_S)


class Sink:
    """A sink that counts. It says so after every message; this reads it a hundred times a second, not to disturb."""

    def __init__(self, output_fd: int, port: int) -> None:
        self.port = port
        self.count = 0
        self._looks: list[tuple[float, int]] = []
        self._fd = output_fd
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        pending = b""
        while data := os.read(self._fd, 1 << 20):
            pending = (pending + data)[-400:]
            if found := re.findall(rb"mesg=(\d+)\r", pending):
                self.count = int(found[-1])
                self._looks.append((time.monotonic(), self.count))
            time.sleep(LOOK_EVERY_S)

    def span(self, before: int, until: int) -> Span:
        """From the first message after ``before`` to the one that made the count ``until``."""
        looks = [look for look in list(self._looks) if look[1] > before]
        last = next(look for look in looks if look[1] >= until)
        return Span(*looks[0], *last)

    def wait(self, until: int, alive: Callable[[], None], stall_s: float = 60) -> None:
        """Until the count is ``until``. ``alive`` raises when who sends has failed; so does a count that stands still."""
        seen, moved_s, asked_s = self.count, time.monotonic(), 0.0
        while self.count < until:
            if time.monotonic() - asked_s > 0.5:
                alive()
                asked_s = time.monotonic()
            if self.count != seen:
                seen, moved_s = self.count, time.monotonic()
            if time.monotonic() - moved_s > stall_s:
                raise BenchError(f"nothing has arrived for {stall_s:.0f} s; {until - seen} messages are missing")
            time.sleep(0.02)


@contextlib.contextmanager
def counting_sink(address: str, port: int, folder: Path) -> Iterator[Sink]:
    """An ``smtp-sink`` that takes everything, forgets it and counts it."""
    reading, writing = os.pipe()
    with _sink(["-c"], address, port, folder, stdout=writing):
        os.close(writing)
        yield Sink(reading, port)
    # the reading end goes with the process: the thread may still be in it


@contextlib.contextmanager
def keeping_sink(address: str, port: int, folder: Path) -> Iterator[Path]:
    """An ``smtp-sink`` that keeps each message in a file of its own. Yields their folder."""
    kept = folder / "kept"
    kept.mkdir()
    kept.chmod(0o777)
    with _sink(["-d", f"{kept}/mail."], address, port, folder):
        yield kept


@contextlib.contextmanager
def _sink(options: list[str], address: str, port: int, folder: Path, **more: object) -> Iterator[None]:
    log = folder / f"sink-{address}.log"
    # -m: 256 open connections would be a limit of the sink and not of who sends
    command = [program("smtp-sink", MAIL_PEERS), *options, "-m", "15000", "-u", "nobody", f"{address}:{port}", "4096"]
    with running(command, log, **more) as process:
        wait_until(lambda: greets(port, address), process, "smtp-sink", lambda: log.read_text())
        yield
