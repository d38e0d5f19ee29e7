"""What happened to an attempt (outcome) and what it means (verdict). Words of docs/overview.md; no decision is taken here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from mailfleet.smtp.reply import Reply


class Phase(StrEnum):
    """Where in an attempt something happened."""

    DNS = "dns"
    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    MESSAGE = "message"  # after the final dot, or the last BDAT chunk


class Failure(StrEnum):
    """Why an attempt ended without a reply that settles it."""

    NONE = ""
    NO_SUCH_DOMAIN = "no-such-domain"  # NXDOMAIN
    NO_MAIL_HOST = "no-mail-host"  # no MX and no address records
    NULL_MX = "null-mx"  # RFC 7505
    DNS_TEMPORARY = "dns-temporary"  # SERVFAIL, time-out, refused
    CONNECTION_REFUSED = "connection-refused"
    CONNECTION_TIMEOUT = "connection-timeout"
    UNREACHABLE = "unreachable"
    CONNECTION_LOST = "connection-lost"  # closed or reset in the middle
    REPLY_TIMEOUT = "reply-timeout"  # silent or dripping remote
    PROTOCOL = "protocol"  # a reply that is not SMTP
    TLS_REQUIRED = "tls-required"  # policy demands TLS and the remote does not offer it
    TLS_HANDSHAKE = "tls-handshake"
    TLS_UNPROVEN = "tls-unproven"  # the message has REQUIRETLS, and no host of the domain proved itself under TLS
    REQUIRETLS = "requiretls"  # the message has REQUIRETLS, and no host that proved itself offers it
    LOGIN = "login"  # a relay does not let us in
    TOO_LARGE = "too-large"  # above the remote's SIZE, found before MAIL
    NEEDS_SMTPUTF8 = "needs-smtputf8"
    NEEDS_8BITMIME = "needs-8bitmime"
    RENDER = "render"  # our side: template or key
    INTERNAL = "internal"  # our side: a bug that crashed the attempt


class Outcome(NamedTuple):
    """What happened to one recipient in one attempt.

    Exactly one of these holds: ``reply`` is set (the remote's last word on this recipient) or ``failure`` is not NONE.
    ``detail`` is a plain sentence for people, never a secret. ``mx_host`` and ``remote_ip`` are empty when no host was reached.
    ``tls_policy``: which policy of TLS the session was under; ``tls_fault``: what was wrong with its TLS, passed over or not.
    """

    phase: Phase
    reply: Reply | None = None
    failure: Failure = Failure.NONE
    detail: str = ""
    mx_host: str = ""
    remote_ip: str = ""
    tls_policy: str = ""
    tls_fault: str = ""

    @property
    def delivered(self) -> bool:
        """The remote took responsibility: 2yz to the message."""
        return self.phase is Phase.MESSAGE and self.reply is not None and self.reply.positive


class Action(StrEnum):
    """What to do with the delivery."""

    DELIVER = "deliver"
    DEFER = "defer"
    BOUNCE = "bounce"


class Fault(StrEnum):
    """Whose fault it is, which is whom to talk to."""

    NONE = "none"
    RECIPIENT = "recipient"
    SITE = "site"
    SOURCE = "source"
    CONTENT = "content"
    US = "us"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an outcome means. ``bounce_class`` is one of ``policy.classify.BOUNCE_CLASSES``; ``rule`` names the rule that matched."""

    action: Action
    bounce_class: str
    fault: Fault
    suppress: bool
    rule: str
