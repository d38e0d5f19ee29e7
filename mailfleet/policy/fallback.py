"""What a reply means when no rule knows its words: the enhanced status table, then the bare code in its phase; and failures.

Tables only, with the few lines that read them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mailfleet.policy.outcome import Action, Failure, Phase
from mailfleet.smtp.reply import Reply

BEFORE_MAIL = frozenset({Phase.DNS, Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.TLS, Phase.AUTH})

STATUS_CLASS: dict[tuple[int, int], str] = {
    # RFC 3463 3.2, addressing
    (1, 0): "recipient-rejected",
    (1, 1): "unknown-user",
    (1, 2): "no-such-domain",
    (1, 3): "bad-address-syntax",
    (1, 4): "recipient-rejected",
    (1, 6): "unknown-user",
    (1, 7): "sender-rejected",
    (1, 8): "sender-rejected",
    (1, 9): "unsupported",
    (1, 10): "no-mail-host",  # RFC 7505 4.2
    # 3.3, mailbox
    (2, 0): "recipient-rejected",
    (2, 1): "mailbox-disabled",
    (2, 2): "mailbox-full",
    (2, 3): "message-too-large",
    (2, 4): "recipient-rejected",
    # 3.4, mail system
    (3, 0): "remote-down",
    (3, 1): "out-of-storage",
    (3, 2): "remote-down",
    (3, 3): "unsupported",
    (3, 4): "message-too-large",
    (3, 5): "remote-down",
    # 3.5, network and routing
    (4, 0): "connection",
    (4, 1): "connection",
    (4, 2): "connection",
    (4, 3): "dns",
    (4, 4): "dns",
    (4, 5): "remote-down",
    (4, 6): "loop",
    (4, 7): "connection",
    # 3.6, protocol
    (5, 0): "protocol",
    (5, 1): "protocol",
    (5, 2): "protocol",
    (5, 3): "rate-limited",
    (5, 4): "protocol",
    (5, 5): "protocol",
    (5, 6): "protocol",
    # 3.7, content
    (6, 0): "content-rejected",
    (6, 1): "content-rejected",
    (6, 2): "content-rejected",
    (6, 3): "content-rejected",
    (6, 4): "content-rejected",
    (6, 5): "content-rejected",
    (6, 6): "content-rejected",
    (6, 7): "unsupported",  # RFC 6531 3.5: non-ASCII addresses not permitted
    (6, 8): "unsupported",
    (6, 9): "unsupported",
    # 3.8, security and policy
    (7, 0): "policy",
    (7, 1): "policy",
    (7, 2): "recipient-rejected",
    (7, 3): "content-rejected",
    (7, 4): "unsupported",
    (7, 5): "content-rejected",
    (7, 6): "unsupported",
    (7, 7): "content-rejected",
    (7, 8): "policy",  # RFC 4954 6
    (7, 9): "policy",
    (7, 10): "tls-required",  # RFC 7817
    (7, 11): "tls-required",
    (7, 12): "policy",
    (7, 13): "mailbox-disabled",  # RFC 5248 2.4, registry
    (7, 14): "policy",
    (7, 15): "policy",
    (7, 16): "message-too-large",
    (7, 17): "unknown-user",  # RFC 7293 14: the mailbox has changed hands
    (7, 18): "unknown-user",
    (7, 19): "policy",
    (7, 20): "authentication",  # RFC 7372
    (7, 21): "authentication",
    (7, 22): "authentication",
    (7, 23): "authentication",
    (7, 24): "authentication",
    (7, 25): "ptr",
    (7, 26): "authentication",
    (7, 27): "sender-rejected",  # RFC 7505 4.2
    (7, 28): "rate-limited",
    (7, 29): "authentication",
    (7, 30): "tls-required",  # RFC 8689
}

# Code in its phase; the phase None is every other one. What is not here goes by its first digit.
_CODE_CLASS: dict[tuple[int, Phase | None], str] = {
    (421, Phase.GREETING): "remote-down",
    (421, None): "remote-down",  # RFC 5321 4.2.2: service not available
    (432, None): "remote-down",
    (450, None): "mailbox-busy",
    (451, None): "remote-down",
    (452, None): "out-of-storage",
    (454, None): "tls-required",
    (455, None): "protocol",
    (500, None): "protocol",
    (501, Phase.RCPT): "bad-address-syntax",
    (501, Phase.MAIL): "sender-rejected",
    (501, None): "protocol",
    (502, None): "protocol",
    (503, None): "protocol",
    (504, None): "protocol",
    (521, None): "no-mail-host",  # RFC 7504
    (523, None): "message-too-large",
    (530, None): "relay-denied",
    (534, None): "relay-denied",
    (535, None): "relay-denied",
    (538, None): "tls-required",
    (550, Phase.RCPT): "unknown-user",
    (550, Phase.MAIL): "sender-rejected",
    (550, None): "policy",
    (551, Phase.RCPT): "unknown-user",
    (551, None): "policy",
    (552, Phase.RCPT): "mailbox-full",
    (552, None): "message-too-large",  # RFC 1870 6.1
    (553, Phase.RCPT): "bad-address-syntax",
    (553, Phase.MAIL): "sender-rejected",
    (553, None): "policy",
    (554, None): "policy",
    (555, None): "unsupported",  # RFC 5321 4.1.1.11
    (556, None): "no-mail-host",  # RFC 7504
    (571, None): "policy",
}

# Words that show that a wordy 550 at RCPT is not simply "no such mailbox".
_POLICY_WORDS = """
    abuse accept accepted accepting access allowed auth authenticated authentication authorized banned
    blacklist blacklisted block blocked blocking blocklist blocklisted client connection content denied dkim
    dmarc dnsbl filter filtered helo ehlo http https ip limit listed many network permitted policy prohibited
    ptr rate rbl refused reject rejected relay relaying reputation reverse security sender server spam spammer
    spf system tls trusted unacceptable unauthenticated unauthorized unwanted violation virus www abgelehnt
    gesperrt verweigert refusé refuse bloqué bloqueado rechazado denegado rifiutato bloccato recusado
    odrzucono zablokowany geweigerd geblokkeerd
