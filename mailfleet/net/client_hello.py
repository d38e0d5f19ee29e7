"""Reading a TLS ClientHello (RFC 8446 4.1.2): the name it asks for (RFC 6066) and the protocols it offers (RFC 7301). Pure."""

from __future__ import annotations

from typing import NamedTuple

ACME_TLS = "acme-tls/1"
_SERVER_NAME, _ALPN = 0, 16


class ClientHello(NamedTuple):
    """``name`` is empty where none is asked for."""

    name: str
    protocols: tuple[str, ...]


def read_hello(first: bytes) -> ClientHello | None:
    """None for what is no whole ClientHello in one record. Never raises."""
    try:
        return _read(first)
    except (IndexError, UnicodeDecodeError):
        return None


def _read(first: bytes) -> ClientHello | None:
    record = _Bytes(first)
    if record.take(1) != b"\x16":
        return None
    record.take(2)
    message = _Bytes(record.vector(2))
    if message.take(1) != b"\x01":
        return None
    hello = _Bytes(message.vector(3))
    hello.take(34)  # version and random
    hello.vector(1)
    hello.vector(2)
    hello.vector(1)
    name = ""
    protocols: tuple[str, ...] = ()
    extensions = _Bytes(hello.vector(2)) if hello.left else _Bytes(b"")
    while extensions.left:
        kind, body = int.from_bytes(extensions.take(2)), _Bytes(extensions.vector(2))
        if kind == _SERVER_NAME:
            names = _Bytes(body.vector(2))
            while names.left:
                what, value = names.take(1), names.vector(2)
                if what == b"\x00":
                    name = _host(value)
        elif kind == _ALPN:
            offered = _Bytes(body.vector(2))
            found = []
            while offered.left:
                found.append(offered.vector(1).decode("ascii", "replace"))
            protocols = tuple(found)
    return ClientHello(name, protocols)


def _host(value: bytes) -> str:
    """RFC 6066 3: ASCII, and none of it may reach a log or a database that a name has no use for."""
    name = value.decode("ascii").lower()
    if not name.isprintable() or " " in name:
        raise IndexError("no host name")
    return name


class _Bytes:
    """Bytes that are taken from the front; ``IndexError`` when there are too few."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise IndexError("too short")
        self._at += count
        return self._data[self._at - count : self._at]

    def vector(self, width: int) -> bytes:
        return self.take(int.from_bytes(self.take(width)))
