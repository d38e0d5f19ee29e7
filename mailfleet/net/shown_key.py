"""Looking at which key a mail server shows: STARTTLS or TLS at once, the certificate unchecked, and away again."""

from __future__ import annotations

import asyncio
import ssl

from mailfleet.net.guard import ForbiddenDestinationError, check_destination
from mailfleet.net.tls_client import unverified_context
from mailfleet.net.tls_keys import shown_digest

_MAX_LINES = 100
_FAILURES = (
    OSError,
    EOFError,
    ValueError,
    asyncio.LimitOverrunError,
    ForbiddenDestinationError,
)  # SSLError is an OSError


class KeyProbe:
    """For one process. ``hello`` is said in EHLO."""

    def __init__(self, hello: str, timeout_s: float, *, loopback_only: bool) -> None:
        self._hello, self._timeout_s, self._loopback_only = hello, timeout_s, loopback_only
        self._context = unverified_context()

    async def digest(self, address: str, port: int, host: str, *, implicit: bool) -> str:
        """Of the key that is shown for ``host`` (SNI, RFC 7672 8.1), as TLSA has it; empty where none is shown or nobody answers."""
        try:
            check_destination(address, loopback_only=self._loopback_only)
            async with asyncio.timeout(self._timeout_s):
                return await self._look(address, port, host, implicit)
        except _FAILURES:
            return ""

    async def _look(self, address: str, port: int, host: str, implicit: bool) -> str:
        tls = {"ssl": self._context, "server_hostname": host} if implicit else {}
        reader, writer = await asyncio.open_connection(address, port, **tls)  # type: ignore[arg-type]  # of different types
        try:
            if not implicit:
                if not await self._start_tls(reader, writer):
                    return ""
                await writer.start_tls(self._context, server_hostname=host)
            shown: ssl.SSLObject = writer.get_extra_info("ssl_object")
            certificate = shown.getpeercert(binary_form=True)
            return shown_digest(certificate) if certificate else ""
        finally:
            writer.close()

    async def _start_tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if not (await _reply(reader))[0].startswith("220"):
            return False
        writer.write(f"EHLO {self._hello}\r\n".encode("ascii"))
        if not any(line[4:].strip().upper() == "STARTTLS" for line in await _reply(reader)):
            return False
        writer.write(b"STARTTLS\r\n")
        return (await _reply(reader))[0].startswith("220")


async def _reply(reader: asyncio.StreamReader) -> list[str]:
    """Its lines. Raises ``EOFError`` where it is cut short or does not end."""
    lines: list[str] = []
    while len(lines) < _MAX_LINES:
        lines.append((await reader.readuntil(b"\n")).decode("ascii", "replace"))
        if lines[-1][3:4] != "-":
            return lines
    raise EOFError
