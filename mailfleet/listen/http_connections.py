"""Connections of the HTTP server: how many, how long one may be silent, and who has to go when there are too many.

uvicorn bounds neither: a client that connects and says nothing would be kept for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mailfleet.base.clock import Clock
from mailfleet.base.gauges import Gauges
from mailfleet.config.settings import Server
from mailfleet.listen.descriptors import run_out
from mailfleet.listen.http_tolls import HttpTolls

log = structlog.get_logger()

SWEEP_S = 1.0
MAX_HEADER_BYTES = 65_536  # of one request, about; the parser has no bound of its own
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_FULL = orjson.dumps(
    {"type": "/v1/docs#problem-not-ready", "title": "Not ready", "status": 503, "detail": "every connection is in use"}
)
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 2\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_FULL), _FULL)
)


class HttpConnections:
    """All connections of one server. One that waits (for a request, or for the rest of its header) may be closed to make room
    for a new one, the longest waiting first; one whose request is being answered is never."""

    def __init__(self, settings: Server, clock: Clock, gauges: Gauges) -> None:
        self._settings, self._clock, self.tolls = settings, clock, HttpTolls(gauges)
        gauges.watch("http_connections", lambda: len(self._waiting) + len(self._answering))
        self._waiting: dict[HttpConnection, float] = {}  # since when; longest waiting first
        self._answering: set[HttpConnection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    def protocol(self, *arguments: Any, **named: Any) -> HttpConnection:
        """What uvicorn calls for a new connection."""
        return HttpConnection(self, *arguments, **named)

    def enter(self, connection: HttpConnection, descriptor: int) -> bool:
        """Count a new connection in; false when there is no room and nobody who waits."""
        no_descriptors = run_out(descriptor)
        if no_descriptors or len(self._waiting) + len(self._answering) >= self._settings.http_max_connections:
            reason = "file descriptors run out" if no_descriptors else "server.http_max_connections is reached"
            log.warning(
                "http.too_many_connections", reason=reason, waiting=len(self._waiting), answering=len(self._answering)
            )
            self.tolls.refused("descriptors" if no_descriptors else "http_max_connections")
            if not self._waiting:
                return False
            next(iter(self._waiting)).cut()
        self.waits(connection)
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        return True

    def waits(self, connection: HttpConnection) -> None:
        """From now on it is the client's turn to send a request."""
        self._answering.discard(connection)
        self._waiting.pop(connection, None)
        self._waiting[connection] = self._clock.monotonic_s()

    def answers(self, connection: HttpConnection) -> None:
        """A request header is complete."""
        self._waiting.pop(connection, None)
        self._answering.add(connection)
        connection.data_at_s = self._clock.monotonic_s()

    def heard(self, connection: HttpConnection) -> None:
        """Bytes came."""
        connection.data_at_s = self._clock.monotonic_s()

    def leave(self, connection: HttpConnection) -> None:
        """Count a connection out; harmless when it never entered."""
        self._waiting.pop(connection, None)
        self._answering.discard(connection)

    def _sweep(self) -> None:
        """Close who has been silent for too long; again while there are connections."""
        before_s = self._clock.monotonic_s() - self._settings.http_idle_timeout_s
        silent = [one for one, since_s in self._waiting.items() if since_s <= before_s]
        silent += [one for one in self._answering if one.owes_body and one.data_at_s <= before_s]
        for connection in silent:
            self.tolls.refused("http_idle_timeout_s")
            connection.cut()
        more = self._waiting or self._answering
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep) if more else None


class HttpConnection(HttpToolsProtocol):
    """uvicorn's connection, which tells ``hub`` whose turn it is."""

    def __init__(self, hub: HttpConnections, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._hub = hub
        self._refused = False
        self._header_bytes: int | None = None  # of a request whose header is arriving
        self.data_at_s = 0.0

    @property
    def owes_body(self) -> bool:
        """The client has announced more than it has sent, and we would read it."""
        return self.cycle is not None and self.cycle.more_body and not self.flow.read_paused

    def cut(self) -> None:
        """Close, for it has been silent for too long or somebody else needs the room."""
        self._hub.leave(self)
        self.transport.close()

    # What the event loop calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client is there."""
        super().connection_made(transport)
        if not self._hub.enter(self, transport.get_extra_info("socket").fileno()):
            self._refused = True
            transport.write(_REFUSAL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._hub.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._refused:
            return
        self._hub.heard(self)
        super().data_received(data)
        if self._header_bytes is None:
            return
        self._header_bytes += len(data)  # the header is not complete yet
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._hub.tolls.refused("header_bytes")
            self._refused = True
            self.transport.write(_TOO_LONG)
            self.transport.close()

    # What the parser and the answer call

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._header_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The header of a request is complete."""
        self._header_bytes = None
        self._hub.answers(self)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """An answer is written; where the next request is there already, it is our turn again."""
        if not self.pipeline and not self.transport.is_closing():
            self._hub.waits(self)
        super().on_response_complete()
