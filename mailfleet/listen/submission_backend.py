"""What submission needs of the engine, and what its connections need of their listener, as protocols."""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol

from mailfleet.base.clock import Clock
from mailfleet.config.settings import Submission
from mailfleet.engine.requests import Actor, SubmittedMessage
from mailfleet.listen.submission_tolls import Tolls
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.server_states import ServerConfig


class Connection(Protocol):
    """A connection as the listener sees it."""

    peer_ip: str
    descriptor: int  # of its socket

    def shut_down(self) -> None:
        """Say 421 and close, after the message that is arriving, if any."""
        ...

    def abort(self, reply: Reply | None = None) -> None:
        """Close now; ``reply`` is said if it can be sent without waiting."""
        ...


class SubmissionBackend(Protocol):
    """Who judges and takes what is submitted."""

    async def authenticate(self, username: str, password: str, peer_ip: str) -> Actor | None:
        """The actor of an SMTP login, or None. May raise ``BusyError``."""
        ...

    def check_sender(self, actor: Actor, reverse_path: str) -> Reply | None:
        """None when the actor may send with this reverse-path (empty: the null one), else the refusal."""
        ...

    def check_recipient(self, actor: Actor, recipient: str) -> Reply | None:
        """None when the recipient is taken, else the refusal."""
        ...

    def refusal(self) -> Reply | None:
        """A reply when no mail can be taken now, for example 451 4.3.1 with a full disk. Asked at MAIL."""
        ...

    async def accept(self, actor: Actor, message: SubmittedMessage) -> str:
        """Take the message durably and return its queue id. Raises ``InputError`` (``RefusedMessage`` for a reply of its own) and
        ``BusyError``."""
        ...


class Hub(Protocol):
    """What the connections of a listener share."""

    backend: SubmissionBackend
    settings: Submission
    config: ServerConfig
    clock: Clock
    ssl_context: ssl.SSLContext | None
    buffered_bytes: int
    tasks: set[asyncio.Task[None]]
    tolls: Tolls

    def enter(self, connection: Connection) -> Reply | None:
        """Count a new connection; a reply when there are too many."""
        ...

    def logged_in(self, connection: Connection) -> None:
        """From now on it is not closed to make room for another."""
        ...

    def leave(self, connection: Connection) -> None:
        """Forget a connection; harmless when it never entered."""
        ...
