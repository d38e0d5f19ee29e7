"""The vocabulary of the client's state machine: session states, the steps that await a reply, and the events that come out."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from mailfleet.smtp.extensions import Extensions
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.transaction import TransactionResult


class SessionState(StrEnum):
    """Where a session is."""

    OPENING = "opening"  # greeting, EHLO, STARTTLS
    TLS = "tls"  # the driver shakes hands
    READY = "ready"  # between transactions
    BUSY = "busy"  # in a transaction
    QUITTING = "quitting"
    CLOSED = "closed"


class Step(StrEnum):
    """What the next reply answers."""

    GREETING = "greeting"
    EHLO = "ehlo"
    HELO = "helo"
    STARTTLS = "starttls"
    AUTH = "auth"
    AUTH_USER = "auth-user"  # LOGIN asks for the name
    AUTH_PASSWORD = "auth-password"  # noqa: S105 - it is the name of a step
    RSET = "rset"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    MESSAGE = "message"  # after the final dot
    NO_MESSAGE = "no-message"  # after a final dot that only undoes a 354 nobody needed (RFC 2920 3.1)
    BDAT = "bdat"
    QUIT = "quit"


# Spelt as the values of policy.outcome.Phase.
PHASE = {
    Step.GREETING: "greeting",
    Step.EHLO: "ehlo",
    Step.HELO: "ehlo",
    Step.STARTTLS: "tls",
    Step.AUTH: "auth",
    Step.AUTH_USER: "auth",
    Step.AUTH_PASSWORD: "auth",
    Step.RSET: "mail",
    Step.MAIL: "mail",
    Step.RCPT: "rcpt",
    Step.DATA: "data",
    Step.MESSAGE: "message",
    Step.NO_MESSAGE: "message",
    Step.BDAT: "message",
    Step.QUIT: "",
}


class Login(NamedTuple):
    """What a relay wants to be told before it takes mail (RFC 4954)."""

    username: str
    password: str


class Opened(NamedTuple):
    """The session is ready for its first transaction."""

    extensions: Extensions


class TlsWanted(NamedTuple):
    """The remote said 220 to STARTTLS: shake hands, then call ``tls_started`` (or ``lose``)."""


class OpenFailed(NamedTuple):
    """There will be no session. Either ``reply`` or ``failure`` says why; spelt as in ``RecipientResult``."""

    phase: str
    failure: str
    reply: Reply | None
    detail: str


class OnWire(NamedTuple):
    """The bytes of a message are in the output: once they are sent the remote may have it, whatever it answers."""


class Finished(NamedTuple):
    """A transaction is over."""

    result: TransactionResult


class Ended(NamedTuple):
    """The session is over: send what is left to send, then close the connection."""

    reply: Reply | None


Event = Opened | TlsWanted | OpenFailed | OnWire | Finished | Ended
