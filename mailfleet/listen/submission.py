"""Submission over SMTP (RFC 6409): the sockets, the limits that all connections share, and an end without loss."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter

import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import ConfigError
from mailfleet.base.gauges import Gauges
from mailfleet.config.listen import split_host_port
from mailfleet.config.metrics import CATALOGUE
from mailfleet.config.settings import Submission
from mailfleet.listen.descriptors import run_out
from mailfleet.listen.submission_backend import Connection, SubmissionBackend
from mailfleet.listen.submission_connection import SubmissionConnection
from mailfleet.listen.submission_tolls import Tolls
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.server_states import ServerConfig

__all__ = ["SubmissionBackend", "SubmissionListener"]

BACKLOG = 512
ACCEPT_PAUSE_S = 0.5

log = structlog.get_logger()


class SubmissionListener:
    """Listens on ``settings.listen`` (STARTTLS) and ``settings.tls_listen`` (implicit TLS) and hands mail to ``backend``.

    ``ssl_context`` None offers no TLS; then ``tls_listen`` must be empty. Raises ``ConfigError`` for settings that cannot work.
    """

    def __init__(
        self,
        backend: SubmissionBackend,
        settings: Submission,
        hostname: str,
        ssl_context: ssl.SSLContext | None,
        clock: Clock,
        gauges: Gauges | None = None,
    ) -> None:
        if settings.tls_listen and ssl_context is None:
            raise ConfigError(
                "implicit TLS needs a certificate",
                where="submission.tls_listen",
                mend="set submission.tls_cert and submission.tls_key, or leave tls_listen empty",
            )
        if settings.max_message_bytes > settings.max_buffered_mb * 1_048_576:
            raise ConfigError(
                "one message of submission.max_message_bytes would not fit into it",
                where="submission.max_buffered_mb",
                mend=f"set it to at least {-(-settings.max_message_bytes // 1_048_576)}",
            )
        self.backend = backend
        self.settings = settings
        self.clock = clock
        self.ssl_context = ssl_context
        self.config = ServerConfig(
            hostname=hostname,
            max_message_bytes=settings.max_message_bytes,
            max_recipients=settings.max_recipients,
            max_errors=settings.max_errors,
            starttls=ssl_context is not None,
        )
        self.tolls = Tolls(gauges or Gauges(CATALOGUE))
        self.tolls.gauges.watch("submission_connections", lambda: len(self._connections))
        self.tolls.gauges.watch("submission_buffered_bytes", lambda: self.buffered_bytes)
        self.buffered_bytes = 0  # over all connections
        self.tasks: set[asyncio.Task[None]] = set()
        self.address: tuple[str, int] | None = None
        self.tls_address: tuple[str, int] | None = None
        self._connections: set[Connection] = set()
        self._strangers: dict[Connection, None] = {}  # those that have not logged in, oldest first
        self._per_ip: Counter[str] = Counter()
        self._server: asyncio.Server | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._stopping = False
        self._empty = asyncio.Event()

    async def start(self) -> tuple[str, int]:
        """Listen. Returns the bound host and port of ``listen``, or of ``tls_listen`` where that is the only one, or ``("", 0)``.

        ``address`` and ``tls_address`` tell both. Raises ``ConfigError`` when an address cannot be bound.
        """
        self.address = await self._listen(self.settings.listen, "submission.listen", implicit_tls=False)
        try:
            self.tls_address = await self._listen(self.settings.tls_listen, "submission.tls_listen", implicit_tls=True)
        except ConfigError:
            await self.stop(0)
            raise
        return self.address or self.tls_address or ("", 0)

    async def stop(self, grace_s: float) -> None:
        """Stop listening, say 421 to idle clients, give those in the middle of a message ``grace_s`` seconds, then cut them off.

        Returns when every connection is gone and every message handed to the backend has been settled by it.
        """
        self._stopping = True
        if self._server:
            self._server.close()
        if self._accepting:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        for connection in list(self._connections):
            connection.shut_down()
        if not self._connections:
            self._empty.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), grace_s)
        for connection in list(self._connections):
            connection.abort(Reply.of(421, "4.3.2", "The server is stopping; try again soon"))
        if self.tasks:
            await asyncio.wait(self.tasks)

    def enter(self, connection: Connection) -> Reply | None:
        """Count a new connection in, or say why not."""
        settings = self.settings
        if self._stopping:
            return self.tolls.refused("stopping", Reply.of(421, "4.3.2", "The server is stopping; try again soon"))
        if self._per_ip[connection.peer_ip] >= settings.max_connections_per_ip:
            log.warning("submission.too_many_connections_from_address", peer=connection.peer_ip)
            return self.tolls.refused(
                "max_connections_per_ip",
                Reply.of(421, "4.7.0", "Too many connections from your address; close some first"),
            )
        no_descriptors = run_out(connection.descriptor)
        if no_descriptors or len(self._connections) >= settings.max_connections:
            reason = "file descriptors run out" if no_descriptors else "submission.max_connections is reached"
            log.warning(
                "submission.too_many_connections",
                reason=reason,
                open=len(self._connections),
                not_logged_in=len(self._strangers),
                peer=connection.peer_ip,
            )
            bound = "descriptors" if no_descriptors else "max_connections"
            if not self._strangers:
                return self.tolls.refused(bound, Reply.of(421, "4.7.0", "Too many connections; try again soon"))
            # Who says nothing must not keep out who has something to send
            farewell = self.tolls.refused(bound, Reply.of(421, "4.7.0", "Too many connections; log in sooner"))
            next(iter(self._strangers)).abort(farewell)
        self.tolls.connections.n += 1
        self._strangers[connection] = None
        self._connections.add(connection)
        self._per_ip[connection.peer_ip] += 1
        return None

    def logged_in(self, connection: Connection) -> None:
        """From now on it is not closed to make room for another."""
        self._strangers.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """Count a connection out, once."""
        self._strangers.pop(connection, None)
        if connection in self._connections:
            self._connections.remove(connection)
            self._per_ip[connection.peer_ip] -= 1
            if not self._per_ip[connection.peer_ip]:
                del self._per_ip[connection.peer_ip]
            if self._stopping and not self._connections:
                self._empty.set()

    async def _listen(self, address: str, setting: str, *, implicit_tls: bool) -> tuple[str, int] | None:
        if not address:
            return None
        host, port = split_host_port(address)
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {address}: {error.strerror or error}",
                where=setting,
                mend="choose a free port, or stop what uses it",
            ) from None
        bound = listening.getsockname()
        loop = asyncio.get_running_loop()
        if implicit_tls:
            listening.setblocking(False)
            self._accepting = loop.create_task(self._accept_tls(listening))
        else:
            self._server = await loop.create_server(lambda: SubmissionConnection(self), sock=listening, backlog=BACKLOG)
        return str(bound[0]), int(bound[1])

    async def _accept_tls(self, listening: socket.socket) -> None:
        """Accept for implicit TLS. ``create_server`` would tell of a connection only when its handshake is over, so that any
        number of them could be open before one is counted."""
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    accepted, peername = await loop.sock_accept(listening)
                except OSError as error:  # out of file descriptors, or a client that is gone again
                    self.tolls.lost("cannot_accept")
                    log.warning("submission.cannot_accept", reason=str(error))
                    await asyncio.sleep(ACCEPT_PAUSE_S)
                else:
                    SubmissionConnection(self).begin_tls(accepted, peername)
