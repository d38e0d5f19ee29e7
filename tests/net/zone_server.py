"""A small DNS server over UDP and TCP for tests: answers from zone text, and misbehaves where told to."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from collections.abc import AsyncIterator
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone

from tests.ports import free_port


class ZoneServer:
    """Serves one zone. ``silent``, ``servfail`` and ``cut`` (answered truncated over UDP) hold absolute names in lower case."""

    def __init__(self, origin: str, text: str) -> None:
        self.zone = dns.zone.from_text(text, origin=dns.name.from_text(origin), relativize=False)
        self.silent: set[str] = set()
        self.servfail: set[str] = set()
        self.cut: set[str] = set()
        self.asked: Counter[tuple[str, str, str]] = Counter()  # name, type, udp or tcp
        self.port = 0

    def answer(self, wire: bytes, transport: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text().lower()
        self.asked[name, dns.rdatatype.to_text(question.rdtype), transport] += 1
        if name in self.silent:
            return None
        response = dns.message.make_response(query)
        if name in self.servfail:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif name in self.cut and transport == "udp":
            response.flags |= dns.flags.TC
        else:
            self._fill(response, question)
        return response.to_wire(max_size=65535)

    def _fill(self, response: dns.message.Message, question: dns.rrset.RRset) -> None:
        name = question.name
        for _ in range(8):
            node = self.zone.get_node(name)
            if node is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                break
            found = node.get_rdataset(self.zone.rdclass, question.rdtype)
            if found is not None:
                response.answer.append(dns.rrset.from_rdata_list(name, found.ttl, list(found)))
                return
            alias = node.get_rdataset(self.zone.rdclass, dns.rdatatype.CNAME)
            if alias is None:
                break
            response.answer.append(dns.rrset.from_rdata_list(name, alias.ttl, list(alias)))
            name = alias[0].target
        soa = self.zone.find_rdataset(self.zone.origin or name, dns.rdatatype.SOA)
        response.authority.append(dns.rrset.from_rdata_list(self.zone.origin or name, soa.ttl, list(soa)))

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[ZoneServer]:
        """Serve on one loopback port, UDP and TCP."""
        loop = asyncio.get_running_loop()
        self.port = free_port()
        tcp = await asyncio.start_server(self._serve_tcp, "127.0.0.1", self.port)
        udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=("127.0.0.1", self.port))
        try:
            yield self
        finally:
            udp.close()
            tcp.close()
            await tcp.wait_closed()

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
                answer = self.answer(await reader.readexactly(size), "tcp")
                if answer is not None:
                    writer.write(struct.pack("!H", len(answer)) + answer)
        writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: ZoneServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer(data, "udp")
        if answer is not None:
            self._transport.sendto(answer, addr)
