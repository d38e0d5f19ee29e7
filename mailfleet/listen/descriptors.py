"""File descriptors of the process that listens: the last ones are not given to clients.

Without this the event loop would take a connection with its one spare descriptor and close it without a word, and what
the database or a log wants to open would fail.
"""

from __future__ import annotations

import resource

HEADROOM = 24  # kept for the database, logs and what answers a client that is turned away


def run_out(descriptor: int) -> bool:
    """Whether a connection that was given ``descriptor`` is one too many: the kernel always gives the lowest free one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft != resource.RLIM_INFINITY and descriptor >= soft - HEADROOM
