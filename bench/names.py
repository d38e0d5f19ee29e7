"""A DNS server that knows every name, as a process of its own: ``python -m bench.names PORT``.

Every domain has one MX, ``mx.<domain>``, so every domain is a site of its own. Where its host stands depends on the kind of domain:
``check.test`` is where arriving messages are kept and verified, ``s<n>.test`` are slow sites, ``f<n>.test`` their fast twins,
everything else is the sink that counts.
"""

from __future__ import annotations

import re
import socket
import sys

COUNTING, CHECKING, SLOW, FAST = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"
A, MX = 1, 15
TTL_S = 3600


def address_of(name: str) -> str:
    """The address of a mail host, by the domain that it serves."""
    domain = name.removeprefix("mx.")
    if domain == "check.test":
        return CHECKING
    if found := re.fullmatch(r"([sf])\d+\.test", domain):
        return SLOW if found[1] == "s" else FAST
    return COUNTING


def answer(query: bytes) -> bytes:
    """The reply to a query: one record for MX and A, none for any other type (RFC 1035 4.1)."""
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1"))
        at += query[at] + 1
    question = query[12 : at + 5]
    kind = int.from_bytes(query[at + 1 : at + 3], "big")
    if kind == MX:
        data = b"\x00\x0a\x02mx\xc0\x0c"
    elif kind == A:
        data = socket.inet_aton(address_of(".".join(labels).lower()))
    else:
        data = b""
    head = query[:2] + b"\x85\x80\x00\x01" + (b"\x00\x01" if data else b"\x00\x00") + b"\x00\x00\x00\x00"
    if not data:
        return head + question
    record = b"\xc0\x0c" + question[-4:] + TTL_S.to_bytes(4, "big") + len(data).to_bytes(2, "big") + data
    return head + question + record


def main() -> None:
    """Answer until killed."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
    server.bind(("127.0.0.1", int(sys.argv[1])))
    while True:
        query, client = server.recvfrom(4096)
        server.sendto(answer(query), client)


if __name__ == "__main__":
    main()
