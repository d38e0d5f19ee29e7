"""Hands messages over by SMTP, as fast as they are taken: ``python -m bench.load JSON``, one process, the same for every system.

Postfix's ``smtp-source`` can neither log in nor send to many domains, so this does it: many sessions that stay open, MAIL, RCPT and
DATA in one write (RFC 2920), a message, its reply, the next. Prints JSON: when the first
and the last reply came, and how much processor time it took itself.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from dataclasses import dataclass
from typing import Any, cast

import uvloop

from bench.messages import CHECK_DOMAIN, SENDER, whole_message

GREETING, HELLO, LOGIN, ENVELOPE, BODY = range(5)


@dataclass
class Job:
    """What to send, and what came of it. Numbers from ``count`` on go to where messages are kept."""

    host: str
    port: int
    sessions: int
    count: int
    checks: int
    domains: int
    run: str
    username: str = ""
    password: str = ""
    given: int = 0
    accepted: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    refusal: str = ""

    def next_number(self) -> int | None:
        """The next message's number, none when all are given out."""
        if self.given >= self.count + self.checks or self.refusal:
            return None
        self.given += 1
        return self.given - 1

    def recipient(self, number: int) -> str:
        """Where a message goes."""
        if number >= self.count:
            return f"user{number}@{CHECK_DOMAIN}"
        return f"user{number}@d{number % self.domains}.test"

    def note_accepted(self) -> None:
        """A message was taken."""
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.accepted += 1


class Session(asyncio.Protocol):
    """One connection, kept until nothing is left to send."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = GREETING
        self.replies_due = 1
        self.pending = b""
        self.message = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.pending += data
        while (end := self.pending.find(b"\n")) >= 0:
            line, self.pending = self.pending[: end + 1], self.pending[end + 1 :]
            if line[3:4] != b"-":
                self._reply(line)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.job.refusal = self.job.refusal or f"the server closed the connection: {exc or 'without a word'}"
            self.done.set_result(None)

    def _reply(self, line: bytes) -> None:
        if line[:1] not in b"23":
            self.job.refusal = self.job.refusal or line.decode("latin-1").strip()
            self._end()
            return
        self.replies_due -= 1
        if not self.replies_due:
            self._go_on()

    def _go_on(self) -> None:
        match self.state:
            case 0:  # GREETING
                self._say(b"EHLO load.bench.test\r\n", HELLO)
            case 1 if self.job.username:  # HELLO
                secret = base64.b64encode(f"\0{self.job.username}\0{self.job.password}".encode())
                self._say(b"AUTH PLAIN " + secret + b"\r\n", LOGIN)
            case 3:  # ENVELOPE
                self._say(self.message, BODY)
            case 4:  # BODY
                self.job.note_accepted()
                self._offer()
            case _:
                self._offer()

    def _offer(self) -> None:
        number = self.job.next_number()
        if number is None:
            self._end()
            return
        recipient = self.job.recipient(number)
        self.message = whole_message(recipient, number, self.job.run) + b".\r\n"
        self._say(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode(), ENVELOPE, 3)

    def _say(self, data: bytes, state: int, replies: int = 1) -> None:
        self.state, self.replies_due = state, replies
        self.transport.write(data)

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        self.transport.write(b"QUIT\r\n")
        self.transport.close()


async def hand_over(job: Job) -> None:
    """Until everything is taken or something is refused."""
    loop = asyncio.get_running_loop()
    pairs = [await loop.create_connection(lambda: Session(job), job.host, job.port) for _ in range(job.sessions)]
    await asyncio.gather(*(session.done for _, session in pairs))
    await asyncio.sleep(0)


def main() -> None:
    """Do the job in the argument."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    job = Job(**options)
    started_s = time.process_time()
    uvloop.run(hand_over(job))
    said = {name: getattr(job, name) for name in ("accepted", "first_s", "last_s", "refusal")}
    print(json.dumps(said | {"cpu_s": time.process_time() - started_s}))
    sys.exit(job.accepted < job.count + job.checks)


if __name__ == "__main__":
    main()
