"""HTTPS: connections are looked at before their handshake, so that a certificate authority that comes to ask gets its answer.

What a client offers as application protocols (ALPN) is not known to Python's ``ssl`` before a context is chosen; so the first
bytes are looked at where they are, and the handshake begins afterwards with the context that fits (RFC 8737).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

import structlog

from mailfleet.base.errors import MailfleetError
from mailfleet.engine.certificates import Certificates
from mailfleet.net.client_hello import ACME_TLS, read_hello
from mailfleet.net.tls_names import TlsNames, loaded_context

log = structlog.get_logger()

HELLO_S = 10.0
HANDSHAKE_S = 20.0
PEEK_BYTES = 16_384
PEEK_AGAIN_S = 0.05
MOST_HELLOS = 500  # connections that have said nothing yet
ACCEPT_PAUSE_S = 0.5


class HttpsListener:
    """Takes connections of ``listening`` and gives them to ``protocol`` over TLS."""

    def __init__(
        self,
        listening: socket.socket,
        names: TlsNames,
        certificates: Certificates,
        protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._listening, self._names, self._certificates, self._protocol = listening, names, certificates, protocol
        self._beginning: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on."""
        self._accepting = asyncio.create_task(self._accept(), name="https")

    async def stop(self) -> None:
        """Take no more; connections whose handshake is over go on."""
        tasks = [*self._beginning, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listening.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listening)
            except OSError as error:
                log.warning("https cannot take a connection", reason=error.strerror)
                await asyncio.sleep(ACCEPT_PAUSE_S)
                continue
            if len(self._beginning) >= MOST_HELLOS:  # a newcomer takes the place of who has been silent for longest
                oldest = next(iter(self._beginning))
                self._over(oldest)
                oldest.cancel()
            task = asyncio.create_task(self._begin(connection))
            self._beginning[task] = None
            task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._beginning.pop(task, None)

    async def _begin(self, connection: socket.socket) -> None:
        handed = False
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(HELLO_S):
                context, protocol = await self._context(await _peek(connection))
            handed = True  # from here on the transport closes it
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol, connection, ssl=context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, ssl.SSLError, TimeoutError, EOFError):
            pass  # scanners and clients that change their mind
        except MailfleetError as error:
            log.warning("https cannot answer an authority", reason=str(error))
        finally:
            if not handed:
                connection.close()

    async def _context(self, first: bytes) -> tuple[ssl.SSLContext, Callable[[], asyncio.Protocol]]:
        hello = read_hello(first)
        if hello is None or ACME_TLS not in hello.protocols:
            return self._names.context, self._protocol
        pair = await self._certificates.challenge(hello.name)
        if pair is None:
            raise EOFError("nobody expects that question")
        context = loaded_context(*pair)
        context.set_alpn_protocols([ACME_TLS])
        return context, _Answered


class _Answered(asyncio.Protocol):
    """The handshake is the whole answer (RFC 8737 3)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _peek(connection: socket.socket) -> bytes:
    """The client's first bytes, left where they are: as many as a whole ClientHello, or all that it sends. Raises ``EOFError``."""
    loop = asyncio.get_running_loop()
    while True:
        ready = asyncio.Event()
        loop.add_reader(connection.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(connection.fileno())
        found = b""
        with contextlib.suppress(BlockingIOError):
            found = connection.recv(PEEK_BYTES, socket.MSG_PEEK)
        if not found:
            raise EOFError("gone")
        if found[0] != 0x16 or len(found) >= PEEK_BYTES or len(found) >= 5 + int.from_bytes(found[3:5]):
            return found
        await asyncio.sleep(PEEK_AGAIN_S)
