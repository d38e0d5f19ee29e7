"""Header blocks: splitting keeps every byte, malformed ones are refused by line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail.fields import get_all, get_first, split_fields, split_message, unfold

HEADER = b"Received: one\r\n\tfolded\r\nFROM : ann@example.org\r\nReceived: two\r\nX-Empty:\r\nX-Folded:\r\n later\r\n"

names = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=12)
lines = st.binary(max_size=20).map(lambda raw: raw.translate(None, b"\r\n\x00"))
folded = st.tuples(lines, st.lists(st.tuples(st.sampled_from([b" ", b"\t"]), lines), max_size=3)).map(
    lambda parts: parts[0] + b"".join(b"\r\n" + white + line for white, line in parts[1])
)


def test_fields_come_in_order_with_their_bytes() -> None:
    fields = split_fields(HEADER)
    assert [field.name for field in fields] == ["Received", "FROM", "Received", "X-Empty", "X-Folded"]
    assert b"".join(field.raw for field in fields) == HEADER
    assert fields[0].value == b"one\tfolded"
    assert fields[1].key == "from"
    assert fields[3].value == b""
    assert fields[4].value == b"later"


def test_lookup_ignores_case_and_starts_at_the_top() -> None:
    fields = split_fields(HEADER)
    first = get_first(fields, "received")
    assert first is not None
    assert first.value == b"one\tfolded"
    assert [field.value for field in get_all(fields, "RECEIVED")] == [b"one\tfolded", b"two"]
    assert get_first(fields, "To") is None
    assert get_all(fields, "To") == []


@pytest.mark.parametrize(
    ("message", "header", "body"),
    [
        (b"A: 1\r\n\r\nhi\r\n", b"A: 1\r\n", b"hi\r\n"),
        (b"A: 1\r\n\r\n\r\nhi", b"A: 1\r\n", b"\r\nhi"),
        (b"\r\nhi", b"", b"hi"),
        (b"A: 1\r\n", b"A: 1\r\n", b""),
        (b"A: 1\r\n\r\n", b"A: 1\r\n", b""),
        (b"", b"", b""),
    ],
)
def test_message_is_cut_at_the_blank_line(message: bytes, header: bytes, body: bytes) -> None:
    assert split_message(message) == (header, body)


@pytest.mark.parametrize(
    ("header", "where", "what"),
    [
        (b"A: 1\r\nno colon here\r\n", "header line 2", "no colon"),
        (b" A: 1\r\n", "header line 1", "continuation"),
        (b"A: 1\r\nB c: 2\r\n", "header line 2", "not allowed"),
        (b"A: 1\r\nB\xc3\xa9: 2\r\n", "header line 2", "not allowed"),
        (b"A: 1\r\n: 2\r\n", "header line 2", "not allowed"),
        (b"A: 1\nB: 2\r\n", "header line 1", "CRLF"),
        (b"A: 1\r\nB: 2\rC: 3\r\n", "header line 2", "CRLF"),
        (b"A: 1\r\nB: 2", "header line 2", "CRLF"),
        (b"A: 1\r\nB: 2\x00\r\n", "header line 2", "NUL"),
        (b"A: 1\r\n\r\nB: 2\r\n", "header line 2", "no colon"),
    ],
)
def test_malformed_header_is_refused_by_line(header: bytes, where: str, what: str) -> None:
    with pytest.raises(InputError, match=what) as refused:
        split_fields(header)
    assert refused.value.where == where


@given(st.lists(st.tuples(names, folded), max_size=8))
def test_split_then_join_is_identity(made: list[tuple[str, bytes]]) -> None:
    header = b"".join(name.encode() + b":" + value + b"\r\n" for name, value in made)
    fields = split_fields(header)
    assert [(field.name, field.raw_value) for field in fields] == [(name, value + b"\r\n") for name, value in made]
    assert b"".join(field.raw for field in fields) == header
    assert all(unfold(field.raw_value) == field.raw_value.replace(b"\r\n", b"") for field in fields)


@given(st.binary(max_size=60) | st.text(":\r\n \tAb\x00", max_size=30).map(str.encode))
def test_garbage_is_split_without_loss_or_refused(garbage: bytes) -> None:
    try:
        fields = split_fields(garbage)
    except InputError:
        return
    assert b"".join(field.raw for field in fields) == garbage


@pytest.mark.parametrize("header", [b"a" * 2_000_000, b"a:\r\n" + b" \r\n" * 500_000 + b"\x00", b"a " * 1_000_000])
def test_long_garbage_takes_time_in_proportion(header: bytes) -> None:
    """Hangs if the work grows with the square of the length."""
    with pytest.raises(InputError):
        split_fields(header)
