"""A mail host that keeps a record of every session and misbehaves as it is told. An opinion of its own: no code of the product."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import trustme

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 5000000", "ENHANCEDSTATUSCODES")


@dataclass
class Received:
    """One message and the commands it came with."""

    mail: str
    rcpt: str
    data: bytes
    tls: bool
    at_s: float = field(default_factory=time.monotonic)


@dataclass
class Session:
    """One connection as the peer saw it."""

    client: str
    ehlo: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    tls: bool = False


@dataclass
class Peer:
    """``greeting`` may be a 4yz or 5yz, or empty for a host that never speaks. ``tls``: ``""`` not offered, ``good``, ``broken``
    (offered, and the handshake fails). ``answer(verb, line)`` returns a reply to give instead of the usual one, empty
    for silence from there on, or None. The verb for the answer to the whole message is ``MESSAGE``."""

    host: str
    port: int
    greeting: str = "220 peer.test ESMTP"
    extensions: tuple[str, ...] = EXTENSIONS
    tls: str = ""
    answer: Callable[[str, str], str | None] = lambda verb, line: None
    names: tuple[str, ...] = ("mx.test",)  # of its certificate
    authority: trustme.CA | None = None  # who signs it; one that nobody knows if left out
    leaf: trustme.LeafCert | None = None  # the certificate itself, in place of both
    sessions: list[Session] = field(default_factory=list)
    messages: list[Received] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    open_by_client: Counter[str] = field(default_factory=Counter)
    most_by_client: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Peer]:
        """Listen."""
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            self.open_now += 1
            self.most_open = max(self.most_open, self.open_now)
            client = writer.get_extra_info("peername")[0]
            self.open_by_client[client] += 1
            self.most_by_client |= self.open_by_client
            try:
                with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                    await _Dialogue(self, reader, writer).run()
            finally:
                self.open_now -= 1
                self.open_by_client[client] -= 1
            writer.close()

        context = certified(self.authority or trustme.CA(), *self.names, leaf=self.leaf) if self.tls else None
        self._context = context
        server = await asyncio.start_server(connected, self.host, self.port, limit=10_000_000)
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def commands(self) -> list[str]:
        """Every command of every session, in order."""
        return [command for session in self.sessions for command in session.commands]


class _Dialogue:
    def __init__(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._peer, self._reader, self._writer = peer, reader, writer
        self._session = Session(writer.get_extra_info("peername")[0])
        peer.sessions.append(self._session)
        self._mail = self._rcpt = ""

    async def run(self) -> None:
        if not self._peer.greeting:
            await self._special("")
            return
        self._say(self._peer.greeting)
        if not self._peer.greeting.startswith("2"):
            return
        while line := (await self._reader.readuntil(b"\r\n")).decode("utf-8", "surrogateescape").rstrip("\r\n"):
            self._session.commands.append(line)
            verb = line.split(" ")[0].upper()
            special = self._peer.answer(verb, line)
            if special is not None:
                await self._special(special)
                if special.startswith("421"):
                    return
            elif verb == "QUIT":
                self._say("221 2.0.0 bye")
                return
            elif not await self._usual(verb, line):
                return

    async def _usual(self, verb: str, line: str) -> bool:
        if verb == "EHLO":
            self._ehlo(line)
        elif verb == "STARTTLS":
            return await self._start_tls()
        elif verb == "MAIL":
            self._mail, self._rcpt = line, ""
            self._say("250 2.1.0 ok")
        elif verb == "RCPT":
            self._rcpt = line
            self._say("250 2.1.5 ok")
        elif verb == "DATA":
            if not self._rcpt:
                self._say("503 5.5.1 no recipient")
                return True
            self._say("354 go")
            raw = await self._reader.readuntil(b"\r\n.\r\n")
            data = re.sub(rb"(?m)^\.", b"", raw[:-3])  # RFC 5321 4.5.2
            if re.search(rb"(?<!\r)\n|\r(?!\n)", data):
                self._peer.wrong.append("a bare CR or LF came")
            special = self._peer.answer("MESSAGE", self._rcpt)
            if special is not None:
                await self._special(special)
                return not special.startswith("421")
            self._peer.messages.append(Received(self._mail, self._rcpt, data, self._session.tls))
            self._say("250 2.0.0 taken")
        elif verb in ("RSET", "HELO", "NOOP"):
            self._say("250 2.0.0 ok")
        else:
            self._say("502 5.5.1 not here")
        return True

    async def _special(self, reply: str) -> None:
        if reply:
            self._say(reply)
            return
        while await self._reader.read(65536):  # silence until the client goes
            pass

    def _ehlo(self, line: str) -> None:
        self._session.ehlo.append(line.partition(" ")[2])
        offered = list(self._peer.extensions)
        if self._peer.tls and not self._session.tls:
            offered.append("STARTTLS")
        lines = ["peer.test", *offered]
        for number, word in enumerate(lines, start=1):
            self._say(f"250{' ' if number == len(lines) else '-'}{word}")

    async def _start_tls(self) -> bool:
        self._say("220 2.0.0 go ahead")
        await self._writer.drain()
        if self._peer.tls == "broken":
            await self._reader.read(16)
            self._writer.write(b"this is no TLS record\r\n")
            return False
        await self._writer.start_tls(self._peer._context)  # type: ignore[arg-type]  # set when it serves
        self._session.tls = True
        return True

    def _say(self, line: str) -> None:
        self._writer.write(line.encode() + b"\r\n")


def certified(authority: trustme.CA, *names: str, leaf: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """What a server proves its names with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (leaf or authority.issue_cert(*names)).configure_cert(context)
    return context
