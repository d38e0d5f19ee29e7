"""What a server session is made of: its settings, its states as a table, and the events it hands to its driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from mailfleet.smtp.commands import MailCommand, RcptCommand
from mailfleet.smtp.reply import Reply


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How a session behaves. ``max_errors`` bounds refused commands, ``max_auth_failures`` wrong passwords: then it closes.

    ``auth`` means a submission server: AUTH must come before MAIL, and is offered only under TLS unless ``auth_without_tls``.
    ``starttls`` says that the driver has a certificate.
    """

    hostname: str
    max_message_bytes: int
    max_recipients: int
    max_errors: int = 20
    max_auth_failures: int = 3
    starttls: bool = True
    auth: bool = True
    auth_without_tls: bool = False


class State(Enum):
    """Where a session stands. ``DATA`` and ``CHUNK`` take message bytes, ``RESPONSE`` a line of AUTH, all others commands."""

    GREETED = "greeted"  # no EHLO yet
    READY = "ready"  # no mail transaction
    MAIL = "mail"  # reverse-path given
    RCPT = "rcpt"  # at least one recipient taken
    CHUNKS = "chunks"  # between two BDAT chunks of one message
    DATA = "data"
    CHUNK = "chunk"
    RESPONSE = "response"


_ANY = frozenset({State.GREETED, State.READY, State.MAIL, State.RCPT, State.CHUNKS})

# RFC 5321 4.1.4, with RFC 3030 2 for BDAT, RFC 3207 4 for STARTTLS and RFC 4954 4 for AUTH (neither inside a transaction)
ALLOWED: dict[str, frozenset[State]] = {
    "EHLO": _ANY,
    "HELO": _ANY,
    "RSET": _ANY,
    "NOOP": _ANY,
    "QUIT": _ANY,
    "HELP": _ANY,
    "VRFY": _ANY,
    "EXPN": _ANY,
    "STARTTLS": frozenset({State.READY}),
    "AUTH": frozenset({State.READY}),
    "MAIL": frozenset({State.READY}),
    "RCPT": frozenset({State.MAIL, State.RCPT}),
    "DATA": frozenset({State.RCPT}),
    "BDAT": frozenset({State.RCPT, State.CHUNKS}),
}

# Said when a command comes in a state where the table has no place for it.
OUT_OF_PLACE: dict[State, Reply] = {
    State.GREETED: Reply.of(503, "5.5.1", "Send EHLO first"),
    State.READY: Reply.of(503, "5.5.1", "Send MAIL first"),
    State.MAIL: Reply.of(503, "5.5.1", "Inside a mail transaction; RCPT is next, or RSET"),
    State.RCPT: Reply.of(503, "5.5.1", "Inside a mail transaction; DATA or BDAT is next, or RSET"),
    State.CHUNKS: Reply.of(503, "5.5.1", "A message is arriving in chunks; BDAT is next, or RSET"),
}
NO_RECIPIENTS = Reply.of(554, "5.5.1", "No valid recipients")  # RFC 5321 3.3

# A web browser made to talk to a mail server sends these (cross-protocol scripting); no mail client does.
FOREIGN = frozenset({"GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH"})


@dataclass(slots=True)
class Transaction:
    """One mail transaction as far as it has come."""

    mail: MailCommand
    recipients: list[RcptCommand] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LoginAsked:
    """A complete AUTH exchange. Answer None to let the client in, or a refusing reply."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TlsAsked:
    """STARTTLS: send what there is to send, do the handshake, then call ``tls_started``. Read nothing in between."""


@dataclass(frozen=True, slots=True)
class SenderGiven:
    """MAIL, syntactically right. Answer None to take it, or a refusing reply."""

    mail: MailCommand


@dataclass(frozen=True, slots=True)
class RecipientGiven:
    """RCPT, syntactically right. Answer None to take it, or a refusing reply."""

    rcpt: RcptCommand


@dataclass(frozen=True, slots=True)
class MessageComing:
    """DATA, or the first BDAT. ``expected_bytes`` is what SIZE or BDAT announced, else 0. Answer None, or a refusing reply."""

    expected_bytes: int


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A whole message. Answer with the reply, positive only once the message is durable."""

    mail: MailCommand
    recipients: Sequence[RcptCommand]
    data: bytes = field(repr=False)


Event = LoginAsked | TlsAsked | SenderGiven | RecipientGiven | MessageComing | MessageReceived
