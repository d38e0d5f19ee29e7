"""One question over HTTPS to a host that a stranger named: certificate checked, nothing followed, no more than its bytes."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from typing import NamedTuple

from mailfleet.base.errors import MailfleetError
from mailfleet.net.dns_query import DnsTemporary
from mailfleet.net.guard import ForbiddenDestinationError, check_destination
from mailfleet.net.resolver import Resolver

TIMEOUT_S = 30.0
MAX_HEAD_BYTES = 16 * 1024
MAX_ADDRESSES = 4  # tried


class HttpsError(MailfleetError):
    """There is no answer. The message says why; ``certificate``: the host did not prove its name."""

    def __init__(self, words: str, *, certificate: bool = False) -> None:
        self.certificate = certificate
        super().__init__(words)


class Answer(NamedTuple):
    """``body`` is cut at ``max_bytes`` and one more."""

    status: int
    words: str  # status and reason, as they came
    body: bytes


class HttpsExchange:
    """For one process. ``public_only`` asks no address of a private network."""

    def __init__(
        self,
        resolver: Resolver,
        context: ssl.SSLContext,
        *,
        ipv6: bool,
        loopback_only: bool = False,
        public_only: bool = False,
    ) -> None:
        self._resolver, self._context, self._ipv6 = resolver, context, ipv6
        self._loopback_only, self._public_only = loopback_only, public_only

    async def ask(
        self, method: str, host: str, port: int, target: str, fields: str, body: bytes = b"", *, max_bytes: int
    ) -> Answer:
        """The answer of the first address that gives one; ``fields`` are header lines, each with its CRLF. Raises ``HttpsError``."""
        # One small answer: HTTP/1.0 spares chunks and connections that stay.
        named = host if port == 443 else f"{host}:{port}"
        request = f"{method} {target} HTTP/1.0\r\nHost: {named}\r\n{fields}\r\n".encode() + body
        try:
            addresses = await self._resolver.addresses(host, self._ipv6)
        except DnsTemporary as error:
            raise HttpsError(str(error)) from None
        failed = HttpsError(f"{host} has no address")
        for ip in addresses[:MAX_ADDRESSES]:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    return await self._ask(host, ip, port, request, max_bytes)
            except TimeoutError:
                failed = HttpsError(f"{host} ({ip}) did not answer in {TIMEOUT_S:g} s")
            except (OSError, ssl.SSLError, EOFError, asyncio.LimitOverrunError, ForbiddenDestinationError) as error:
                certificate = isinstance(error, ssl.SSLCertVerificationError)
                failed = HttpsError(f"{host} ({ip}): {error or type(error).__name__}", certificate=certificate)
        raise failed

    async def _ask(self, host: str, ip: str, port: int, request: bytes, max_bytes: int) -> Answer:
        check_destination(ip, loopback_only=self._loopback_only)
        if self._public_only and not self._loopback_only and not ipaddress.ip_address(ip).is_global:
            raise ForbiddenDestinationError(f"{ip} is no public address")
        reader, writer = await asyncio.open_connection(
            ip, port, ssl=self._context, server_hostname=host, limit=MAX_HEAD_BYTES
        )
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            parts = head.split("\r\n", 1)[0].split(" ", 1)
            words = parts[1][:60] if len(parts) == 2 and parts[0].startswith("HTTP/") else ""
            code = words.partition(" ")[0]
            body = await reader.read(max_bytes + 1)
            while len(body) <= max_bytes and (more := await reader.read(max_bytes + 1)):
                body += more
        finally:
            writer.close()
        return Answer(int(code) if code.isascii() and code.isdigit() else 0, words or "no HTTP", body)
