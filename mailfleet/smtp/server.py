"""An ESMTP server session, sans-IO: bytes and answers in, events and bytes to send out (RFC 5321 and extensions).

Extensions: PIPELINING (RFC 2920), SIZE (1870), 8BITMIME (6152), SMTPUTF8 (6531), CHUNKING (3030), DSN (3461),
ENHANCEDSTATUSCODES (2034), STARTTLS (3207), AUTH (4954), REQUIRETLS (8689, under TLS). No socket, clock or judgement of
senders, recipients and mail is here: those are the driver's, which answers the events.
"""

from __future__ import annotations

import re

from mailfleet.smtp import commands, server_auth, server_verbs
from mailfleet.smtp.commands import MAX_AUTH_LINE_BYTES, CommandError
from mailfleet.smtp.message_reader import VIOLATION
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.server_core import SessionCore
from mailfleet.smtp.server_states import (
    ALLOWED,
    FOREIGN,
    Event,
    LoginAsked,
    MessageComing,
    MessageReceived,
    RecipientGiven,
    SenderGiven,
    ServerConfig,
    State,
    TlsAsked,
    Transaction,
)

MAX_UNSENT_BYTES = 32_768  # a client that asks much and reads nothing costs no more memory than this and one reply
_LINE_END = re.compile(rb"[\r\n]")
_LF = 10


