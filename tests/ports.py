"""Ports for what tests start."""

from __future__ import annotations

import contextlib
import random
import socket

FIRST, LAST = 10_000, 32_000  # below those that Linux takes for connections: none of these gets there first
_rng = random.SystemRandom()  # workers are forked, and plugins seed the common one
_given: set[int] = set()


def free_port(*hosts: str) -> int:
    """A port that nobody has on any of ``hosts`` (127.0.0.1 when none is given), over TCP and UDP, given out once only."""
    while True:
        port = _rng.randrange(FIRST, LAST)
        if port in _given:
            continue
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for host in hosts or ("127.0.0.1",):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    held.enter_context(socket.socket(type=kind)).bind((host, port))
            _given.add(port)
            return port
