"""A private mail network on loopback for measuring: names, a sink that counts, a sink whose mail is verified."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.names import CHECKING, COUNTING
from bench.processes import free_port, running, work_folder
from bench.sink import Sink, counting_sink, keeping_sink

DOMAINS = 50


@dataclass(frozen=True)
class Network:
    """What every system of a scenario delivers to."""

    dns_port: int
    port: int  # of every mail host
    sink: Sink
    kept: Path  # messages for verification, one a file
    folder: Path


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Start it."""
    with work_folder("network") as folder, contextlib.ExitStack() as stack:
        dns_port, port = free_port(socket.SOCK_DGRAM), free_port()
        names = [sys.executable, "-m", "bench.names", str(dns_port)]
        stack.enter_context(running(names, folder / "names.log"))
        sink = stack.enter_context(counting_sink(COUNTING, port, folder))
        kept = stack.enter_context(keeping_sink(CHECKING, port, folder))
        yield Network(dns_port, port, sink, kept, folder)
