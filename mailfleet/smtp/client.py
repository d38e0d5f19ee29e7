"""The client side of SMTP (RFC 5321), sans-IO: bytes and instants in, events and bytes to send out.

Which handler takes which reply stands in one table at the end. Deadlines belong to the driver: ``phase`` tells it which one
applies, ``answers`` whether a whole reply has come since it last looked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mailfleet.smtp.client_commands import mail_command, rcpt_command
from mailfleet.smtp.client_envelope import Envelope, local_refusal
from mailfleet.smtp.client_states import (
    PHASE,
    Ended,
    Event,
    Finished,
    Opened,
    OpenFailed,
    SessionState,
    Step,
    TlsWanted,
)
from mailfleet.smtp.client_transcript import TranscriptLog
from mailfleet.smtp.dotstuff import stuffed
from mailfleet.smtp.extensions import Extensions
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.reply_parser import ReplyError, ReplyParser
from mailfleet.smtp.transaction import RecipientResult, Transaction, TransactionResult

# A larger message waits for the reply to RCPT: sent for nothing it would cost more than the round trip it saves.
MAX_PIPELINED_CHUNK_BYTES = 128 * 1024


class ClientSession:
    """One session with one mail host, from the greeting on. Every ``now_s`` is from the same monotonic clock.

    ``tls`` is ``opportunistic``, ``required`` or ``none``. ``chunking``: use BDAT where the remote offers CHUNKING and
    PIPELINING, which saves a round trip for each message.
    """

    __slots__ = (
        "_chunking", "_ehlo_name", "_envelope", "_events", "_expected", "_needs_rset", "_now_s", "_output", "_parser",
        "_secured", "_step", "_tls", "answers", "extensions", "log", "state",
    )  # fmt: skip

    def __init__(self, ehlo_name: str, *, tls: str, chunking: bool, now_s: float) -> None:
        self.state = SessionState.OPENING
        self.extensions = Extensions()
        self.answers = 0
        self.log = TranscriptLog(now_s)
        self._ehlo_name = ehlo_name
        self._tls = tls
        self._chunking = chunking
        self._now_s = now_s
        self._parser = ReplyParser()
        self._secured = False
        self._expected: deque[Step] = deque([Step.GREETING])
        self._output: list[bytes] = []
        self._events: list[Event] = []
        self._envelope: Envelope | None = None
        self._needs_rset = False
        self._step = Step.GREETING  # the one whose reply is being handled

    @property
    def phase(self) -> str:
        """The phase whose reply is awaited, spelt as ``policy.outcome.Phase``; empty when nothing is."""
        return PHASE[self._expected[0]] if self._expected else "tls" if self.state is SessionState.TLS else ""

    def take_output(self) -> list[bytes]:
        """The bytes to send now, in pieces that may be joined."""
        output, self._output = self._output, []
        return output

    def receive(self, data: bytes, now_s: float) -> list[Event]:
        """Take bytes from the remote."""
        self._now_s = now_s
        parser = self._parser
        parser.receive(data)
        try:
            while not self._in((SessionState.CLOSED, SessionState.TLS)) and (reply := parser.next_reply()) is not None:
                self._on_reply(reply)
        except ReplyError as error:
            self._lose("protocol", f"the remote sent {error}")
        if self._in((SessionState.TLS,)) and parser.pending:
            # RFC 3207 6: clear text where TLS belongs is somebody else's
            self._events.clear()
            self._lose("tls-handshake", "the remote spoke in clear text after agreeing to TLS")
        return self._take_events()

    def _in(self, states: tuple[SessionState, ...]) -> bool:
        return self.state in states

    def start(self, transaction: Transaction, now_s: float) -> TransactionResult | None:
        """Begin a transaction; the state must be READY, or CLOSED by the remote.

        A result at once means that nothing was sent: this remote cannot take the message, or it has gone.
        """
        assert self.state in (SessionState.READY, SessionState.CLOSED), f"a transaction while {self.state}"
        assert transaction.recipients, "a transaction without recipients"
        self._now_s = now_s
        envelope = Envelope(transaction, now_s)
        refusal = local_refusal(transaction, self.extensions)
        if self.state is SessionState.CLOSED:
            refusal = RecipientResult("mail", None, "connection-lost", "the remote had closed the idle connection")
        if refusal is not None:
            envelope.log.remark(now_s, refusal.detail)
            envelope.settle_rest(refusal)
            return envelope.result()
        self._envelope = envelope
        self.state = SessionState.BUSY
        if self._needs_rset:
            self._say("RSET\r\n", Step.RSET)
        if self.extensions.pipelining:
            self._say_pipelined(transaction)
        elif not self._needs_rset:
            self._say(mail_command(transaction, self.extensions), Step.MAIL)
        self._needs_rset = False
        return None

    def tls_started(self, description: str, now_s: float) -> None:
        """The handshake is done; ``description`` such as ``TLSv1.3 TLS_AES_256_GCM_SHA384`` goes into the transcript."""
        assert self.state is SessionState.TLS
        self._now_s = now_s
        self.log.remark(now_s, f"TLS {description}")
        self.state = SessionState.OPENING
        self._secured = True
        self.extensions = Extensions()  # RFC 3207 4.2: what was learnt in the clear is forgotten
        self._say(f"EHLO {self._ehlo_name}\r\n", Step.EHLO)

    def quit(self, now_s: float) -> None:
        """Say QUIT; the state must be READY. ``Ended`` follows."""
        assert self.state is SessionState.READY
        self._now_s = now_s
        self.state = SessionState.QUITTING
        self._say("QUIT\r\n", Step.QUIT)

    def lose(self, failure: str, detail: str, now_s: float) -> list[Event]:
        """The driver gives up on the connection (closed, timed out): ``failure`` is spelt as ``policy.outcome.Failure``."""
        self._now_s = now_s
        if self.state is not SessionState.CLOSED:
            self._lose(failure, detail)
        return self._take_events()

    # Sending

    def _say(self, command: str, *steps: Step) -> None:
        """Send one or more commands, each ending CRLF, and expect a reply to each."""
        assert command.count("\n") == len(steps), "a line break inside a command"
        assert command.isascii() or (self._envelope is not None and self._envelope.transaction.smtputf8)
        log = self.log if self._envelope is None else self._envelope.log
        log.sent(self._now_s, command)
        self._expected.extend(steps)
        self._output.append(command.encode())

    def _say_pipelined(self, transaction: Transaction) -> None:
        """MAIL, every RCPT, and DATA or the one BDAT, in one piece (RFC 2920 3.1)."""
        extensions, message = self.extensions, transaction.message
        commands = [mail_command(transaction, extensions)]
        commands += [rcpt_command(recipient, extensions) for recipient in transaction.recipients]
        steps = [Step.MAIL] + [Step.RCPT] * len(transaction.recipients)
        if self._chunking and extensions.chunking and len(message) <= MAX_PIPELINED_CHUNK_BYTES:
            commands.append(f"BDAT {len(message)} LAST\r\n")  # RFC 3030 2
            self._say("".join(commands), *steps, Step.BDAT)
            self._log_message(message)
            self._output.append(message)
        else:
            commands.append("DATA\r\n")
            self._say("".join(commands), *steps, Step.DATA)

    def _log_message(self, message: bytes) -> None:
        assert self._envelope is not None
        self._envelope.log.sent(self._now_s, f"(message, {len(message)} bytes)")

    # Every reply

    def _on_reply(self, reply: Reply) -> None:
        self.answers += 1
        envelope = self._envelope
        if envelope is None:
            self.log.received(self._now_s, reply)
        else:
            envelope.log.received(self._now_s, reply)
            envelope.answered = True
        if reply.code == 421:  # RFC 5321 3.8: may come at any point, and the connection closes after it
            self._close_on(reply)
            return
        if not self._expected:
            self._lose("protocol", f"the remote said {reply} when nothing had been asked")
            return
        self._step = self._expected[0]
        handler = _HANDLERS[self._step].get(reply.code // 100)
        if handler is None:
            self._lose("protocol", f"the remote answered {self._step.upper()} with {reply}")
            return
        self._expected.popleft()
        handler(self, reply)

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    # Opening

    def _greeted(self, _reply: Reply) -> None:
        self._say(f"EHLO {self._ehlo_name}\r\n", Step.EHLO)

    def _refused(self, reply: Reply) -> None:
        """A 4yz or 5yz without which there is no session."""
        self._fail_open(PHASE[self._step], "", reply, "")

    def _ehlo_refused(self, _reply: Reply) -> None:
        self._say(f"HELO {self._ehlo_name}\r\n", Step.HELO)  # RFC 5321 3.2

    def _ehlo_accepted(self, reply: Reply) -> None:
        self.extensions = Extensions.parse(reply.lines)
        if self._secured or self._tls == "none":
            self._opened()
        elif self.extensions.starttls:
            self._say("STARTTLS\r\n", Step.STARTTLS)
        else:
            self._continue_in_clear(None)

    def _helo_accepted(self, _reply: Reply) -> None:
        self.extensions = Extensions()
        if self._secured or self._tls == "none":
            self._opened()
        else:
            self._continue_in_clear(None)

    def _starttls_accepted(self, _reply: Reply) -> None:
        self.state = SessionState.TLS
        self._events.append(TlsWanted())

    def _starttls_refused(self, reply: Reply) -> None:
        self._continue_in_clear(reply)

    def _continue_in_clear(self, reply: Reply | None) -> None:
        if self._tls != "required":
            self._opened()
        elif reply is not None:
            self._fail_open("tls", "", reply, "")
        else:
            self._fail_open("tls", "tls-required", None, "TLS is required here and the remote does not offer STARTTLS")

    def _opened(self) -> None:
        self.state = SessionState.READY
        self._events.append(Opened(self.extensions))

    def _fail_open(self, phase: str, failure: str, reply: Reply | None, detail: str) -> None:
        if not failure:
            self._say("QUIT\r\n", Step.QUIT)  # RFC 5321 3.1: also after 554 as the greeting
        self.state = SessionState.CLOSED
        self._events.append(OpenFailed(phase, failure, reply, detail))

    # A transaction

    def _reset(self, _reply: Reply) -> None:
        """RSET has no reply worth stopping for: MAIL will show whether it helped."""
        if not self.extensions.pipelining:
            self._say(mail_command(self._running.transaction, self.extensions), Step.MAIL)

    @property
    def _running(self) -> Envelope:
        assert self._envelope is not None
        return self._envelope

    def _mail_accepted(self, _reply: Reply) -> None:
        self._running.mail_accepted = True
        if not self.extensions.pipelining:
            self._say_next_rcpt()

    def _mail_rejected(self, reply: Reply) -> None:
        self._running.mail_rejected(reply)
        if not self.extensions.pipelining:
            self._finish()

    def _say_next_rcpt(self) -> None:
        envelope = self._running
        self._say(rcpt_command(envelope.transaction.recipients[envelope.next_rcpt], self.extensions), Step.RCPT)

    def _rcpt_answered(self, reply: Reply) -> None:
        envelope = self._running
        envelope.rcpt_answered(reply)
        if self.extensions.pipelining:
            return
        if envelope.next_rcpt < len(envelope.transaction.recipients):
            self._say_next_rcpt()
        elif envelope.live:
            self._say("DATA\r\n", Step.DATA)
        else:
            self._finish()

    def _data_accepted(self, _reply: Reply) -> None:
        envelope = self._running
        if not envelope.live:
            # RFC 2920 3.1: 354 although no recipient stands; nothing but the final dot leads out of it
            envelope.log.sent(self._now_s, ".")
            self._output.append(b".\r\n")
            self._expected.append(Step.NO_MESSAGE)
            return
        message = envelope.transaction.message
        self._log_message(message)
        self._output.append(stuffed(message))
        self._expected.append(Step.MESSAGE)

    def _data_rejected(self, reply: Reply) -> None:
        self._running.settle_live(RecipientResult("data", reply))
        self._finish()

    def _message_answered(self, reply: Reply) -> None:
        envelope = self._running
        taken = reply.positive and bool(envelope.live)
        envelope.settle_live(RecipientResult("message", reply))
        self._finish(completed=taken)

    def _finish(self, *, completed: bool = False) -> None:
        envelope = self._running
        # RFC 5321 4.1.1.4: only a message that was taken ends the transaction at the other side for certain
        self._needs_rset = envelope.mail_accepted and not completed
        self._envelope = None
        self.state = SessionState.READY
        self._events.append(Finished(envelope.result()))

    # Ends

    def _quit_answered(self, reply: Reply) -> None:
        self.state = SessionState.CLOSED
        self._events.append(Ended(reply))

    def _close_on(self, reply: Reply) -> None:
        """421, whatever it answers."""
        phase = self.phase
        was = self.state
        self.state = SessionState.CLOSED
        if was is SessionState.OPENING:
            self._events.append(OpenFailed(phase, "", reply, ""))
            return
        if self._envelope is not None:
            self._give_up_envelope(RecipientResult(phase, reply))
        self._events.append(Ended(reply))

    def _lose(self, failure: str, detail: str) -> None:
        phase = self.phase
        was = self.state
        self.state = SessionState.CLOSED
        (self.log if self._envelope is None else self._envelope.log).remark(self._now_s, detail)
        if was in (SessionState.OPENING, SessionState.TLS):
            self._events.append(OpenFailed(phase, failure, None, detail))
            return
        if self._envelope is not None:
            self._give_up_envelope(RecipientResult(phase, None, failure, detail))
        self._events.append(Ended(None))

    def _give_up_envelope(self, rest: RecipientResult) -> None:
        envelope = self._running
        envelope.settle_rest(rest)
        self._envelope = None
        self._events.append(Finished(envelope.result()))


_Handler = Callable[[ClientSession, Reply], None]

# Step -> first digit of the reply -> what is done about it. A pair that is not here is a protocol failure, save 421,
# which ends the session at any step.
_HANDLERS: dict[Step, dict[int, _Handler]] = {
    Step.GREETING: {2: ClientSession._greeted, 4: ClientSession._refused, 5: ClientSession._refused},
    Step.EHLO: {2: ClientSession._ehlo_accepted, 4: ClientSession._refused, 5: ClientSession._ehlo_refused},
    Step.HELO: {2: ClientSession._helo_accepted, 4: ClientSession._refused, 5: ClientSession._refused},
    Step.STARTTLS: {
        2: ClientSession._starttls_accepted,
        4: ClientSession._starttls_refused,
        5: ClientSession._starttls_refused,
    },
    Step.RSET: {2: ClientSession._reset, 4: ClientSession._reset, 5: ClientSession._reset},
    Step.MAIL: {2: ClientSession._mail_accepted, 4: ClientSession._mail_rejected, 5: ClientSession._mail_rejected},
    Step.RCPT: {2: ClientSession._rcpt_answered, 4: ClientSession._rcpt_answered, 5: ClientSession._rcpt_answered},
    Step.DATA: {3: ClientSession._data_accepted, 4: ClientSession._data_rejected, 5: ClientSession._data_rejected},
    Step.MESSAGE: dict.fromkeys((2, 4, 5), ClientSession._message_answered),
    Step.NO_MESSAGE: dict.fromkeys((2, 4, 5), ClientSession._message_answered),
    Step.BDAT: dict.fromkeys((2, 4, 5), ClientSession._message_answered),
    Step.QUIT: dict.fromkeys((2, 4, 5), ClientSession._quit_answered),
}
