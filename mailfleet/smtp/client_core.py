"""What every part of a client session stands on: what is awaited, what is to be sent, and how the session opens.

Transactions belong to ``client``.
"""

from __future__ import annotations

import base64
from collections import deque

from mailfleet.smtp.client_envelope import Envelope
from mailfleet.smtp.client_states import PHASE, Ended, Event, Login, Opened, OpenFailed, SessionState, Step, TlsWanted
from mailfleet.smtp.client_transcript import TranscriptLog
from mailfleet.smtp.extensions import Extensions
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.reply_parser import ReplyParser


class SessionCore:
    """A session up to the point where it is ready for its first transaction, and its quiet end."""

    __slots__ = (
        "_chunking",
        "_ehlo_name",
        "_envelope",
        "_events",
        "_expected",
        "_follower",
        "_login",
        "_needs_rset",
        "_now_s",
        "_output",
        "_parser",
        "_secured",
        "_step",
        "_tls",
        "answers",
        "extensions",
        "log",
        "state",
    )  # fmt: skip

    def __init__(self, ehlo_name: str, *, tls: str, chunking: bool, now_s: float, login: Login | None = None) -> None:
        self.state = SessionState.OPENING
        self.extensions = Extensions()
        self.answers = 0
        self.log = TranscriptLog(now_s)
        self._ehlo_name = ehlo_name
        self._tls = tls
        self._chunking = chunking
        self._login = login
        self._now_s = now_s
        self._parser = ReplyParser()
        self._secured = False
        self._expected: deque[Step] = deque([Step.GREETING])
        self._output: list[bytes] = []
        self._events: list[Event] = []
        self._envelope: Envelope | None = None  # the transaction that is being answered
        self._follower: Envelope | None = None  # the one behind it
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

    def take_events(self) -> list[Event]:
        """What has happened since the last call: what ``receive`` and ``lose`` return, and what ``start`` and ``quit`` leave."""
        events, self._events = self._events, []
        return events

    def _say(self, command: str, *steps: Step, envelope: Envelope | None = None) -> None:
        """Send one or more commands, each ending CRLF, and expect a reply to each. ``envelope`` is whose they are."""
        assert command.count("\n") == len(steps), "a line break inside a command"
        assert command.isascii() or (envelope is not None and envelope.transaction.smtputf8)
        log = self.log if envelope is None else envelope.log
        log.sent(self._now_s, command)
        self._expected.extend(steps)
        self._output.append(command.encode())

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
            self._log_in()
        elif self.extensions.starttls:
            self._say("STARTTLS\r\n", Step.STARTTLS)
        else:
            self._continue_in_clear(None)

    def _helo_accepted(self, _reply: Reply) -> None:
        self.extensions = Extensions()
        if self._secured or self._tls == "none":
            self._log_in()
        else:
            self._continue_in_clear(None)

    def _starttls_accepted(self, _reply: Reply) -> None:
        self.state = SessionState.TLS
        self._events.append(TlsWanted())

    def _starttls_refused(self, reply: Reply) -> None:
        self._continue_in_clear(reply)

    def _continue_in_clear(self, reply: Reply | None) -> None:
        if self._tls != "required":
            if self._login is None:
                self._opened()
            else:
                self._fail_open("auth", "login", None, "the login is not told in clear text and the remote has no TLS")
        elif reply is not None:
            self._fail_open("tls", "", reply, "")
        else:
            self._fail_open("tls", "tls-required", None, "TLS is required here and the remote does not offer STARTTLS")

    # Logging in (RFC 4954); what is secret does not go into the transcript

    def _log_in(self) -> None:
        login, offered = self._login, self.extensions.auth
        if login is None:
            self._opened()
        elif "PLAIN" in offered:  # RFC 4616
            secret = f"\0{login.username}\0{login.password}"
            self._say_secret("AUTH PLAIN", f"AUTH PLAIN {_base64(secret)}\r\n", Step.AUTH)
        elif "LOGIN" in offered:
            self._say("AUTH LOGIN\r\n", Step.AUTH_USER)
        else:
            self._fail_open("auth", "login", None, "the remote offers no way to log in that is known here")

    def _ask_user(self, _reply: Reply) -> None:
        assert self._login is not None
        self._say_secret("(user name)", f"{_base64(self._login.username)}\r\n", Step.AUTH_PASSWORD)

    def _ask_password(self, _reply: Reply) -> None:
        assert self._login is not None
        self._say_secret("(password)", f"{_base64(self._login.password)}\r\n", Step.AUTH)

    def _logged_in(self, _reply: Reply) -> None:
        self._opened()

    def _login_refused(self, reply: Reply) -> None:
        self._say("QUIT\r\n", Step.QUIT)
        self._fail_open("auth", "login", None, f"the login was refused: {reply}")

    def _say_secret(self, shown: str, command: str, step: Step) -> None:
        self.log.sent(self._now_s, f"{shown}\r\n")
        self._expected.append(step)
        self._output.append(command.encode())

    def _opened(self) -> None:
        self.state = SessionState.READY
        self._events.append(Opened(self.extensions))

    def _fail_open(self, phase: str, failure: str, reply: Reply | None, detail: str) -> None:
        if not failure:
            self._say("QUIT\r\n", Step.QUIT)  # RFC 5321 3.1: also after 554 as the greeting
        self.state = SessionState.CLOSED
        self._events.append(OpenFailed(phase, failure, reply, detail))

    # Ends

    def _quit_answered(self, reply: Reply) -> None:
        self.state = SessionState.CLOSED
        self._events.append(Ended(reply))


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
