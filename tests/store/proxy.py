"""A wire to the database server that can be cut: before a COMMIT gets through, or after it did and before its answer."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Literal

Cut = Literal["before", "after"]


class Proxy:
    """Listens on a free port, in a thread of its own. ``cut_next`` names what becomes of the next COMMIT."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.cut_next: Cut | None = None
        self.closed_to_new = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._thread.start()
        assert self._ready.wait(20)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = int(server.sockets[0].getsockname()[1])
        self._ready.set()
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed_to_new:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        tasks = [asyncio.create_task(self._up(reader, back, writer, there)), asyncio.create_task(_pass(there, writer))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for side in (writer, back):
            side.transport.abort()

    async def _up(
        self,
        reader: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
    ) -> None:
        while data := await reader.read(65_536):
            if b"COMMIT\0" in data and self.cut_next:
                cut, self.cut_next = self.cut_next, None
                if cut == "after":
                    back.write(data)
                    writer.transport.abort()  # the answer finds nobody
                    with contextlib.suppress(OSError):
                        await there.read(1)
                return
            back.write(data)
            await back.drain()

    def close(self) -> None:
        """Stop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
