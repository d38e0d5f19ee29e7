"""The sandbox's DNS server: UDP and TCP on 127.0.0.1 (RFC 1035 4.2). What it says is decided in ``zone``."""

from __future__ import annotations

import asyncio
import errno
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode

from mailfleet.base.errors import ConfigError
from mailfleet.sandbox.published import Published
from mailfleet.sandbox.zone import Zone

DNS_HOST = "127.0.0.1"
_MAX_CACHED = 65_536
_MAX_UDP_BYTES = 4096
_TCP_IDLE_S = 30.0


class Answerer:
    """Wire question to wire answer. Encoded answers are kept by the question's bytes after its id."""

    def __init__(self, zone: Zone, published: Published) -> None:
        self._zone = zone
        self._published = published
        self._version = -1
        self._cache: dict[tuple[bytes, bool], bytes] = {}
        self.queries = 0

    def answer(self, wire: bytes, *, udp: bool) -> bytes | None:
        """The answer, or ``None`` when ``wire`` is no query at all and is best left alone."""
        version = self._published.refresh()
        if version != self._version or len(self._cache) > _MAX_CACHED:
            self._cache.clear()
            self._version = version
        self.queries += 1
        key = (wire[2:], udp)
        known = self._cache.get(key)
        if known is None:
            encoded = self._encode(wire, udp)
            if encoded is None:
                return None
            known = self._cache[key] = encoded[2:]
        return wire[:2] + known

    def _encode(self, wire: bytes, udp: bool) -> bytes | None:
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            # RFC 1035 4.1.1: FORMERR, if there is enough of a header to answer to and it is not itself a response.
            return wire[:2] + b"\x80\x01" + bytes(8) if len(wire) >= 12 and not wire[2] & 0x80 else None
        if query.flags & dns.flags.QR:
            return None
        response = self._zone.answer(query)
        # RFC 6891 6.2.3: without EDNS a UDP answer has at most 512 bytes.
        limit = min(max(query.payload, 512), _MAX_UDP_BYTES) if udp else 65_535
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            cut = dns.message.make_response(query, recursion_available=True)
            cut.flags |= dns.flags.TC  # RFC 2181 9: the client asks again over TCP
            return cut.to_wire()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._answerer.answer(data, udp=True)
        if answer is not None:
            self._transport.sendto(answer, addr)


class _Tcp(asyncio.Protocol):
    """RFC 7766: several questions on one connection, each after its two-byte length."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._idle = asyncio.get_running_loop().call_later(_TCP_IDLE_S, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < end:
                return
            answer = self._answerer.answer(bytes(self._buffer[2:end]), udp=False)
            del self._buffer[:end]
            if answer is None:
                self._transport.abort()
                return
            self._transport.write(len(answer).to_bytes(2, "big") + answer)


class DnsServer:
    """Starts and stops both listeners."""

    def __init__(self, answerer: Answerer, port: int) -> None:
        self._answerer = answerer
        self._port = port
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises ``ConfigError`` naming the port when somebody else has it."""
        loop = asyncio.get_running_loop()
        try:
            self._udp, _ = await loop.create_datagram_endpoint(
                lambda: _Udp(self._answerer), local_addr=(DNS_HOST, self._port)
            )
            self._tcp = await loop.create_server(lambda: _Tcp(self._answerer), DNS_HOST, self._port)
        except OSError as error:
            await self.stop()
            raise port_error(error, DNS_HOST, self._port, "sandbox.dns_port") from None

    async def stop(self) -> None:
        """Close both listeners; harmless when they are not open."""
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        if self._tcp is not None:
            self._tcp.close()
            self._tcp = None


def port_error(error: OSError, host: str, port: int, setting: str) -> ConfigError:
    """Why an address cannot be listened on, and which setting mends it."""
    if error.errno == errno.EADDRINUSE:
        what, mend = f"port {port} on {host} is in use", f"stop the other program or set {setting} to a free port"
    elif error.errno == errno.EADDRNOTAVAIL:
        what, mend = f"this machine has no address {host}", "set sandbox.address_base to loopback addresses that it has"
    else:
        what, mend = f"cannot listen on {host} port {port}: {error.strerror or error}", f"set {setting} to another port"
    return ConfigError(what, where=setting, mend=mend)