class ServerSession:
    """One connection. The greeting is ready to be sent from the start.

    The driver calls ``receive`` with bytes, and for the event that comes back ``answer`` (``tls_started`` for ``TlsAsked``),
    until no event comes back; then it sends ``bytes_to_send()``. At most one event is open at a time; pipelined input waits
    for its answer. While ``stalled`` the driver calls ``proceed`` once what there was to send is on its way. When
    ``closing`` is set, it closes after sending. Nothing that a client sends raises.
    """

    def __init__(self, config: ServerConfig, *, tls: str = "") -> None:
        """``tls`` describes the protection of a connection that begins with TLS, for example ``TLSv1.3 TLS_AES_256_GCM_SHA384``."""
        self.config = config
        self.lines_taken = 0  # commands and AUTH responses: a driver sees progress by it
        self.stalled = False  # input waits only because too much is unsent
        self._farewell: Reply | None = None
        self._core = SessionCore(config, tls)
        self._core.say(Reply(220, (f"{config.hostname} ESMTP Mailfleet",)))

    @property
    def closing(self) -> bool:
        """The last word is said: send, then close."""
        return self._core.closing

    @property
    def ehlo_name(self) -> str:
        """What the client called itself."""
        return self._core.ehlo_name

    @property
    def tls(self) -> str:
        """The protection of the connection, empty for none."""
        return self._core.tls

    @property
    def receiving_message(self) -> bool:
        """Message bytes, or further chunks of a message, are what comes next."""
        return self._core.state in (State.DATA, State.CHUNK, State.CHUNKS)

    @property
    def buffered_bytes(self) -> int:
        """Bytes held: unread input and the message, until the answer to ``MessageReceived``."""
        reader = self._core.reader
        return len(self._core.input) + self._core.message_bytes + (reader.kept_bytes if reader else 0)

    @property
    def goodbye(self) -> bool:
        """The session ends because the client said QUIT, so it has nothing more to send."""
        return self._core.goodbye

    def protocol(self, *, smtputf8: bool) -> str:
        """The word for ``with`` in Received (RFC 3848, RFC 6531 4.3)."""
        if not self._core.esmtp:
            return "SMTP"
        word = "UTF8SMTP" if smtputf8 else "ESMTP"
        return word + ("S" if self._core.tls else "") + ("A" if self._core.authenticated else "")

    def bytes_to_send(self) -> bytes:
        """Everything to send since the last call."""
        return self._core.take_output()

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes from the client. Returns the event to answer, if there is a new one."""
        core = self._core
        if core.closing:
            return []
        if isinstance(core.pending, TlsAsked):  # as in server_verbs: clear text is not read as if it had come under TLS
            core.close(None)
            return []
        core.input = core.input + data if core.input else data
        return self.proceed()

    def proceed(self) -> list[Event]:
        """Go on with the input there is. Returns the event to answer, if there is a new one."""
        return [] if self._core.pending else self._go_on()

    def answer(self, reply: Reply | None) -> list[Event]:
        """Answer the open event: None takes it with our own words (not for ``MessageReceived``). Returns the next event.

        An answer that comes after the session was closed is dropped.
        """
        core = self._core
        event, core.pending = core.pending, None
        if core.closing:
            return []
        match event:
            case LoginAsked():
                self._login_answered(reply)
            case SenderGiven(mail):
                if self._taken(reply, Reply.of(250, "2.1.0", "Sender ok")):
                    core.transaction, core.state = Transaction(mail), State.MAIL
            case RecipientGiven(rcpt):
                assert core.transaction
                if self._taken(reply, Reply.of(250, "2.1.5", "Recipient ok")):
                    core.transaction.recipients.append(rcpt)
                    core.state = State.RCPT
            case MessageComing():
                core.begin_message(reply)
            case MessageReceived():
                assert reply is not None, "only the backend knows what became of the message"
                core.message_bytes = 0
                core.say(reply)
            case _:
                raise AssertionError(f"{event!r} is not answered this way")
        return self._go_on()

    def tls_started(self, tls: str) -> None:
        """The handshake that ``TlsAsked`` asked for is done. Everything the client said before is forgotten (RFC 3207 4.2)."""
        core = self._core
        assert isinstance(core.pending, TlsAsked)
        core.pending, core.tls = None, tls
        core.ehlo_name, core.esmtp, core.state = "", False, State.GREETED

    def refuse_message(self, reply: Reply) -> None:
        """Stop keeping the message that is arriving; ``reply`` is said at its end."""
        if self._core.reader:
            self._core.reader.refuse(reply)

    def shut_down(self, reply: Reply) -> list[Event]:
        """Say ``reply`` (a 421) and close, at once or as soon as the message or login that is under way has been answered."""
        self._farewell = reply
        return self.proceed()

    def close(self, reply: Reply | None) -> None:
        """Say ``reply``, if any, and close, whatever is going on."""
        if not self._core.closing:
            self._core.close(reply)

    def _go_on(self) -> list[Event]:
        core = self._core
        self.stalled = False
        while core.pending is None and not core.closing and not self.stalled:
            if self._farewell and not self.receiving_message:
                core.close(self._farewell)
            elif core.output_bytes >= MAX_UNSENT_BYTES:
                self.stalled = True
            elif not self._step():
                break
        if core.position:
            core.input, core.position = core.input[core.position :], 0
        return [core.pending] if core.pending else []

    def _taken(self, refusal: Reply | None, welcome: Reply) -> bool:
        """A driver's refusal is no error of the protocol, so it does not count towards ``max_errors``."""
        self._core.say(refusal or welcome)
        return refusal is None

    def _login_answered(self, refusal: Reply | None) -> None:
        core = self._core
        if refusal is None:
            core.authenticated = True
            core.say(Reply.of(235, "2.7.0", "Authentication successful"))
            return
        core.auth_failures += refusal.permanent
        if core.auth_failures >= self.config.max_auth_failures:
            core.close(Reply.of(421, "4.7.0", "Too many failed logins"))
        else:
            core.refuse(refusal)

    def _step(self) -> bool:
        """Take one line or one piece of message from the input. False when there is not enough of it."""
        core = self._core
        if core.state is State.DATA or core.state is State.CHUNK:
            return self._read_message()
        line = self._take_line()
        if line is None:
            return False
        self.lines_taken += 1
        try:
            if core.state is State.RESPONSE:
                core.state = State.READY  # until the exchange asks for more
                server_verbs.respond(core, server_auth.decode_response(line))
            else:
                self._command(*commands.parse_line(line))
        except CommandError as error:
            core.refuse(error.reply)
        return True

    def _command(self, verb: str, argument: str) -> None:
        core = self._core
        if verb in FOREIGN:
            core.close(Reply.of(554, "5.5.1", "This is SMTP"))
            return
        handler = server_verbs.HANDLERS.get(verb)
        if handler is None:
            raise CommandError(500, "5.5.1", "There is no such command")
        if verb != "BDAT" and core.state not in ALLOWED[verb]:
            core.refuse(core.out_of_place(verb))
            return
        handler(core, argument)

    def _take_line(self) -> bytes | None:
        """The next line without its CRLF; None when it is not all there, or when the connection closes because of it."""
        core = self._core
        match = _LINE_END.search(core.input, core.position)
        end = match.start() if match else len(core.input)
        if end - core.position > MAX_AUTH_LINE_BYTES - 2:
            core.close(Reply.of(500, "5.5.2", "The line is too long"))
            return None
        if not match:
            return None
        if core.input[end : end + 2] == b"\r\n":
            line = core.input[core.position : end]
            core.position = end + 2
            return line
        if core.input[end] == _LF or end + 1 < len(core.input):
            core.close(Reply.of(500, "5.6.0", "Bare CR or bare LF in a command: end every line with CRLF"))
        return None

    def _read_message(self) -> bool:
        core = self._core
        data = core.input[core.position :] if core.position else core.input
        core.input, core.position = b"", 0
        if not data:
            return False
        if core.state is State.CHUNK:
            self._read_chunk(data)
            return True
        assert core.reader
        rest = core.reader.feed_data(data)
        core.input = rest or b""
        if core.reader.violated:
            core.close(VIOLATION)
        elif rest is not None:
            core.end_message()
        return True

    def _read_chunk(self, data: bytes) -> None:
        core = self._core
        piece = data[: core.chunk_left]
        core.input = data[len(piece) :]
        core.chunk_left -= len(piece)
        if core.reader and not core.chunk_refusal:
            core.reader.feed_chunk(piece)
            if core.reader.violated:
                core.close(VIOLATION)
                return
        if not core.chunk_left:
            core.end_chunk()
