"""A submission listener on loopback over a backend that records, and a plain client that speaks to it byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from mailfleet.base.clock import SystemClock
from mailfleet.base.gauges import Gauges
from mailfleet.base.ids import TenantId
from mailfleet.config.metrics import CATALOGUE
from mailfleet.config.settings import Submission
from mailfleet.engine.requests import Actor, SubmittedMessage
from mailfleet.listen.submission import SubmissionListener
from mailfleet.net.tls_server import ensure_self_signed, server_context
from mailfleet.smtp.reply import Reply

LOGIN = b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n"  # ann, secret


class PatientClock(SystemClock):
    """The machine's clock, but a delay that is meant to slow somebody down is only noted. ``stands_at_s``: until it is told to go."""

    def __init__(self) -> None:
        self.slept_s: list[float] = []
        self.stands_at_s: float | None = None

    def monotonic_s(self) -> float:
        return super().monotonic_s() if self.stands_at_s is None else self.stands_at_s

    async def sleep(self, delay_s: float) -> None:
        self.slept_s.append(delay_s)


@dataclass
class RecordingBackend:
    """``ann``/``secret`` may log in and send as anybody but ``refused@...``. ``wrong`` is raised by the next accept."""

    messages: list[SubmittedMessage] = field(default_factory=list)
    full: Reply | None = None
    wrong: Exception | None = None
    gate: asyncio.Event | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def authenticate(self, username: str, password: str, peer_ip: str) -> Actor | None:
        if password == "crash":
            raise RuntimeError("the database is gone")
        return Actor(TenantId(1), name=username) if (username, password) == ("ann", "secret") else None

    def check_sender(self, actor: Actor, reverse_path: str) -> Reply | None:
        return Reply.of(553, "5.7.1", "Not your domain") if reverse_path.startswith("refused@") else None

    def check_recipient(self, actor: Actor, recipient: str) -> Reply | None:
        return Reply.of(550, "5.1.1", "Nobody") if recipient.startswith("refused@") else None

    def refusal(self) -> Reply | None:
        return self.full

    async def accept(self, actor: Actor, message: SubmittedMessage) -> str:
        self.asked.set()
        if self.gate:
            await self.gate.wait()
        if self.wrong:
            wrong, self.wrong = self.wrong, None
            raise wrong
        self.messages.append(message)
        return f"q{len(self.messages)}"


@dataclass
class Running:
    """A listener that runs, with what it was made of."""

    listener: SubmissionListener
    gauges: Gauges
    backend: RecordingBackend
    clock: PatientClock
    certificate: Path

    @property
    def port(self) -> int:
        assert self.listener.address
        return self.listener.address[1]

    @property
    def tls_port(self) -> int:
        assert self.listener.tls_address
        return self.listener.tls_address[1]

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    async def connect(self, host: str = "127.0.0.1", *, tls: bool = False, local: str = "127.0.0.1") -> Client:
        port, context = (self.tls_port, self.client_context()) if tls else (self.port, None)
        server_hostname = "localhost" if tls else None
        reader, writer = await asyncio.open_connection(
            host, port, ssl=context, server_hostname=server_hostname, local_addr=(local, 0)
        )
        return Client(reader, writer)

    async def logged_in(self) -> Client:
        client = await self.connect()
        await client.replies(b"EHLO c.example\r\n" + LOGIN, 3)
        return client

    async def in_data(self) -> Client:
        """A client whose next bytes are its message."""
        client = await self.logged_in()
        said = await client.replies(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n", 3)
        assert said[-1].startswith("354"), said
        return client


@dataclass
class Client:
    """Sends bytes, reads replies."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def reply(self) -> str:
        """The last line of the next reply; empty at the end of the connection, reset included."""
        while True:
            try:
                line = (await asyncio.wait_for(self.reader.readline(), 20)).decode()
            except ConnectionError:
                return ""
            if line[3:4] != "-":
                return line.rstrip("\r\n")

    async def replies(self, data: bytes, count: int = 1) -> list[str]:
        self.writer.write(data)
        return [await self.reply() for _ in range(count)]

    async def rest(self) -> list[str]:
        """Every reply until the server closes."""
        found = []
        while said := await self.reply():
            found.append(said)
        return found

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Go away with a TCP reset."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def running(folder: Path, **changes: object) -> AsyncIterator[Running]:
    """Start a listener with small settings; ``folder`` keeps its certificate."""
    values: dict[str, object] = {
        "listen": "127.0.0.1:0",
        "tls_listen": "127.0.0.1:0",
        "auth_without_tls_on_loopback": True,
        "max_message_bytes": 1_000_000,
    }
    cert, key = ensure_self_signed(folder, "mx.example")
    backend, clock, gauges = RecordingBackend(), PatientClock(), Gauges(CATALOGUE)
    listener = SubmissionListener(
        backend, Submission(**(values | changes)), "mx.example", server_context(cert, key), clock, gauges
    )
    await listener.start()
    try:
        yield Running(listener, gauges, backend, clock, cert)
    finally:
        if backend.gate:
            backend.gate.set()
        await listener.stop(0)


async def until(condition: object, *, tries: int = 1000) -> None:
    """Wait for a callable to become true."""
    assert callable(condition)
    for _ in range(tries):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came about")
