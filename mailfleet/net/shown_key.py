"""Looking at which key a mail server shows: STARTTLS or TLS at once, the certificate unchecked, and away again."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace

from mailfleet.net.guard import ForbiddenDestinationError, check_destination
from mailfleet.net.smtp_client import SmtpConnection
from mailfleet.net.smtp_peer import ClientOptions, ConnectFailed, Peer
from mailfleet.net.tls_client import unverified_context
from mailfleet.net.tls_keys import shown_digest

_FAILURES = (OSError, ValueError, ConnectFailed, ForbiddenDestinationError)  # SSLError and TimeoutError are OSErrors


class KeyProbe:
    """For one process. ``hello`` is said in EHLO."""

    def __init__(self, hello: str, timeout_s: float, *, loopback_only: bool) -> None:
        self._timeout_s, self._loopback_only = timeout_s, loopback_only
        self._context = unverified_context()
        self._options = ClientOptions(hello, tls="required", loopback_only=loopback_only, tls_context=self._context)

    async def digest(self, address: str, port: int, host: str, *, implicit: bool) -> str:
        """Of the key that is shown for ``host`` (SNI, RFC 7672 8.1), as TLSA has it; empty where none is shown or nobody answers."""
        try:
            async with asyncio.timeout(self._timeout_s):
                look = self._at_once if implicit else self._by_starttls
                return await look(Peer(host, address, port))
        except _FAILURES:
            return ""

    async def _at_once(self, peer: Peer) -> str:
        check_destination(peer.ip, loopback_only=self._loopback_only)
        _, writer = await asyncio.open_connection(peer.ip, peer.port, ssl=self._context, server_hostname=peer.host)
        try:
            return _digest(writer.get_extra_info("ssl_object"))
        finally:
            writer.close()

    async def _by_starttls(self, peer: Peer) -> str:
        seen: list[str] = []

        def look(tls: ssl.SSLObject) -> str:
            seen.append(_digest(tls))
            return ""

        connection = await SmtpConnection.open(peer, replace(self._options, check_peer=look))
        connection.abort()
        return seen[0]


def _digest(tls: ssl.SSLObject) -> str:
    certificate = tls.getpeercert(binary_form=True)
    return shown_digest(certificate) if certificate else ""
