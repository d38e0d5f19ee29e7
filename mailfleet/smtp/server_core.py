"""The inside of a server session: what it remembers, how it replies, how a message ends. ``server`` is its outside."""

from __future__ import annotations

import re

from mailfleet.smtp.message_reader import VIOLATION, MessageReader
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.server_auth import LoginExchange, PlainExchange
from mailfleet.smtp.server_states import (
    NO_RECIPIENTS,
    OUT_OF_PLACE,
    Event,
    MessageReceived,
    ServerConfig,
    State,
    Transaction,
)

_UNPRINTABLE = re.compile(r"[^ -~]")
_MAX_REPLY_TEXT = 500  # RFC 5321 4.5.3.1.5: 512 with code and CRLF
_GO_AHEAD = Reply(354, ("End data with <CR><LF>.<CR><LF>",))


class SessionCore:
    """State shared by ``ServerSession`` and the command handlers of ``server_verbs``; of use to nobody else."""

    def __init__(self, config: ServerConfig, tls: str) -> None:
        self.config = config
        self.tls = tls
        self.ehlo_name = ""
        self.esmtp = False
        self.authenticated = False
        self.closing = False
        self.goodbye = False
        self.state = State.GREETED
        self.pending: Event | None = None
        self.input = b""
        self.position = 0  # of the first unread byte of input
        self.transaction: Transaction | None = None
        self.reader: MessageReader | None = None
        self.exchange: PlainExchange | LoginExchange | None = None
        self.chunk_left = 0
        self.chunk_last = False
        self.chunk_refusal: Reply | None = None
        self.message_bytes = 0  # of a message whose answer is awaited
        self.auth_failures = 0
        self._after_chunk = State.GREETED
        self._errors = 0
        self._output: list[bytes] = []
        self.output_bytes = 0

    # Replies

    def say(self, reply: Reply) -> None:
        """Queue a reply. Ours are ASCII on every line, whatever was quoted in them, and fit the line limit."""
        clean = Reply(reply.code, tuple(_UNPRINTABLE.sub("?", line)[:_MAX_REPLY_TEXT] for line in reply.lines))
        encoded = clean.encode()
        self._output.append(encoded)
        self.output_bytes += len(encoded)

    def refuse(self, reply: Reply) -> None:
        """Say a reply that counts as an error if it is permanent; one error too many closes."""
        self._errors += reply.permanent
        if self._errors >= self.config.max_errors:
            self.close(Reply.of(421, "4.7.0", "Too many errors"))
        else:
            self.say(reply)

    def close(self, reply: Reply | None) -> None:
        """Say ``reply``, if any, as the last word. Nothing more is read; a message on its way is forgotten."""
        if reply:
            self.say(reply)
            self.goodbye = reply.code == 221
        self.closing = True
        self.pending = None
        self.reset()
        self.input, self.position = b"", 0

    def take_output(self) -> bytes:
        """What was said since the last call."""
        output = b"".join(self._output)
        self._output.clear()
        self.output_bytes = 0
        return output

    # Transactions

    def out_of_place(self, verb: str) -> Reply:
        """The reply to a command that the state has no place for."""
        no_recipients = self.state is State.MAIL and verb in ("DATA", "BDAT")
        return NO_RECIPIENTS if no_recipients else OUT_OF_PLACE[self.state]

    def reset(self) -> None:
        """Forget the mail transaction (RFC 5321 4.1.1.5)."""
        self.transaction = self.reader = self.chunk_refusal = None
        self.state = State.READY

    def begin_message(self, refusal: Reply | None) -> None:
        """After DATA or the first BDAT was judged."""
        if self.state is State.CHUNKS:
            self.chunk_refusal = refusal
            self.enter_chunk()
        elif refusal:
            self.reset()
            self.refuse(refusal)
        else:
            self.state = State.DATA
            self.say(_GO_AHEAD)

    def enter_chunk(self) -> None:
        """Read the bytes of a BDAT chunk, to keep them or, with ``chunk_refusal``, to throw them away."""
        self._after_chunk = self.state
        self.state = State.CHUNK
        if not self.chunk_left:
            self.end_chunk()

    def end_chunk(self) -> None:
        """All bytes of a BDAT chunk are read."""
        self.state = self._after_chunk
        refusal = self.chunk_refusal
        if refusal is None and self.reader and not self.chunk_last:
            refusal = self.reader.refusal
        if refusal:
            if self.state is State.CHUNKS:
                self.reset()  # RFC 3030 2: later chunks find no transaction and are refused as well
            self.chunk_refusal = None
            self.refuse(refusal)
        elif self.chunk_last:
            self.end_message()
        else:
            self.say(Reply.of(250, "2.0.0", "Chunk taken"))

    def end_message(self) -> None:
        """The whole message is read: refuse it, or hand it out and await the answer."""
        assert self.reader
        assert self.transaction
        data, refusal = self.reader.finish(), self.reader.refusal
        transaction = self.transaction
        if self.reader.violated:
            self.close(VIOLATION)
            return
        self.reset()
        if refusal:
            self.refuse(refusal)
        else:
            self.message_bytes = len(data)
            self.pending = MessageReceived(transaction.mail, tuple(transaction.recipients), data)
