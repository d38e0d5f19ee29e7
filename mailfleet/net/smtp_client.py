"""A connection to a mail host: socket, TLS, deadlines. What is said on it is ``smtp.client``'s."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
from collections import deque
from collections.abc import Callable
from math import inf
from typing import NamedTuple, TypedDict, cast

from mailfleet.net.guard import ForbiddenDestinationError, check_destination
from mailfleet.net.smtp_peer import ClientOptions, ConnectFailed, Peer, Secured
from mailfleet.net.tls_client import described, server_name
from mailfleet.smtp.client import ClientSession
from mailfleet.smtp.client_states import Event, Finished, OnWire, Opened, OpenFailed, SessionState, TlsWanted
from mailfleet.smtp.extensions import Extensions
from mailfleet.smtp.reply import Reply
from mailfleet.smtp.transaction import Transaction, TransactionResult

_BLOCK_BYTES = 64 * 1024
_UNREACHABLE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM})

OnAccepted = Callable[[int, Reply], None]
OnWireCall = Callable[[], None]


class _Flight(NamedTuple):
    """A transaction that is under way, and who waits for it."""

    result: asyncio.Future[TransactionResult]
    on_accepted: OnAccepted | None
    on_wire: OnWireCall | None


class SmtpConnection(asyncio.Protocol):
    """One connection, and one transaction at a time or two behind each other. Made by ``open``; ended by ``quit`` or ``abort``."""

    def __init__(self, peer: Peer, options: ClientOptions) -> None:
        self.peer = peer
        self.tls_info = ""
        self.local_ip = ""  # our address, once connected
        self.secured = Secured()
        self._options = options
        self._awaiting = options.timeouts.awaiting()
        self._loop = asyncio.get_running_loop()
        self._session = ClientSession(
            options.ehlo_name,
            tls=options.tls,
            chunking=options.chunking,
            now_s=self._loop.time(),
            login=options.login,
        )
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.Future[Event] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._flights: deque[_Flight] = deque()  # in the order of their results
        self._unsent: memoryview | None = None
        self._paused = False
        self._deadline_s = inf
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, peer: Peer, options: ClientOptions) -> SmtpConnection:
        """Connect, greet, and secure as ``options.tls`` says. Raises ``ConnectFailed``."""
        connection = cls(peer, options)
        try:
            await connection._connect()
            event = await connection._opening
            if isinstance(event, TlsWanted):
                await connection._start_tls()
                event = await connection._opening
            if isinstance(event, OpenFailed):
                raise connection._failed(event.phase, event.failure, event.detail, event.reply)
        except BaseException:
            connection._hang_up()
            connection._give_up("connection-lost", "given up")
            raise
        return connection

    async def send(self, transaction: Transaction, on_accepted: OnAccepted | None = None) -> TransactionResult:
        """Run one transaction; like ``submit``, and cancelling drops the connection."""
        try:
            return await self.submit(transaction, on_accepted)
        except asyncio.CancelledError:
            self.abort()
            raise

    def submit(
        self, transaction: Transaction, on_accepted: OnAccepted | None = None, on_wire: OnWireCall | None = None
    ) -> asyncio.Future[TransactionResult]:
        """Start a transaction when none is under way, or one while ``can_follow``. Results come in the order of submission.

        Whatever the remote does ends in a result, never in an exception. ``on_wire()`` is called before the first byte of the
        message is sent; ``on_accepted(index, reply)`` for each recipient whose message the remote took, before anything else
        can run. So both can be put on record first. What they raise becomes the exception of the future, and when it was
        ``on_wire`` the message is not sent and the connection is dropped.
        """
        assert not self._flights or self.can_follow, "a transaction too many"
        waiter: asyncio.Future[TransactionResult] = self._loop.create_future()
        session, now_s = self._session, self._loop.time()
        refused = session.start(transaction, now_s)
        if refused is not None:
            waiter.set_result(refused)
            return waiter
        first = not self._flights
        self._flights.append(_Flight(waiter, on_accepted, on_wire))
        self._on_events(session.take_events())
        self._flush()
        if first:
            self._arm(now_s)
        return waiter

    @property
    def can_follow(self) -> bool:
        """One more transaction may be submitted while one is under way: its commands go out in one piece with the message."""
        return self._session.can_follow and self._transport_open

    @property
    def _transport_open(self) -> bool:
        """The transport is open on our side."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def usable(self) -> bool:
        """A transaction may be sent now. The remote can still hang up at any time: see ``TransactionResult.inconclusive``."""
        return self._session.state is SessionState.READY and self._transport_open

    @property
    def extensions(self) -> Extensions:
        """What the remote offers."""
        return self._session.extensions

    @property
    def session_transcript(self) -> str:
        """Greeting, EHLO and TLS; each transaction's own is in its result."""
        return self._session.log.text()

    async def quit(self) -> None:
        """Say QUIT if the session is between transactions, wait a little for the answer, and close."""
        if self.usable:
            self._session.quit(self._loop.time())
            self._flush()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.timeouts.quit_s):
                    await asyncio.shield(self._closed)
        self.abort()

    def abort(self) -> None:
        """Close at once, whatever is going on. May be called again."""
        self._give_up("connection-lost", "the connection was dropped from this side")
        if self._transport is not None:
            self._transport.abort()

    # Opening

    async def _connect(self) -> None:
        peer, options = self.peer, self._options
        try:
            check_destination(peer.ip, loopback_only=options.loopback_only)
        except ForbiddenDestinationError as error:
            raise self._failed("connect", "unreachable", str(error)) from error
        source = options.source_for(peer.ip)
        try:
            async with asyncio.timeout(options.timeouts.connect_s):
                await self._loop.create_connection(
                    lambda: self, peer.ip, peer.port, local_addr=(source, 0) if source else None
                )
        except TimeoutError:
            wait_s = options.timeouts.connect_s
            raise self._failed("connect", "connection-timeout", f"no connection within {wait_s:g} s") from None
        except OSError as error:
            raise self._failed("connect", _connect_failure(error), _connect_detail(error, source)) from error

    async def _start_tls(self) -> None:
        self._opening = self._loop.create_future()
        transport, self._transport = self._transport, None
        assert transport is not None
        try:
            self._transport = await self._loop.start_tls(
                transport,
                self,
                self._options.tls_context,
                server_hostname=server_name(self.peer.host),
                ssl_handshake_timeout=self._options.timeouts.command_s,
            )
        except (OSError, ssl.SSLError) as error:
            transport.abort()
            detail = f"the TLS handshake failed: {error or type(error).__name__}"
            raise self._failed("tls", "tls-handshake", detail, **_tls_reason(error)) from error
        if self._transport is None:
            raise self._failed("tls", "tls-handshake", "the remote closed the connection before the TLS handshake")
        tls = self._transport.get_extra_info("ssl_object")
        problem = self._options.check_peer(tls) if self._options.check_peer is not None else ""
        if problem:
            self._transport.abort()
            raise self._failed("tls", "tls-handshake", f"{self.peer.host} is not proven: {problem}", reason=problem)
        self.tls_info = described(tls)
        if self._options.check_peer is not None:
            self.tls_info += " dane"
        if self._options.tls_context.verify_mode is ssl.CERT_REQUIRED:
            self.tls_info += " verified"
        self._session.tls_started(self.tls_info, self._loop.time())
        self._flush()
        self._arm(self._loop.time())

    def _failed(
        self,
        phase: str,
        failure: str,
        detail: str,
        reply: Reply | None = None,
        *,
        verify_code: int = 0,
        reason: str = "",
    ) -> ConnectFailed:
        return ConnectFailed(
            phase,
            failure,
            reply=reply,
            detail=detail,
            transcript=self._session.log.text(),
            local_ip=self.local_ip,
            verify_code=verify_code,
            reason=reason,
        )

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclasses of it
        self.local_ip = str((transport.get_extra_info("sockname") or ("",))[0])
        self._arm(self._loop.time())

    def data_received(self, data: bytes) -> None:
        session, now_s = self._session, self._loop.time()
        answers = session.answers
        events = session.receive(data, now_s)
        if events:
            self._on_events(events)  # first what has to be on record, then the bytes
        self._flush()
        if session.answers != answers:
            self._arm(now_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up("connection-lost", f"the connection broke: {exc}" if exc else "the remote closed the connection")
        if not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        self._paused = True
        self._arm(self._loop.time())

    def resume_writing(self) -> None:
        self._paused = False
        self._write_blocks()
        self._arm(self._loop.time())

    # Events

    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Finished):
                self._on_finished(event.result)
            elif isinstance(event, OnWire):
                self._on_wire()
            elif isinstance(event, Opened | TlsWanted | OpenFailed):
                if not self._opening.done():
                    self._opening.set_result(event)
            else:
                self._flush()
                self._hang_up()

    def _on_wire(self) -> None:
        flight = self._flights[0]
        if flight.on_wire is None:
            return
        try:
            flight.on_wire()
        except Exception as error:
            self._session.take_output()  # what cannot be put on record is not sent
            if not flight.result.done():
                flight.result.set_exception(error)
            self.abort()

    def _on_finished(self, result: TransactionResult) -> None:
        flight = self._flights.popleft()
        waiter = flight.result
        if waiter.done():
            return
        try:
            if flight.on_accepted is not None:
                for index, recipient in enumerate(result.recipients):
                    if recipient.reply is not None and recipient.delivered:
                        flight.on_accepted(index, recipient.reply)
        except Exception as error:
            waiter.set_exception(error)
            return
        waiter.set_result(result)
        if self._unsent is not None or (self._transport is not None and self._transport.get_write_buffer_size()):
            # Answered before the message had been sent whole: what follows might be read as commands
            self.abort()

    def _give_up(self, failure: str, detail: str) -> None:
        self._deadline_s = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        events = self._session.lose(failure, detail, self._loop.time())
        if events:
            self._on_events(events)

    def _hang_up(self) -> None:
        """Close after what is left to send, but do not wait for a remote that does not take it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            self._loop.call_later(self._options.timeouts.quit_s, self._transport.abort)

    # Writing

    def _flush(self) -> None:
        output = self._session.take_output()
        if not output or self._transport is None:
            return
        data = output[0] if len(output) == 1 else b"".join(output)
        if self._unsent is None and len(data) <= _BLOCK_BYTES:
            self._transport.write(data)
            return
        # RFC 5321 4.5.3.2.5 times blocks, so a long message goes block by block, as the remote takes it
        self._unsent = memoryview(data if self._unsent is None else bytes(self._unsent) + data)
        self._write_blocks()

    def _write_blocks(self) -> None:
        while self._unsent is not None and not self._paused and self._transport is not None:
            block, rest = self._unsent[:_BLOCK_BYTES], self._unsent[_BLOCK_BYTES:]
            self._unsent = rest if len(rest) else None
            self._transport.write(block)

    # Deadlines

    def _arm(self, now_s: float) -> None:
        """Set the deadline for what is awaited now. The timer itself is moved only when it would come too late."""
        session, timeouts = self._session, self._options.timeouts
        if self._paused:
            self._deadline_s = now_s + timeouts.data_s
        elif (phase := session.phase) and session.state is not SessionState.TLS:
            self._deadline_s = now_s + self._awaiting[phase]
        else:
            self._deadline_s = inf
            return
        timer = self._timer
        if timer is None or timer.when() > self._deadline_s:
            if timer is not None:
                timer.cancel()
            self._timer = self._loop.call_at(self._deadline_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline_s == inf:
            return
        if self._loop.time() < self._deadline_s:
            self._timer = self._loop.call_at(self._deadline_s, self._on_timer)
            return
        if self._paused:
            detail = f"the remote took nothing of the message for {self._options.timeouts.data_s:g} s"
        else:
            phase = self._session.phase
            detail = f"no whole reply within {self._awaiting[phase]:g} s"
        self._give_up("reply-timeout", detail)
        if self._transport is not None:
            self._transport.abort()


class _Reason(TypedDict):
    verify_code: int
    reason: str


def _tls_reason(error: OSError | ssl.SSLError) -> _Reason:
    """What OpenSSL says, in short."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return {"verify_code": error.verify_code, "reason": error.verify_message}
    reason = getattr(error, "reason", "") or str(error) or type(error).__name__
    return {"verify_code": 0, "reason": str(reason).replace("_", " ").lower()}


def _connect_failure(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "connection-refused"
    if error.errno == errno.ETIMEDOUT:
        return "connection-timeout"
    return "unreachable" if error.errno in _UNREACHABLE else "connection-lost"


def _connect_detail(error: OSError, source: str) -> str:
    if source and error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL):
        return f"the source address {source} cannot be used on this machine: {error.strerror or error}"
    return error.strerror or str(error)
