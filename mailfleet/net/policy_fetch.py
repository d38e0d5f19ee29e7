"""Fetching a domain's MTA-STS policy over HTTPS (RFC 8461 3.3): certificate checked, nothing followed, no more than its bytes."""

from __future__ import annotations

import asyncio
import ssl

from mailfleet.base.errors import MailfleetError
from mailfleet.mail.mta_sts import MAX_POLICY_BYTES, WELL_KNOWN
from mailfleet.net.dns_query import DnsTemporary
from mailfleet.net.guard import ForbiddenDestinationError, check_destination
from mailfleet.net.resolver import Resolver

TIMEOUT_S = 30.0
MAX_HEAD_BYTES = 16 * 1024


class PolicyFetchError(MailfleetError):
    """There is no policy to be had now. The message says why."""


class PolicyFetcher:
    """For one process. ``port`` is 443 except in test networks."""

    def __init__(
        self, resolver: Resolver, context: ssl.SSLContext, *, port: int = 443, ipv6: bool, loopback_only: bool = False
    ) -> None:
        self._resolver, self._context, self._port = resolver, context, port
        self._ipv6, self._loopback_only = ipv6, loopback_only

    async def fetch(self, domain: str) -> str:
        """The text of the policy. Raises ``PolicyFetchError``."""
        host = f"mta-sts.{domain}"
        try:
            addresses = await self._resolver.addresses(host, self._ipv6)
        except DnsTemporary as error:
            raise PolicyFetchError(str(error)) from None
        why = f"{host} has no address"
        for ip in addresses[:4]:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    return await self._get(host, ip)
            except TimeoutError:
                why = f"{host} ({ip}) did not answer in {TIMEOUT_S:g} s"
            except (OSError, ssl.SSLError, EOFError, asyncio.LimitOverrunError, ForbiddenDestinationError) as error:
                why = f"{host} ({ip}): {error or type(error).__name__}"
        raise PolicyFetchError(why)

    async def _get(self, host: str, ip: str) -> str:
        check_destination(ip, loopback_only=self._loopback_only)
        reader, writer = await asyncio.open_connection(
            ip, self._port, ssl=self._context, server_hostname=host, limit=MAX_HEAD_BYTES
        )
        try:
            # One small answer: HTTP/1.0 spares chunks and connections that stay.
            writer.write(f"GET {WELL_KNOWN} HTTP/1.0\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status = head.split("\r\n", 1)[0].split(" ")
            if len(status) < 2 or status[1] != "200":  # RFC 8461 3.3: a redirect is not followed
                raise PolicyFetchError(f"{host} answers {' '.join(status[1:])[:60] or 'no HTTP'} to {WELL_KNOWN}")
            body = await reader.read(MAX_POLICY_BYTES + 1)
            while more := await reader.read(MAX_POLICY_BYTES + 1):
                body += more
                if len(body) > MAX_POLICY_BYTES:
                    break
        finally:
            writer.close()
        if len(body) > MAX_POLICY_BYTES:
            raise PolicyFetchError(f"the policy of {host} is larger than {MAX_POLICY_BYTES} bytes")
        return body.decode("utf-8", "replace")
