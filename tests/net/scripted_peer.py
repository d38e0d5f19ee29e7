"""A mail host on loopback that does what a test tells it to: a script is a coroutine that reads and writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

EHLO = b"250-mx.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 50000000\r\n"


class Conversation:
    """One connection as the script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.peer_ip: str = writer.get_extra_info("peername")[0]

    async def expect(self, *verbs: str) -> list[str]:
        """Read one command line for each verb, which it must start with."""
        lines = []
        for verb in verbs:
            line = (await self.reader.readline()).decode()
            assert line.startswith(verb), f"expected {verb}, heard {line!r}"
            lines.append(line.rstrip("\r\n"))
        return lines

    def say(self, text: bytes) -> None:
        self.writer.write(text)

    async def open(self, ehlo: bytes = EHLO) -> None:
        """Greet and answer EHLO."""
        self.say(b"220 mx.test ESMTP\r\n")
        await self.expect("EHLO")
        self.say(ehlo)

    async def envelope(self, replies: bytes = b"250 ok\r\n250 ok\r\n354 go\r\n") -> None:
        """Read a pipelined MAIL, RCPT, DATA and answer."""
        await self.expect("MAIL", "RCPT", "DATA")
        self.say(replies)

    async def message(self) -> bytes:
        """Read up to the final dot."""
        return await self.reader.readuntil(b"\r\n.\r\n")

    async def wait_for_end(self) -> None:
        """Read until the client is gone."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def drop(self) -> None:
        """Cut the connection without a word."""
        self.writer.transport.abort()


Script = Callable[[Conversation], Awaitable[None]]


class ScriptedPeer:
    """Runs ``script`` for every connection; what goes wrong in it is raised at the end of the test."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: list[asyncio.Task[None]] = []
        self.conversations: list[Conversation] = []
        self.ended = asyncio.Event()  # some conversation is over
        self.port = 0
        self.host = "127.0.0.1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = Conversation(reader, writer)
        self.conversations.append(conversation)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        try:
            await self._script(conversation)
        finally:
            writer.close()
            self.ended.set()


@contextlib.asynccontextmanager
async def scripted(script: Script, host: str = "127.0.0.1") -> AsyncIterator[ScriptedPeer]:
    """A peer that runs ``script``, on a free port."""
    peer = ScriptedPeer(script)
    server = await asyncio.start_server(peer._serve, host, 0)
    peer.host, peer.port = server.sockets[0].getsockname()[:2]
    try:
        yield peer
    finally:
        server.close()
        for task in peer._tasks:
            task.cancel()
        ended = await asyncio.gather(*peer._tasks, return_exceptions=True)
        wrong = [error for error in ended if isinstance(error, Exception) and not isinstance(error, ConnectionError)]
        if wrong:
            raise wrong[0]
