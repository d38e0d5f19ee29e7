"""The client side of SMTP (RFC 5321), sans-IO: bytes and instants in, events and bytes to send out.

Which handler takes which reply stands in one table at the end. Deadlines belong to the driver: ``phase`` tells it which one
applies, ``answers`` whether a whole reply has come since it last looked.
"""

from __future__ import annotations

from collections.abc import Callable

from mailfleet.smtp.client_commands import mail_command, rcpt_command
from mailfleet.smtp.client_core import SessionCore
from mailfleet.smtp.client_envelope import Envelope, local_refusal
from mailfleet.smtp.client_states import Ended, Event, Finished, OnWire, OpenFailed, SessionState, Step
from mailfleet.smtp.dotstuff import stuffed
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.reply_parser import ReplyError
from mailfleet.smtp.transaction import RecipientResult, Transaction, TransactionResult

# A larger message waits for the reply to RCPT: sent for nothing it would cost more than the round trip it saves.
MAX_PIPELINED_CHUNK_BYTES = 128 * 1024
_ABOUT_SEQUENCE = 503  # RFC 5321 4.2.3


class ClientSession(SessionCore):
    """One session with one mail host, from the greeting on. Every ``now_s`` is from the same monotonic clock.

    ``tls`` is ``opportunistic``, ``required`` or ``none``. ``chunking``: use BDAT where the remote offers CHUNKING and
    PIPELINING, which saves a round trip for each message. Without it the same is gained by a follower: the next transaction's
    commands go out behind a message, in one piece with it (RFC 2920 3.1). Its message waits for its own 354, so never more
    than one message of a connection is unanswered.
    """

    __slots__ = ()

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
        return self.take_events()

    def _in(self, states: tuple[SessionState, ...]) -> bool:
        return self.state in states

    @property
    def can_follow(self) -> bool:
        """One more transaction may be started now, although one is running."""
        return (
            self.state is SessionState.BUSY
            and self._follower is None
            and self.extensions.pipelining
            and not (self._chunking and self.extensions.chunking)
        )

    def start(self, transaction: Transaction, now_s: float) -> TransactionResult | None:
        """Begin a transaction; the state must be READY, or CLOSED by the remote, or ``can_follow`` must hold.

        A result at once means that nothing was sent: this remote cannot take the message, or it has gone. Results come in
        the order of starts.
        """
        assert self.state in (SessionState.READY, SessionState.CLOSED) or self.can_follow, (
            f"a transaction while {self.state}"
        )
        assert transaction.recipients, "a transaction without recipients"
        self._now_s = now_s
        envelope = Envelope(transaction, now_s)
        refusal = local_refusal(transaction, self.extensions)
        if self.state is SessionState.CLOSED:
            refusal = RecipientResult("mail", None, "connection-lost", "the remote had closed the idle connection")
        if refusal is not None:
            envelope.inconclusive = self.state is SessionState.CLOSED
            envelope.answered = True
            envelope.log.remark(now_s, refusal.detail)
            envelope.settle_rest(refusal)
            return envelope.result()
        if self._envelope is None:
            self._begin(envelope)
        else:
            self._follower = envelope
            if self._expected[-1] is Step.MESSAGE:  # the message before it is on its way
                self._say_pipelined(envelope)
        return None

    def lose(self, failure: str, detail: str, now_s: float) -> list[Event]:
        """The driver gives up on the connection (closed, timed out): ``failure`` is spelt as ``policy.outcome.Failure``."""
        self._now_s = now_s
        if self.state is not SessionState.CLOSED:
            self._lose(failure, detail)
        return self.take_events()

    # Sending

    def _begin(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self.state = SessionState.BUSY
        if self._needs_rset:
            self._say("RSET\r\n", Step.RSET, envelope=envelope)
        if self.extensions.pipelining:
            self._say_pipelined(envelope)
        elif not self._needs_rset:
            self._say(mail_command(envelope.transaction, self.extensions), Step.MAIL, envelope=envelope)
        self._needs_rset = False

    def _say_pipelined(self, envelope: Envelope) -> None:
        """MAIL, every RCPT, and DATA or the one BDAT, in one piece (RFC 2920 3.1)."""
        extensions, transaction = self.extensions, envelope.transaction
        message = transaction.message
        envelope.said = True
        commands = [mail_command(transaction, extensions)]
        commands += [rcpt_command(recipient, extensions) for recipient in transaction.recipients]
        steps = [Step.MAIL] + [Step.RCPT] * len(transaction.recipients)
        if self._chunking and extensions.chunking and len(message) <= MAX_PIPELINED_CHUNK_BYTES:
            commands.append(f"BDAT {len(message)} LAST\r\n")  # RFC 3030 2
            self._say("".join(commands), *steps, Step.BDAT, envelope=envelope)
            self._send_message(envelope, message)
        else:
            commands.append("DATA\r\n")
            self._say("".join(commands), *steps, Step.DATA, envelope=envelope)

    def _send_message(self, envelope: Envelope, data: bytes) -> None:
        envelope.log.sent(self._now_s, f"(message, {len(envelope.transaction.message)} bytes)")
        self._output.append(data)
        self._events.append(OnWire())

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

    # A transaction

    def _reset(self, _reply: Reply) -> None:
        """RSET has no reply worth stopping for: MAIL will show whether it helped."""
        if not self.extensions.pipelining:
            envelope = self._running
            self._say(mail_command(envelope.transaction, self.extensions), Step.MAIL, envelope=envelope)

    @property
    def _running(self) -> Envelope:
        assert self._envelope is not None
        return self._envelope

    def _mail_accepted(self, _reply: Reply) -> None:
        self._running.mail_accepted = True
        if not self.extensions.pipelining:
            self._say_next_rcpt()

    def _mail_rejected(self, reply: Reply) -> None:
        envelope = self._running
        envelope.mail_rejected(reply)
        if envelope.behind_refused and reply.code == _ABOUT_SEQUENCE:
            # The host did not leave the transaction whose message it refused (RFC 5321 4.1.1.4): no word on this one.
            envelope.inconclusive = True
        if not self.extensions.pipelining:
            self._finish()

    def _say_next_rcpt(self) -> None:
        envelope = self._running
        command = rcpt_command(envelope.transaction.recipients[envelope.next_rcpt], self.extensions)
        self._say(command, Step.RCPT, envelope=envelope)

    def _rcpt_answered(self, reply: Reply) -> None:
        envelope = self._running
        envelope.rcpt_answered(reply)
        if self.extensions.pipelining:
            return
        if envelope.next_rcpt < len(envelope.transaction.recipients):
            self._say_next_rcpt()
        elif envelope.live:
            self._say("DATA\r\n", Step.DATA, envelope=envelope)
        else:
            self._finish()

    def _data_accepted(self, _reply: Reply) -> None:
        envelope = self._running
        if envelope.inconclusive:  # a final dot would end the transaction that the host is still in
            self._lose("protocol", "the remote went on with a transaction that it had refused")
            return
        if not envelope.live:
            # RFC 2920 3.1: 354 although no recipient stands; nothing but the final dot leads out of it
            envelope.log.sent(self._now_s, ".")
            self._output.append(b".\r\n")
            self._expected.append(Step.NO_MESSAGE)
            return
        transaction = envelope.transaction
        self._send_message(envelope, stuffed(transaction.message, dotted=transaction.dotted))
        self._expected.append(Step.MESSAGE)
        if self._follower is not None:
            self._say_pipelined(self._follower)

    def _data_rejected(self, reply: Reply) -> None:
        self._running.settle_live(RecipientResult("data", reply))
        self._finish()

    def _message_answered(self, reply: Reply) -> None:
        envelope = self._running
        taken = reply.positive and bool(envelope.live)
        envelope.settle_live(RecipientResult("message", reply))
        self._finish(completed=taken)

    def _finish(self, *, completed: bool = False) -> None:
        envelope, follower = self._running, self._follower
        # RFC 5321 4.1.1.4: only a message that was taken ends the transaction at the other side for certain
        self._needs_rset = (envelope.mail_accepted or envelope.inconclusive) and not completed
        self._envelope, self._follower = None, None
        self.state = SessionState.READY
        self._events.append(Finished(envelope.result()))
        if follower is None:
            return
        if follower.said:
            self._envelope, self.state = follower, SessionState.BUSY
            follower.behind_refused, self._needs_rset = self._needs_rset, False
        else:
            self._begin(follower)

    # Ends

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
        self._events.append(Finished(envelope.result()))
        if self._follower is not None:
            gone = RecipientResult("mail", None, "connection-lost", "the connection ended with the message before it")
            self._follower.log.remark(self._now_s, gone.detail)
            self._follower.settle_rest(gone)
            self._events.append(Finished(self._follower.result()))
        self._envelope = self._follower = None


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
    Step.AUTH: {2: ClientSession._logged_in, 4: ClientSession._login_refused, 5: ClientSession._login_refused},
    Step.AUTH_USER: {3: ClientSession._ask_user, 4: ClientSession._login_refused, 5: ClientSession._login_refused},
    Step.AUTH_PASSWORD: {
        3: ClientSession._ask_password,
        4: ClientSession._login_refused,
        5: ClientSession._login_refused,
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
