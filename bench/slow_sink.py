"""Mail hosts that take their time over the last reply: ``python -m bench.slow_sink ADDRESS PORT SECONDS``, a process of its own."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

REPLIES = {b"EHLO": b"250-slow.test\r\n250 PIPELINING\r\n", b"DATA": b"354 Go ahead\r\n", b"QUIT": b"221 Bye\r\n"}


class SlowSession(asyncio.Protocol):
    """One connection. Everything is answered at once, except a message."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.pending = b""
        self.in_message = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(b"220 slow.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self.pending += data
        while True:
            mark = b"\r\n.\r\n" if self.in_message else b"\r\n"
            line, found, rest = self.pending.partition(mark)
            if not found:
                return
            self.pending = rest
            if self.in_message:
                self.in_message = False
                asyncio.get_running_loop().call_later(self.delay_s, self._take)
            else:
                verb = line[:4].upper()
                self.in_message = verb == b"DATA"
                self.transport.write(REPLIES.get(verb, b"250 Ok\r\n"))
                if verb == b"QUIT":
                    self.transport.close()

    def _take(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"250 Ok\r\n")


async def serve(address: str, port: int, delay_s: float) -> None:
    """Until killed."""
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: SlowSession(delay_s), address, port, backlog=4096)
    await listening.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
