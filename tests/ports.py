"""Ports for what tests start."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from functools import cache

FIRST, LAST = 10_000, 32_000  # below those that Linux takes for connections: none of these gets there first
_rng = random.SystemRandom()  # workers are forked, and plugins seed the common one
_given: set[int] = set()


def free_port(*hosts: str) -> int:
    """A port that nobody has on any of ``hosts`` (127.0.0.1 when none is given), over TCP and UDP, given out once only.

    It stays this process's while that runs, whoever listens there meanwhile: no other test process of this machine is given it.
    """
    while True:
        port = _rng.randrange(FIRST, LAST)
        if port in _given or not _kept(port):
            continue
        _given.add(port)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for host in hosts or ("127.0.0.1",):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    held.enter_context(socket.socket(type=kind)).bind((host, port))
            return port


def _kept(port: int) -> bool:
    """Whether it is ours from now on: a lock on one byte of a file, which ends with the process."""
    try:
        fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _locks() -> int:
    """Never closed: that would end every lock."""
    path = os.path.join(tempfile.gettempdir(), f"mailfleet-test-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