"""
_DOUBT_WORDS = """
    again busy domain error failed failure internal later overloaded problem quota temporarily temporary timeout try wait
"""
_MAILBOX_WORDS = """
    account address addressee alias destination exist exists mailbox nobody person recipient recipients undeliverable
    unknown user users
"""
_POLICY = frozenset(_POLICY_WORDS.split())
_DOUBT = frozenset(_DOUBT_WORDS.split())
_MAILBOX = frozenset(_MAILBOX_WORDS.split())
_IPV4 = re.compile(r"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b")


def status_class(status: tuple[int, int, int]) -> str | None:
    """The class of an enhanced status; None for one that says nothing, such as X.0.0.

    An unknown detail means what the subject means (RFC 3463 2).
    """
    return STATUS_CLASS.get(status[1:]) or STATUS_CLASS.get((status[1], 0))


def code_class(reply: Reply, phase: Phase, words: Sequence[str], has_status: bool) -> str:
    """The class of a bare code. A 550 or 551 at RCPT is "no such mailbox" (RFC 5321 4.2.3) only if nothing speaks against it.

    Against it speak an enhanced status (whoever sends one would have sent 5.1.1), a word of policy or doubt, an IP
    address, letters of a script that no rule knows, and words of which none is about a mailbox.
    """
    found = _CODE_CLASS.get((reply.code, phase)) or _CODE_CLASS.get((reply.code, None), "undetermined")
    if phase is Phase.TLS:
        return "tls-required"
    if found != "unknown-user":
        return found
    if not _POLICY.isdisjoint(words) or _IPV4.search(reply.text):
        return "policy"
    doubtful = has_status or not _DOUBT.isdisjoint(words) or not all(word.isascii() for word in words)
    return "undetermined" if doubtful or (words and _MAILBOX.isdisjoint(words)) else found


@dataclass(frozen=True, slots=True)
class FailureMeaning:
    """What a failure without a reply means."""

    bounce_class: str
    action: Action
    suppress: bool = False


FAILURES: dict[Failure, FailureMeaning] = {
    # Our own lookups found that no mail can ever arrive: RFC 5321 5.1, RFC 7505 4.1.
    Failure.NO_SUCH_DOMAIN: FailureMeaning("no-such-domain", Action.BOUNCE, suppress=True),
    Failure.NULL_MX: FailureMeaning("no-mail-host", Action.BOUNCE, suppress=True),
    # The domain is alive and may get its records back.
    Failure.NO_MAIL_HOST: FailureMeaning("no-mail-host", Action.BOUNCE),
    Failure.DNS_TEMPORARY: FailureMeaning("dns", Action.DEFER),
    Failure.CONNECTION_REFUSED: FailureMeaning("connection", Action.DEFER),
    Failure.CONNECTION_TIMEOUT: FailureMeaning("connection", Action.DEFER),
    Failure.UNREACHABLE: FailureMeaning("connection", Action.DEFER),
    Failure.CONNECTION_LOST: FailureMeaning("connection", Action.DEFER),
    Failure.REPLY_TIMEOUT: FailureMeaning("connection", Action.DEFER),
    Failure.PROTOCOL: FailureMeaning("protocol", Action.DEFER),
    Failure.TLS_REQUIRED: FailureMeaning("tls-required", Action.DEFER),
    Failure.TLS_HANDSHAKE: FailureMeaning("tls-required", Action.DEFER),
    Failure.TLS_UNPROVEN: FailureMeaning("tls-required", Action.BOUNCE),  # RFC 8689 4.2.1
    Failure.REQUIRETLS: FailureMeaning("tls-required", Action.BOUNCE),  # RFC 8689 4.2.1
    Failure.LOGIN: FailureMeaning("connection", Action.DEFER),
    Failure.TOO_LARGE: FailureMeaning("message-too-large", Action.BOUNCE),
    Failure.NEEDS_SMTPUTF8: FailureMeaning("unsupported", Action.BOUNCE),  # RFC 6531 3.2
    Failure.NEEDS_8BITMIME: FailureMeaning("unsupported", Action.BOUNCE),  # RFC 6152 3
    Failure.RENDER: FailureMeaning("render", Action.BOUNCE),
    Failure.INTERNAL: FailureMeaning("render", Action.DEFER),
}
