"""Ports for what tests start."""

from __future__ import annotations

import contextlib
import socket


def free_port(*hosts: str) -> int:
    """A port that nobody has on any of ``hosts`` (127.0.0.1 when none is given), over TCP and UDP."""
    while True:
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            port = 0
            for host in hosts or ("127.0.0.1",):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    probe = held.enter_context(socket.socket(type=kind))
                    probe.bind((host, port))
                    port = port or int(probe.getsockname()[1])
            return port
