"""Whose turn it is to ask a name server: a few questions at once to each, and a rest for one that leaves them unanswered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mailfleet.base.clock import Clock

PER_SERVER = 16  # about what one look at one domain asks of each
IN_ROUNDS = 4  # where nobody waits: a team's domains mostly lie with one provider, who takes many at once for an attack
REST_S = 30.0  # in rounds, of a server that is silent: a multiple of what one question to it costs
MAX_ASKED = 200  # in all: each question has a socket of its own while it waits
SILENT = 3  # questions in a row without an answer: one that was lost on the way is none yet


@dataclass(slots=True)
class _Server:
    free: asyncio.Semaphore
    here: int = 0  # who ask it or wait for that
    silent: int = 0
    until_s: float = 0


class ServerTurns:
    """For one process. ``rest_s``: how long a server that was silent is not asked; 0 where a person wants to see what is there now.

    A server that rests is asked once when its rest is over, and rests again where that is not answered either.
    """

    def __init__(self, clock: Clock, *, at_once: int = PER_SERVER, rest_s: float = 0) -> None:
        self._clock, self._at_once, self._rest_s = clock, at_once, rest_s
        self._free = asyncio.Semaphore(MAX_ASKED)
        self._servers: dict[str, _Server] = {}

    @classmethod
    def of_rounds(cls, clock: Clock, time_scale: float = 1) -> ServerTurns:
        """For looks that nobody waits for."""
        return cls(clock, at_once=IN_ROUNDS, rest_s=REST_S / time_scale)

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[bool]:
        """Waits for it; false where the server rests, and so is taken for silent."""
        server = self._servers.setdefault(address, _Server(asyncio.Semaphore(self._at_once)))
        server.here += 1
        try:
            async with server.free:
                if self._rests(server):
                    yield False
                    return
                async with self._free:
                    yield True
        finally:
            server.here -= 1
            if not server.here and not server.silent:
                del self._servers[address]

    def heard(self, address: str, *, answered: bool) -> None:
        """What came of the question whose turn it is."""
        server = self._servers[address]
        server.silent = 0 if answered or not self._rest_s else server.silent + 1
        if server.silent >= SILENT:
            server.until_s = self._clock.monotonic_s() + self._rest_s

    def _rests(self, server: _Server) -> bool:
        now_s = self._clock.monotonic_s()
        if server.silent < SILENT:
            return False
        if now_s < server.until_s:
            return True
        server.until_s = now_s + self._rest_s  # for everybody but who asks now
        return False
