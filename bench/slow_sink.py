"""Mail hosts that take their time over the last reply: ``python -m bench.slow_sink ADDRESS PORT SECONDS [FOLDER]``.

With a folder it offers STARTTLS, with a certificate that it makes there. A process of its own.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from pathlib import Path
from typing import cast

import uvloop

REPLIES = {b"DATA": b"354 Go ahead\r\n", b"QUIT": b"221 Bye\r\n", b"STAR": b"220 Go ahead\r\n"}


class SlowSession(asyncio.Protocol):
    """One connection. Everything is answered at once and in order, a message after ``delay_s``."""

    def __init__(self, delay_s: float, tls: ssl.SSLContext | None) -> None:
        self.delay_s, self.tls = delay_s, tls
        self.pending = bytearray()
        self.searched = 0
        self.in_message = self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if not self.busy:
            self.transport.write(b"220 slow.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self.pending += data
        while not self.busy:
            mark = b"\r\n.\r\n" if self.in_message else b"\r\n"
            end = self.pending.find(mark, max(0, self.searched - len(mark)))
            if end < 0:
                self.searched = len(self.pending)
                return
            verb = bytes(self.pending[:4]).upper()
            del self.pending[: end + len(mark)]
            self.searched = 0
            if self.in_message:
                self.in_message, self.busy = False, True
                if self.delay_s:
                    asyncio.get_running_loop().call_later(self.delay_s, self._take)
                else:
                    self._take()
            else:
                self._command(verb)

    def _command(self, verb: bytes) -> None:
        self.in_message = verb == b"DATA"
        if verb == b"EHLO":
            offer = b"250-STARTTLS\r\n" if self.tls else b""
            self.transport.write(b"250-slow.test\r\n" + offer + b"250 PIPELINING\r\n")
            return
        self.transport.write(REPLIES.get(verb, b"250 Ok\r\n"))
        if verb == b"QUIT":
            self.transport.close()
        elif verb == b"STAR":
            self.busy = True
            self._upgrade = asyncio.get_running_loop().create_task(self._secure())

    async def _secure(self) -> None:
        context, self.tls = self.tls, None
        assert context is not None
        secured = await asyncio.get_running_loop().start_tls(self.transport, self, context, server_side=True)
        self.transport = cast(asyncio.Transport, secured)
        self.busy = False
        self.data_received(b"")

    def _take(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"250 Ok\r\n")
            self.busy = False
            if self.delay_s:
                self.data_received(b"")


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate of a minute ago."""
    key, cert = folder / "sink.key", folder / "sink.pem"
    subject = ["-subj", "/CN=slow.test", "-days", "30", "-keyout", str(key), "-out", str(cert)]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(["openssl", "req", "-x509", "-nodes", *kind, *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


async def serve(address: str, port: int, delay_s: float, tls: ssl.SSLContext | None) -> None:
    """Until killed."""
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: SlowSession(delay_s, tls), address, port, backlog=4096)
    await listening.serve_forever()


if __name__ == "__main__":
    secure = certificate(Path(sys.argv[4])) if len(sys.argv) > 4 else None
    uvloop.run(serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), secure))
