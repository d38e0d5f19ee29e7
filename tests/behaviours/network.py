"""A private test network on loopback for a server that runs for real: a zone of its own, and mail hosts on port ``port``.

Every mail host has an address of its own in one block of loopback, so that the one setting ``delivery.remote_port`` reaches
them all. A real mail server that listens elsewhere is reached through a port that hands its bytes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import dns.zone

from tests.behaviours.peer import Peer
from tests.behaviours.server import free_block
from tests.net.zone_server import ZoneServer
from tests.ports import free_port

T = TypeVar("T")

_SOA = "@ 60 IN SOA ns.test. root.test. 1 60 60 60 1\n@ 60 IN NS ns.test.\n"


class Network:
    """Names and hosts; everything runs in one thread beside the test."""

    def __init__(self) -> None:
        self.block = free_block()
        self.port = free_port(f"{self.block}.1")
        self.txt: dict[str, str] = {}
        self._records: list[tuple[str, str, str]] = []
        self._used = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="test network")
        self._closing = contextlib.AsyncExitStack()
        self.zone = ZoneServer(".", _SOA)

    def __enter__(self) -> Network:
        self._thread.start()
        self.run(self._closing.enter_async_context(self.zone.run()))
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._closing.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` in the network's thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """What points a server at this network and keeps it in there."""
        return {
            "dns": {"nameservers": [f"127.0.0.1:{self.zone.port}"], "timeout_s": 2},
            "delivery": {"remote_port": self.port, "loopback_only": True, "ipv6": False},
        }

    # Names

    def publish(self, name: str, kind: str, *values: str) -> None:
        """Add records, values in master-file form; a TXT is its plain text."""
        for value in values:
            if kind == "TXT":
                self.txt[name.lower().rstrip(".")] = value
                value = " ".join(f'"{value[at : at + 250]}"' for at in range(0, len(value), 250))
            self._records.append((name.rstrip(".") + ".", kind, value))
        self._serve()

    def withdraw(self, name: str) -> None:
        """Remove every record at ``name``."""
        self._records = [record for record in self._records if record[0] != name.rstrip(".") + "."]
        self._serve()

    def publish_domain(self, view: Mapping[str, Any]) -> None:
        """Put the records that ``mailfleet domain add --json`` printed into the zone."""
        for record in view["records"]:
            self.publish(record["name"], record["type"], record["value"])

    def mail_domain(self, domain: str, *hosts: tuple[int, str]) -> None:
        """MX records: (preference, address) in the order given; each host is called ``mx<n>.<domain>``."""
        for number, (preference, address) in enumerate(hosts):
            self.publish(domain, "MX", f"{preference} mx{number}.{domain}.")
            self.publish(f"mx{number}.{domain}", "A", address)

    def _serve(self) -> None:
        lines = [f"{name} 60 IN {kind} {value}" for name, kind, value in self._records]
        self.zone.zone = dns.zone.from_text(_SOA + "\n".join(lines) + "\n", origin=".", relativize=False)

    # Hosts

    def address(self) -> str:
        """An address of the block at which nobody listens yet."""
        self._used += 1
        return f"{self.block}.{self._used}"

    def peer(self, **manners: Any) -> Peer:
        """A mail host that does what a test tells it to, at an address of its own."""
        peer = Peer(self.address(), self.port, **manners)
        self.run(self._closing.enter_async_context(peer.serving()))
        return peer

    def web(
        self,
        port: int,
        answers: dict[str, tuple[int, str]],
        context: ssl.SSLContext,
        posted: list[tuple[str, bytes]] | None = None,
    ) -> str:
        """An address at which HTTPS is spoken: status and text by host name, as ``answers`` has them when somebody asks.

        ``posted`` gets the head and the body of what was posted.
        """
        address = self.address()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                named = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n"))
                }
                if posted is not None and head.startswith("POST "):
                    posted.append((head, await reader.readexactly(int(named["content-length"]))))
                status, text = answers.get(named.get("host", "").partition(":")[0], (404, "nobody"))
                writer.write(
                    f"HTTP/1.1 {status} so\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n{text}".encode()
                )
                await writer.drain()
            writer.close()

        async def serve() -> None:
            server = await asyncio.start_server(connected, address, port, ssl=context)
            self._closing.callback(server.close)

        self.run(serve())
        return address

    def hand_on(self, host: str, port: int) -> str:
        """An address at which the mail server on ``host:port`` answers."""
        address = self.address()

        async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            except ConnectionError:
                pass
            finally:
                writer.close()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection(host, port)
            await asyncio.gather(pipe(reader, back), pipe(there, writer))

        async def serve() -> None:
            server = await asyncio.start_server(connected, address, self.port)
            self._closing.callback(server.close)

        self.run(serve())
        return address
