"""Hands single messages over by HTTP as fast as they are taken: ``python -m bench.load_http JSON``, one process.

Connections stay open, one request at a time on each. Prints JSON: when the first and the last 202 came, and
how much processor time it took itself.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from dataclasses import dataclass
from typing import Any, cast

import uvloop

from bench.messages import CHECK_DOMAIN, SENDER, TEXT, html_of

VALUES = {"first_name": "Ann", "city": "Rome"}


@dataclass
class Job:
    """What to send, and what came of it."""

    host: str
    port: int
    token: str
    connections: int
    count: int
    checks: int
    domains: int
    given: int = 0
    accepted: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    refusal: str = ""

    def request(self) -> bytes | None:
        """The next request, none when all are given out."""
        if self.given >= self.count + self.checks or self.refusal:
            return None
        number, self.given = self.given, self.given + 1
        domain = CHECK_DOMAIN if number >= self.count else f"d{number % self.domains}.test"
        body = PATTERN.replace(b"USER@DOMAIN", f"user{number}@{domain}".encode()).replace(
            b"NUMBER", str(number).encode()
        )
        head = f"POST /v1/messages HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self.token}\r\n"
        return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def message(recipient: str, number: str) -> bytes:
    """A single message as JSON, filled by whoever sends it."""
    texts = {"html": html_of(), "text": TEXT, "subject": "Hello {{ first_name }}"}
    for name, value in {**VALUES, "order": number}.items():
        texts = {key: text.replace(f"{{{{ {name} }}}}", value) for key, text in texts.items()}
    return json.dumps({"from": SENDER, "to": [recipient], **texts}).encode()


# Made once: the client's time is taken from the server's, on the same cores.
PATTERN = message("USER@DOMAIN", "NUMBER")


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.pending = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._offer()

    def data_received(self, data: bytes) -> None:
        self.pending += data
        head, found, body = self.pending.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        if not found or not length or len(body) < int(length[1]):
            return
        self.pending = b""
        if head[9:12] == b"202":
            self.job.last_s = time.monotonic()
            self.job.first_s = self.job.first_s or self.job.last_s
            self.job.accepted += 1
        else:
            self.job.refusal = self.job.refusal or (head[:40] + b" " + body[:500]).decode("latin-1")
        self._offer()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.job.refusal = self.job.refusal or f"the server closed the connection: {exc or 'without a word'}"
            self.done.set_result(None)

    def _offer(self) -> None:
        request = self.job.request()
        if request is not None:
            self.transport.write(request)
        elif not self.done.done():
            self.done.set_result(None)
            self.transport.close()


async def post_all(job: Job) -> None:
    """Until everything is taken or something is refused."""
    loop = asyncio.get_running_loop()
    pairs = [await loop.create_connection(lambda: Connection(job), job.host, job.port) for _ in range(job.connections)]
    await asyncio.gather(*(connection.done for _, connection in pairs))


def main() -> None:
    """Do the job in the argument."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    job = Job(**options)
    started_s = time.process_time()
    uvloop.run(post_all(job))
    said = {name: getattr(job, name) for name in ("accepted", "first_s", "last_s", "refusal")}
    print(json.dumps(said | {"cpu_s": time.process_time() - started_s}))
    sys.exit(job.accepted < job.count + job.checks)


if __name__ == "__main__":
    main()
