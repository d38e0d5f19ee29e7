"""A ClientHello as clients send it, and as nobody should."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.net.client_hello import ClientHello, read_hello
from tests.net.handshakes import hello

REAL = hello("mail.shop.test", ("h2", "http/1.1"))


@pytest.mark.parametrize("protocols", [(), ("acme-tls/1",), ("h2", "http/1.1", "x" * 255)])
@pytest.mark.parametrize("name", [None, "mail.shop.test", "a.b"])
def test_what_a_client_asks_for(name: str | None, protocols: tuple[str, ...]) -> None:
    assert read_hello(hello(name, protocols)) == ClientHello(name or "", protocols)


def test_names_are_in_lower_case() -> None:
    assert read_hello(REAL.replace(b"mail.shop.test", b"MAIL.Shop.Test")) == read_hello(REAL)


def test_an_address_is_no_name() -> None:
    assert read_hello(hello("127.0.0.1")) == ClientHello("", ())


@pytest.mark.parametrize("name", [b"mail\x00shop.test", b"mail.shop.t\xffst", b"mail.\x1b[1m.test", b"mail shop.test"])
def test_what_is_no_host_name_goes_no_further(name: bytes) -> None:
    assert len(name) == len(b"mail.shop.test")
    assert read_hello(REAL.replace(b"mail.shop.test", name)) is None


def test_protocols_that_are_not_ascii_are_no_known_ones() -> None:
    found = read_hello(REAL.replace(b"http/1.1", b"\xff" * 8))
    assert found is not None
    assert found.protocols == ("h2", "\ufffd" * 8)


def test_a_hello_of_old_has_no_extensions() -> None:
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    message = b"\x01" + len(body).to_bytes(3) + body
    assert read_hello(b"\x16\x03\x01" + len(message).to_bytes(2) + message) == ClientHello("", ())


@given(st.integers(0, len(REAL) - 1))
def test_a_part_of_it_is_none(length: int) -> None:
    assert read_hello(REAL[:length]) is None


@given(st.binary(max_size=600))
def test_any_bytes(data: bytes) -> None:
    assert isinstance(read_hello(data), ClientHello | None)


@given(st.lists(st.tuples(st.integers(0, len(REAL) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_change(changes: list[tuple[int, int]]) -> None:
    data = bytearray(REAL)
    for at, value in changes:
        data[at] = value
    found = read_hello(bytes(data))
    assert found is None or found.name.isprintable()
