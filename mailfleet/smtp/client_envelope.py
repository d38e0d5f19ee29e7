"""One running transaction of a client session: who has been answered what. Which command comes next is the session's."""

from __future__ import annotations

from mailfleet.smtp.client_transcript import TranscriptLog
from mailfleet.smtp.extensions import Extensions
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.transaction import RecipientResult, Transaction, TransactionResult


class Envelope:
    """Collects one ``RecipientResult`` for each recipient. The first result of a recipient stands."""

    __slots__ = (
        "_results",
        "answered",
        "behind_refused",
        "inconclusive",
        "live",
        "log",
        "mail_accepted",
        "next_rcpt",
        "said",
        "transaction",
    )

    def __init__(self, transaction: Transaction, now_s: float) -> None:
        self.transaction = transaction
        self.log = TranscriptLog(now_s)
        self.said = False  # its commands were sent, all of them
        self.answered = False
        self.behind_refused = False  # they were sent behind a message that was then refused
        self.inconclusive = False  # what the host said of it was about the one before
        self.mail_accepted = False
        self.live: list[int] = []  # recipients with 2yz to RCPT and nothing after it yet
        self.next_rcpt = 0  # index of the RCPT that is answered (or, without pipelining, sent) next
        self._results: list[RecipientResult | None] = [None] * len(transaction.recipients)

    def mail_rejected(self, reply: Reply) -> None:
        """No recipient gets the message."""
        self.settle_rest(RecipientResult("mail", reply))

    def rcpt_answered(self, reply: Reply) -> None:
        """The reply to the next RCPT."""
        index = self.next_rcpt
        self.next_rcpt += 1
        if not self.mail_accepted:
            return  # pipelined after a MAIL that failed: the reply to MAIL is what counts
        if reply.positive:
            self.live.append(index)
        else:
            self._results[index] = RecipientResult("rcpt", reply)

    def settle_live(self, result: RecipientResult) -> None:
        """The reply to DATA or to the message, for every recipient that was still in it."""
        for index in self.live:
            self._results[index] = result
        self.live = []

    def settle_rest(self, result: RecipientResult) -> None:
        """Every recipient without a result of its own gets this one."""
        self._results = [own or result for own in self._results]
        self.live = []

    def result(self) -> TransactionResult:
        """The end of it. Every recipient has been settled."""
        done = tuple(own for own in self._results if own is not None)
        assert len(done) == len(self._results), "a recipient was left without a result"
        return TransactionResult(done, self.log, inconclusive=self.inconclusive or not self.answered)


def local_refusal(transaction: Transaction, extensions: Extensions) -> RecipientResult | None:
    """Why this remote cannot take this message, known before MAIL is said; ``None`` when nothing speaks against it."""
    limit = extensions.max_message_bytes
    if limit and len(transaction.message) > limit:  # RFC 1870 6.1
        size = len(transaction.message)
        return RecipientResult("mail", None, "too-large", f"the message has {size} bytes, the remote takes {limit}")
    if transaction.requiretls and not extensions.requiretls:  # RFC 8689 4.2.1
        return RecipientResult("mail", None, "requiretls", "the remote does not offer REQUIRETLS")
    if transaction.smtputf8 and not extensions.smtputf8:  # RFC 6531 3.6
        return RecipientResult("mail", None, "needs-smtputf8", "the remote does not offer SMTPUTF8")
    if transaction.eightbit and not extensions.eightbitmime:  # RFC 6152 3
        return RecipientResult("mail", None, "needs-8bitmime", "the remote does not offer 8BITMIME")
    return None
