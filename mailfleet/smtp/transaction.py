"""A mail transaction (RFC 5321 3.3) as the client is given it, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mailfleet.smtp.client_transcript import TranscriptLog
from mailfleet.smtp.reply import Reply


class Recipient(NamedTuple):
    """One RCPT TO. ``address`` is the wire form; the rest is RFC 3461 4.1 and 4.2, sent where the remote offers DSN.

    ``notify`` is a subset of NEVER, SUCCESS, FAILURE, DELAY, or None when not given; ``orcpt`` is decoded:
    ``rfc822;ann@example.org``, or empty.
    """

    address: str
    notify: frozenset[str] | None = None
    orcpt: str = ""


class Transaction(NamedTuple):
    """One message to one or more recipients of one mail host.

    ``reverse_path`` is the wire form, empty for the null reverse-path. ``message`` is header and body with CRLF line ends
    only, not dot-stuffed; whoever made or accepted it has seen to that. ``dotted``: a line of it may begin with a dot.
    ``eightbit``: it has bytes above 127. ``smtputf8``: an address or header field is in UTF-8 (RFC 6531). ``envid``
    (decoded) and ``ret`` (FULL, HDRS or empty) are RFC 3461 4.3 and 4.4. ``requiretls``: it may go only to a remote that offers
    REQUIRETLS (RFC 8689); whether the session is secure enough to say so is for the caller to know.
    """

    reverse_path: str
    recipients: Sequence[Recipient]
    message: bytes
    eightbit: bool = False
    smtputf8: bool = False
    envid: str = ""
    ret: str = ""
    dotted: bool = True
    requiretls: bool = False


class RecipientResult(NamedTuple):
    """What came of one recipient. Exactly one of ``reply`` and ``failure`` is set.

    ``phase`` and ``failure`` are spelt as the values of ``policy.outcome.Phase`` and ``Failure``. ``detail`` is a sentence
    for people, set with ``failure``.
    """

    phase: str
    reply: Reply | None = None
    failure: str = ""
    detail: str = ""

    @property
    def delivered(self) -> bool:
        """The remote took responsibility: 2yz to the message."""
        return self.phase == "message" and self.reply is not None and self.reply.positive


class TransactionResult:
    """What came of a transaction: ``recipients`` in the order they were given.

    ``inconclusive``: no reply was about this transaction, because the connection had gone or the host was still in the one
    before it. Unless it was the first of its connection this says nothing about the mail host: try again.
    """

    __slots__ = ("_log", "inconclusive", "recipients")

    def __init__(self, recipients: tuple[RecipientResult, ...], log: TranscriptLog, *, inconclusive: bool) -> None:
        self.recipients = recipients
        self.inconclusive = inconclusive
        self._log = log

    @property
    def transcript(self) -> str:
        """What was said, see ``client_transcript``. Put together when asked for, as most transcripts never are."""
        return self._log.text()

    def __repr__(self) -> str:
        return f"TransactionResult({self.recipients!r}, inconclusive={self.inconclusive})"
