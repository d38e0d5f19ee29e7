"""Drives a ``ServerSession`` as a listener would, with every answer decided by a few plain rules."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from mailfleet.smtp.reply import Reply
from mailfleet.smtp.server import ServerSession
from mailfleet.smtp.server_states import (
    Event,
    LoginAsked,
    MessageComing,
    MessageReceived,
    RecipientGiven,
    SenderGiven,
    ServerConfig,
    TlsAsked,
)

LOGIN = b"AUTH PLAIN " + base64.b64encode(b"\0ann\0secret") + b"\r\n"


def config(**changes: object) -> ServerConfig:
    values: dict[str, object] = {
        "hostname": "mx.example",
        "max_message_bytes": 100_000,
        "max_recipients": 5,
        "max_errors": 100,
        "auth_without_tls": True,
    }
    return ServerConfig(**(values | changes))  # type: ignore[arg-type] # a test names what it changes


@dataclass
class Dialogue:
    """``ann``/``secret`` may log in; ``refused@`` senders and recipients are refused; everything else is taken."""

    session: ServerSession
    said: bytes = b""
    events: list[Event] = field(default_factory=list)

    def send(self, data: bytes) -> bytes:
        """Give bytes to the session and return what it says to them."""
        before = len(self.said)
        self._drain(self.session.receive(data))
        return self.said[before:]

    def login(self) -> Dialogue:
        self.send(b"EHLO client.example\r\n" + LOGIN)
        return self

    def begin(self) -> Dialogue:
        """Up to the point where DATA or BDAT is next."""
        self.login().send(b"MAIL FROM:<ann@shop.example>\r\nRCPT TO:<bob@example.org>\r\n")
        return self

    @property
    def messages(self) -> list[MessageReceived]:
        return [event for event in self.events if isinstance(event, MessageReceived)]

    @property
    def codes(self) -> list[int]:
        """The code of every reply so far, from the last line of each."""
        return [int(line[:3]) for line in self.said.split(b"\r\n") if line[3:4] == b" "]

    def _drain(self, events: list[Event]) -> None:
        while True:
            while events:
                self.events.append(events[0])
                if isinstance(events[0], TlsAsked):
                    break
                events = self.session.answer(_answer(events[0]))
            self.said += self.session.bytes_to_send()
            if not self.session.stalled:
                break
            events = self.session.proceed()


def _answer(event: Event) -> Reply | None:
    match event:
        case LoginAsked(username, password):
            return None if (username, password) == ("ann", "secret") else Reply.of(535, "5.7.8", "Wrong")
        case SenderGiven(mail):
            return Reply.of(553, "5.7.1", "Not yours") if mail.reverse_path.startswith("refused@") else None
        case RecipientGiven(rcpt):
            return Reply.of(550, "5.1.1", "No") if rcpt.forward_path.startswith("refused@") else None
        case MessageReceived(data=data):
            return Reply.of(250, "2.0.0", f"Ok: queued as {len(data)}")
        case MessageComing():
            return None
    raise AssertionError(event)


def dialogue(*, tls: str = "", **changes: object) -> Dialogue:
    """A fresh session whose greeting has been read."""
    made = Dialogue(ServerSession(config(**changes), tls=tls))
    made.send(b"")
    return made
