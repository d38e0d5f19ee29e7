"""A simulated provider's connection: the socket, the clock and TLS around a ``Dialogue``."""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from mailfleet.sandbox.dialogue import Dialogue
from mailfleet.sandbox.provider import Provider

_HANDSHAKE_S = 30.0


class Session(asyncio.Protocol):
    """One connection; it stands in ``sessions`` while it is open. ``tls`` None: STARTTLS is not offered."""

    def __init__(self, provider: Provider, tls: ssl.SSLContext | None, sessions: set[Session]) -> None:
        self._provider = provider
        self._tls = tls
        self._sessions = sessions
        self._transport: asyncio.Transport | None = None
        self._dialogue: Dialogue | None = None
        self._counted = False
        self._timer: asyncio.TimerHandle | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self.last_heard_s = 0.0
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._sessions.add(self)
        self.last_heard_s = asyncio.get_running_loop().time()
        peer = transport.get_extra_info("peername")
        client = peer[0] if peer else ""
        refusal = self._provider.refuses_connection(client)
        if refusal is not None:
            self._transport.write(refusal)
            self._transport.close()
            return
        self._counted = True
        self._dialogue = Dialogue(self._provider, client, offers_tls=self._tls is not None)
        self._transport.write(self._provider.words("greeting", client=client))

    def connection_lost(self, exc: Exception | None) -> None:
        self._sessions.discard(self)
        self._dialogue = None
        if not self.gone.done():
            self.gone.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
        if self._counted:
            self._counted = False
            self._provider.open_connections -= 1

    def data_received(self, data: bytes) -> None:
        if self._dialogue is not None and not self._dialogue.closed:
            self.last_heard_s = asyncio.get_running_loop().time()
            self._dialogue.receive(data)
            self._after(self._dialogue)

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()  # who does not read the replies is not listened to either

    def resume_writing(self) -> None:
        handshaking = self._upgrade is not None and not self._upgrade.done()
        if self._transport is not None and self._timer is None and not handshaking:
            self._transport.resume_reading()

    def close(self, words: bytes) -> None:
        """Say ``words`` and hang up."""
        if self._dialogue is not None and not self._dialogue.closed:
            self._dialogue.end(words)
            self._after(self._dialogue)

    def abort(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    def _after(self, dialogue: Dialogue) -> None:
        """Do what the dialogue asks for."""
        transport = self._transport
        assert transport is not None
        if dialogue.dropped:
            transport.abort()
            return
        if dialogue.out:
            transport.write(b"".join(dialogue.out))
            dialogue.out.clear()
        if dialogue.closed:
            transport.close()
        elif dialogue.wants_tls and self._upgrade is None:
            transport.pause_reading()  # the handshake must not be read as SMTP
            self._upgrade = asyncio.get_running_loop().create_task(self._start_tls(transport, dialogue))
        elif dialogue.delay_s and self._timer is None:
            transport.pause_reading()
            self._timer = asyncio.get_running_loop().call_later(dialogue.delay_s, self._resume)

    def _resume(self) -> None:
        self._timer = None
        if self._dialogue is None or self._transport is None:
            return
        self._transport.resume_reading()
        self._dialogue.resume()
        self._after(self._dialogue)

    async def _start_tls(self, transport: asyncio.Transport, dialogue: Dialogue) -> None:
        assert self._tls is not None
        try:
            upgraded = await asyncio.get_running_loop().start_tls(
                transport, self, self._tls, server_side=True, ssl_handshake_timeout=_HANDSHAKE_S
            )
        except (OSError, EOFError):
            upgraded = None
        if upgraded is None:
            transport.abort()
            self.connection_lost(None)  # the loop tells nobody when a handshake fails
            return
        self._transport = upgraded
        dialogue.secured()
        self._after(dialogue)
