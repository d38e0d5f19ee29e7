"""One submission connection: an asyncio Protocol that drives a ``ServerSession``, asks the backend and keeps the time."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import socket
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, cast

import structlog

from mailfleet.base.errors import BusyError, InputError
from mailfleet.engine.requests import Actor, EnvelopeRecipient, SubmittedMessage
from mailfleet.listen.peer import describe_tls, ip_of
from mailfleet.listen.submission_backend import Hub
from mailfleet.smtp.reply import RefusedMessage, Reply
from mailfleet.smtp.server import ServerSession
from mailfleet.smtp.server_states import (
    Event,
    LoginAsked,
    MessageComing,
    MessageReceived,
    RecipientGiven,
    SenderGiven,
    TlsAsked,
)

AUTH_FAILURE_DELAY_S = 1.0
HANDSHAKE_TIMEOUT_S = 30.0
LINGER_S = 2.0
MAX_UNWRITTEN_BYTES = 65_536
MAX_UNREAD_BYTES = 65_536  # input held while the backend works; above it the socket is not read

log = structlog.get_logger()

_BUSY = Reply.of(451, "4.3.1", "Too much mail is arriving at once; try again soon")
_TIMED_OUT = Reply.of(421, "4.4.2", "Timed out")
_STOPPING = Reply.of(421, "4.3.2", "The server is stopping; try again soon")


class SubmissionConnection(asyncio.Protocol):
    """Made by the listener for each connection that comes in."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._transport: asyncio.Transport | None = None
        self._session: ServerSession | None = None
        self._actor: Actor | None = None
        self.peer_ip = ""
        self.descriptor = -1
        self._task: asyncio.Task[None] | None = None
        self._handshaking = False
        self._early = b""  # came under TLS before the handshake was reported done
        self._unwritten = self._unread = self._half_closed = self._finished = False
        self._counted_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._lines = 0
        self._line_at_s = self._data_at_s = 0.0
        self._message_since_s: float | None = None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=MAX_UNWRITTEN_BYTES)
        if transport.get_extra_info("ssl_object"):  # implicit TLS: counted in begin_tls
            self._task = None
            self._transport.abort() if self._finished else self._begin(describe_tls(transport))
            return
        self.peer_ip = ip_of(transport.get_extra_info("peername"))
        self.descriptor = transport.get_extra_info("socket").fileno()
        refusal = self._hub.enter(self)
        if refusal:
            self._finished = True
            self._write(refusal.encode())
            self._transport.close()
        else:
            self._begin("")

    def data_received(self, data: bytes) -> None:
        if self._finished:
            return  # lingering: read so that the last reply is not lost to a reset, and throw away
        if self._handshaking:
            self._early += data
        elif self._session is None or self._transport is None:
            self.abort()
        else:
            self._data_at_s = self._hub.clock.monotonic_s()
            self._pump(self._session.receive(data))

    def eof_received(self) -> bool:
        """A client that pipes a whole session and half-closes still gets its last reply, except under TLS, which forbids it."""
        self._half_closed = self._task is not None and self._session is not None and not self._session.tls
        return self._half_closed

    def pause_writing(self) -> None:
        """Replies are not being read: take no more commands until they are. The idle timer ends it."""
        self._unwritten = True
        self._watch_reading()

    def resume_writing(self) -> None:
        self._unwritten = False
        if self._session and not self._finished:
            self._pump(self._session.proceed())

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task and not self._handshaking:
            log.info("submission.client_left_before_reply", peer=self.peer_ip)
        self._end()

    # What the listener calls

    def begin_tls(self, accepted: socket.socket, peername: object) -> None:
        """Take over a connection that starts with TLS (RFC 8314 3.3). It counts from now on, not from the end of the handshake.

        One too many is closed without a word: a client that expects TLS cannot read a reply in the clear.
        """
        self.peer_ip, self.descriptor = ip_of(peername), accepted.fileno()
        if self._hub.enter(self):
            self._finished = True
            accepted.close()
        else:
            self._spawn(self._handshake(accepted))

    def shut_down(self) -> None:
        """Say 421 and close, after the message that is arriving, if any."""
        if self._session is None:
            self.abort()
        elif not self._finished:
            self._pump(self._session.shut_down(_STOPPING))

    def abort(self, reply: Reply | None = None) -> None:
        """Close now; ``reply`` is said if it can be sent without waiting."""
        if self._transport and reply and self._session and not self._finished:
            self._session.close(reply)
            self._write(self._session.bytes_to_send())
            self._transport.close()
        elif self._transport:
            self._transport.abort()
        elif self._task and self._session is None:
            self._task.cancel()
        self._end()

    # Driving the session

    def _begin(self, tls: str) -> None:
        hub = self._hub
        trusted = hub.settings.auth_without_tls_on_loopback and ipaddress.ip_address(self.peer_ip).is_loopback
        self._session = ServerSession(replace(hub.config, auth_without_tls=trusted), tls=tls)
        self._line_at_s = self._data_at_s = hub.clock.monotonic_s()
        self._arm(self._check_every_s)
        self._pump([])

    def _pump(self, events: list[Event]) -> None:
        """Answer events until there are none, or one that takes time; send what there is to send."""
        session = self._session
        assert session
        while True:
            while events:
                events = self._handle(session, events[0])
            self._flush(session)
            if self._finished or self._unwritten or not session.stalled:
                break
            events = session.proceed()
        self._watch_reading()

    def _handle(self, session: ServerSession, event: Event) -> list[Event]:
        hub = self._hub
        match event:
            case LoginAsked():
                self._spawn(self._login(session, event))
            case MessageReceived():
                self._spawn(self._accept(session, event))
            case TlsAsked():
                assert self._transport
                self._transport.pause_reading()
                self._flush(session)
                self._spawn(self._start_tls())
            case SenderGiven(mail):
                assert self._actor
                refusal = hub.tolls.judged("full", hub.backend.refusal())
                sender = hub.backend.check_sender(self._actor, mail.reverse_path)
                return session.answer(refusal or hub.tolls.judged("sender", sender))
            case RecipientGiven(rcpt):
                assert self._actor
                recipient = hub.backend.check_recipient(self._actor, rcpt.forward_path)
                return session.answer(hub.tolls.judged("recipient", recipient))
            case MessageComing(expected_bytes):
                full = hub.buffered_bytes + expected_bytes > hub.settings.max_buffered_mb * 1_048_576
                return session.answer(hub.tolls.refused("max_buffered_mb", _BUSY) if full else None)
        return []

    def _flush(self, session: ServerSession) -> None:
        """Send, and keep the books: bytes held, progress, the start of a message."""
        hub = self._hub
        self._write(session.bytes_to_send())
        self._count(session.buffered_bytes)
        if session.receiving_message and hub.buffered_bytes > hub.settings.max_buffered_mb * 1_048_576:
            session.refuse_message(hub.tolls.refused("max_buffered_mb", _BUSY))
            self._count(session.buffered_bytes)
        if session.lines_taken != self._lines:
            self._lines, self._line_at_s = session.lines_taken, hub.clock.monotonic_s()
        if not session.receiving_message:
            self._message_since_s = None
        elif self._message_since_s is None:
            self._message_since_s = hub.clock.monotonic_s()
        if session.closing and not self._finished:
            self._finish(session)
        elif self._half_closed and self._task is None and not session.stalled and self._transport:
            self._transport.close()

    def _write(self, output: bytes) -> None:
        if output and self._transport:
            self._transport.write(output)
            self._hub.tolls.said(output)

    def _count(self, held_bytes: int) -> None:
        self._hub.buffered_bytes += held_bytes - self._counted_bytes
        self._counted_bytes = held_bytes

    def _watch_reading(self) -> None:
        """Read the socket only while there is room for what comes."""
        waiting = self._unwritten or (self._task is not None and self._counted_bytes > MAX_UNREAD_BYTES)
        if self._transport and waiting != self._unread and not self._handshaking:
            self._unread = waiting
            self._transport.pause_reading() if waiting else self._transport.resume_reading()

    def _finish(self, session: ServerSession) -> None:
        """The last word is written. After QUIT close at once; else the client may be sending still, and to close on unread bytes
        resets the connection and loses the reply: half-close, read on for a moment, then cut."""
        self._finished = True
        assert self._transport
        self._arm(LINGER_S)
        if session.goodbye:
            self._transport.close()
        else:
            if self._unread and not self._unwritten:
                self._transport.resume_reading()
            if self._transport.can_write_eof():
                with contextlib.suppress(OSError):  # the client is gone already
                    self._transport.write_eof()

    def _end(self) -> None:
        """The connection is gone. A message that the backend is taking is taken all the same."""
        self._finished = True
        self._count(0)
        if self._timer:
            self._timer.cancel()
        self._transport = None
        if self._session:
            self._session.close(None)
        self._hub.leave(self)

    # Time

    @property
    def _check_every_s(self) -> float:
        return min(self._hub.settings.idle_timeout_s, self._hub.settings.message_timeout_s)

    def _arm(self, delay_s: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._check_time)

    def _check_time(self) -> None:
        """One timer a connection: it looks at the deadlines and sleeps on. A line resets the idle time, a dripping byte does not."""
        if self._finished or self._session is None:
            self.abort()
            return
        settings, now_s = self._hub.settings, self._hub.clock.monotonic_s()
        whole_s = math.inf if self._message_since_s is None else self._message_since_s + settings.message_timeout_s
        if self._task:
            deadline_s = now_s + self._check_every_s  # the backend is working: not the client's fault
        elif self._message_since_s is not None:
            deadline_s = min(self._data_at_s + settings.idle_timeout_s, whole_s)
        else:
            deadline_s = self._line_at_s + settings.idle_timeout_s
        if now_s >= deadline_s:
            reason = "message_timeout_s" if now_s >= whole_s else "idle_timeout_s"
            self._session.close(self._hub.tolls.refused(reason, _TIMED_OUT))
            self._flush(self._session)
        else:
            self._arm(min(deadline_s - now_s, self._check_every_s))

    # What takes time

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._task = asyncio.get_running_loop().create_task(work)
        self._hub.tasks.add(task)
        task.add_done_callback(self._hub.tasks.discard)

    def _work_done(self, session: ServerSession, reply: Reply | None) -> None:
        self._task = None
        if not self._finished:
            self._line_at_s = self._hub.clock.monotonic_s()
            self._pump(session.answer(reply))

    @property
    def _handshake_timeout_s(self) -> float:
        return min(HANDSHAKE_TIMEOUT_S, self._hub.settings.idle_timeout_s)

    async def _handshake(self, accepted: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self, accepted, ssl=self._hub.ssl_context, ssl_handshake_timeout=self._handshake_timeout_s
            )
        except OSError as error:  # ssl.SSLError, a reset and a handshake that takes too long are all of this kind
            self._tls_failed(error)

    def _tls_failed(self, error: OSError) -> None:
        self._hub.tolls.lost("tls")
        log.info("submission.tls_failed", peer=self.peer_ip, reason=str(error))
        self._task = None
        self.abort()

    async def _start_tls(self) -> None:
        hub = self._hub
        assert hub.ssl_context
        if self._transport is None:
            return  # the client left in between
        # start_tls takes the socket over before it first waits: no clear text arrives from here on
        self._handshaking = True
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport,
                self,
                hub.ssl_context,
                server_side=True,
                ssl_handshake_timeout=self._handshake_timeout_s,
            )
        except OSError as error:
            self._tls_failed(error)
            return
        finally:
            self._task, self._handshaking = None, False
        if transport is None or self._finished:
            self.abort()
            return
        self._transport, self._unread = transport, False
        transport.set_write_buffer_limits(high=MAX_UNWRITTEN_BYTES)
        assert self._session
        self._session.tls_started(describe_tls(transport))
        early, self._early = self._early, b""
        if early:
            self.data_received(early)

    async def _login(self, session: ServerSession, event: LoginAsked) -> None:
        hub = self._hub
        refusal: Reply | None = None
        try:
            self._actor = await hub.backend.authenticate(event.username, event.password, self.peer_ip)
            if self._actor is None:
                refusal = hub.tolls.refused("login", Reply.of(535, "5.7.8", "User name or password is wrong"))
            else:
                hub.logged_in(self)
        except BusyError as error:
            refusal = hub.tolls.refused("login_busy", Reply.of(454, "4.7.0", error.reason))
        except Exception:
            log.exception("submission.authenticate_failed", peer=self.peer_ip)
            failed = Reply.of(454, "4.7.0", "Logins cannot be checked just now; try again soon")
            refusal = hub.tolls.refused("failed", failed)
        if refusal:
            log.info("submission.login_refused", peer=self.peer_ip, username=event.username, reply=str(refusal))
            # Slows guessing down; the connection limit per address does the rest.
            await hub.clock.sleep(AUTH_FAILURE_DELAY_S)
        self._work_done(session, refusal)

    async def _accept(self, session: ServerSession, event: MessageReceived) -> None:
        assert self._actor
        message = SubmittedMessage(
            reverse_path=event.mail.reverse_path,
            recipients=[EnvelopeRecipient(rcpt.forward_path, rcpt.notify, rcpt.orcpt) for rcpt in event.recipients],
            data=event.data,
            smtputf8=event.mail.smtputf8,
            ret=event.mail.ret,
            envid=event.mail.envid,
            ehlo_name=session.ehlo_name,
            peer_ip=self.peer_ip,
            protocol=session.protocol(smtputf8=event.mail.smtputf8),
            tls=session.tls,
            requiretls=event.mail.requiretls,
        )
        tolls = self._hub.tolls
        try:
            reply = Reply.of(250, "2.0.0", f"Ok: queued as {await self._hub.backend.accept(self._actor, message)}")
            tolls.messages.n += 1
        except RefusedMessage as error:
            reply = tolls.refused("message", error.reply)
        except InputError as error:
            reply = tolls.refused("message", Reply.of(550, "5.6.0", str(error)))
        except BusyError as error:
            reply = tolls.refused("busy", Reply.of(451, "4.3.1", error.reason))
        except Exception:
            log.exception("submission.accept_failed", peer=self.peer_ip)
            reply = tolls.refused("failed", Reply.of(451, "4.3.0", "Something went wrong here; try again soon"))
        self._work_done(session, reply)
