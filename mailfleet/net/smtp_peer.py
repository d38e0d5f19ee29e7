"""What an SMTP connection is made from: the peer, the options, the time-outs, and the error when none can be had."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mailfleet.base.errors import MailfleetError
from mailfleet.config.settings import Delivery
from mailfleet.net.tls_client import unverified_context
from mailfleet.smtp.client_states import Login
from mailfleet.smtp.reply import Reply

TlsWish = Literal["opportunistic", "required", "none"]


@dataclass(frozen=True, slots=True)
class Peer:
    """A mail host: its name as MX records have it, and the address and port to connect to."""

    host: str
    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait (RFC 5321 4.5.3.2). Each counts from the last whole reply or the last block taken, not from a byte."""

    connect_s: float = 30
    greeting_s: float = 300
    command_s: float = 300  # also the TLS handshake
    data_s: float = 180  # the reply to DATA, and each block of a message
    final_s: float = 600
    quit_s: float = 5

    @classmethod
    def of(cls, delivery: Delivery) -> Timeouts:
        """From the settings."""
        return cls(
            connect_s=delivery.connect_timeout_s,
            greeting_s=delivery.greeting_timeout_s,
            command_s=delivery.command_timeout_s,
            data_s=delivery.data_timeout_s,
            final_s=delivery.final_timeout_s,
        )

    def awaiting(self) -> dict[str, float]:
        """How long the reply of each phase may take."""
        wait_s = dict.fromkeys(("ehlo", "tls", "auth", "mail", "rcpt", ""), self.command_s)
        return wait_s | {"greeting": self.greeting_s, "data": self.data_s, "message": self.final_s}


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How to connect. ``tls_context`` may be replaced by one that verifies; share one ``ClientOptions`` over connections.

    ``source_ipv4`` and ``source_ipv6`` are local addresses to bind for a peer of that family; empty leaves it to the system.
    ``check_peer``: asked after the handshake; what it returns, if anything, is why the remote is not the one that is meant.
    ``chunking``: use BDAT where the remote has it. ``login``: told to the remote after TLS, or without it where ``tls`` is none.
    """

    ehlo_name: str
    timeouts: Timeouts = Timeouts()
    tls: TlsWish = "opportunistic"
    source_ipv4: str = ""
    source_ipv6: str = ""
    loopback_only: bool = False
    login: Login | None = None
    chunking: bool = True
    tls_context: ssl.SSLContext = field(default_factory=unverified_context)
    check_peer: Callable[[ssl.SSLObject], str] | None = None

    def source_for(self, ip: str) -> str:
        """The local address for a connection to ``ip``; empty when it does not matter."""
        return self.source_ipv6 if ipaddress.ip_address(ip).version == 6 else self.source_ipv4


class Secured(NamedTuple):
    """Which policy of TLS a session was under and what was wrong with its TLS, each for people; whoever opens it says so."""

    policy: str = ""
    fault: str = ""


class ConnectFailed(MailfleetError):  # noqa: N818 - it is an outcome of an attempt, and named as one
    """No session with this mail host. Either ``reply`` or ``failure`` says why.

    ``phase`` and ``failure`` are spelt as the values of ``policy.outcome.Phase`` and ``Failure``; phase ``tls`` with failure
    ``tls-handshake`` may succeed with ``tls="none"``. ``detail`` is a sentence for people, ``transcript`` what was said.
    ``verify_code`` is OpenSSL's (X509_V_ERR), ``reason`` the short words of who found fault with TLS, ``local_ip`` our address.
    """

    secured = Secured()

    def __init__(
        self,
        phase: str,
        failure: str,
        *,
        reply: Reply | None = None,
        detail: str = "",
        transcript: str = "",
        local_ip: str = "",
        verify_code: int = 0,
        reason: str = "",
    ) -> None:
        self.phase = phase
        self.failure = failure
        self.reply = reply
        self.detail = detail
        self.transcript = transcript
        self.local_ip = local_ip
        self.verify_code = verify_code
        self.reason = reason
        super().__init__(f"{phase}: {reply or detail}")
