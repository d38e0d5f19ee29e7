"""A private mail network on loopback for measuring: a DNS server that knows every name, and Postfix's smtp-sink."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM, host: str = "127.0.0.1") -> int:
    """A port nobody uses at the moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def dns_server(address: str = "127.0.0.1") -> Iterator[int]:
    """Every domain has one MX, ``mx.<domain>``, and every host the address given. Yields the UDP port."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    running = True

    def answer() -> None:
        while running:
            try:
                data, client = server.recvfrom(4096)
            except OSError:
                return
            query = dns.message.from_wire(data)
            reply = dns.message.make_response(query)
            reply.flags |= dns.flags.AA | dns.flags.RA
            question = query.question[0]
            if question.rdtype == dns.rdatatype.MX:
                reply.answer.append(dns.rrset.from_text(question.name, 3600, "IN", "MX", f"10 mx.{question.name}"))
            elif question.rdtype == dns.rdatatype.A:
                reply.answer.append(dns.rrset.from_text(question.name, 3600, "IN", "A", address))
            server.sendto(reply.to_wire(), client)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        running = False
        server.close()


@contextlib.contextmanager
def smtp_sink() -> Iterator[int]:
    """Postfix's smtp-sink, which takes and forgets everything. Yields the port."""
    program = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        raise SystemExit("smtp-sink is missing: run scripts/install-mail-peers")
    port = free_port()
    process = subprocess.Popen(
        [program, "-m", "4096", "-u", "nobody", f"127.0.0.1:{port}", "1024"], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()
