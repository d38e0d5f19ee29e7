"""The four laws of the reply parser, and what it forgives."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.smtp.reply import Reply
from mailfleet.smtp.reply_parser import MAX_REPLY_BYTES, MAX_REPLY_LINES, ReplyError, ReplyParser

texts = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40)
replies = st.builds(
    Reply, st.integers(200, 599), st.lists(texts, min_size=1, max_size=6).map(lambda lines: tuple(lines))
)


def parsed(chunks: list[bytes]) -> tuple[list[Reply], str]:
    """Every reply, then the words of the error if there was one."""
    parser, found = ReplyParser(), []
    try:
        for chunk in chunks:
            parser.receive(chunk)
            while (reply := parser.next_reply()) is not None:
                found.append(reply)
    except ReplyError as error:
        return found, str(error)
    return found, ""


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(replies, max_size=5))
@settings(max_examples=100)
def test_parse_of_format_is_identity(given_replies: list[Reply]) -> None:
    assert parsed([b"".join(reply.encode() for reply in given_replies)]) == (given_replies, "")


@given(st.lists(replies, max_size=4), st.binary(max_size=60), st.lists(st.integers(0, 10_000), max_size=8))
@settings(max_examples=150)
def test_any_split_gives_the_same_replies_and_the_same_error(
    given_replies: list[Reply], tail: bytes, cuts: list[int]
) -> None:
    data = b"".join(reply.encode() for reply in given_replies) + tail
    assert parsed(split(data, cuts)) == parsed([data]) == parsed([bytes([byte]) for byte in data])


@given(
    st.binary(max_size=400) | st.lists(st.sampled_from([b"250", b"-", b" ", b"\r", b"\n", b"\r\n", b"x"])).map(b"".join)
)
@settings(max_examples=200)
def test_garbage_yields_replies_or_the_typed_error(data: bytes) -> None:
    for reply in parsed([data])[0]:
        assert 200 <= reply.code <= 599
        assert not [letter for line in reply.lines for letter in line if letter < " " and letter != "\t"]


@pytest.mark.parametrize("line_bytes", [70, 1000])
def test_a_reply_without_end_is_refused_within_its_bounds(line_bytes: int) -> None:
    parser, taken = ReplyParser(), 0
    with pytest.raises(ReplyError, match="a reply"):  # noqa: PT012 - the loop is the remote
        while True:
            parser.receive(b"250-" + b"x" * line_bytes + b"\r\n")
            taken += line_bytes + 6
            assert parser.next_reply() is None
    assert taken <= MAX_REPLY_BYTES + line_bytes + 6
    assert taken <= (MAX_REPLY_LINES + 1) * (line_bytes + 6)


def test_a_line_without_end_is_refused() -> None:
    assert "longer than" in parsed([b"250 " + b"x" * MAX_REPLY_BYTES])[1]


def test_limits_count_for_each_reply_on_its_own() -> None:
    one = b"250-" + b"x" * 60_000 + b"\r\n250 done\r\n"
    assert len(parsed([one * 3])[0]) == 3


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"250\r\n", Reply(250, ("",))),
        (b"250 \r\n", Reply(250, ("",))),
        (b"250 ok\n", Reply(250, ("ok",))),
        (b"250-one\n250 two\r\r\n", Reply(250, ("one", "two"))),
        (b"550 bo\xeete pleine\r\n", Reply(550, ("bo�te pleine",))),
        ("550 boîte pleine\r\n".encode(), Reply(550, ("boîte pleine",))),
        (b"550 red \x1b[31m alert\x07\r\n", Reply(550, ("red �[31m alert�",))),
        (b"250-fine\r\n550 not fine\r\n", Reply(550, ("fine", "not fine"))),
    ],
)
def test_what_is_forgiven(data: bytes, reply: Reply) -> None:
    assert parsed([data]) == ([reply], "")


@pytest.mark.parametrize(
    "data", [b"\r\n", b"HTTP/1.1 400\r\n", b"25 x\r\n", b"2500 x\r\n", b"150 x\r\n", b"650 x\r\n", b"250_x\r\n"]
)
def test_what_is_not_a_reply(data: bytes) -> None:
    found, error = parsed([b"220 hi\r\n" + data])
    assert found == [Reply(220, ("hi",))]
    assert "not an SMTP reply" in error


def test_the_error_stays() -> None:
    parser = ReplyParser()
    parser.receive(b"garbage\r\n250 ok\r\n")
    for _ in range(2):
        with pytest.raises(ReplyError, match="garbage"):
            parser.next_reply()
