"""The laws of a parser, for the server: any cut of the bytes gives the same, garbage gives replies, bounds hold."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.smtp.message_reader import MAX_TEXT_LINE_BYTES, MessageReader
from tests.smtp.server_dialogue import LOGIN, Dialogue, dialogue

REPLY = re.compile(rb"(?:\d{3}-[ -~]*\r\n)*[2345]\d{2} [ -~]*\r\n")
ENHANCED = re.compile(rb"([245])\d\d \1\.\d{1,3}\.\d{1,3} ")

COMMANDS = st.sampled_from(
    [
        b"EHLO c.example\r\n",
        b"HELO c\r\n",
        LOGIN,
        b"AUTH LOGIN\r\n",
        b"YW5u\r\n",
        b"*\r\n",
        b"MAIL FROM:<a@b.example>\r\n",
        b"MAIL FROM:<a@b.example> SIZE=999999999\r\n",
        b"MAIL FROM:<refused@b.example> RET=FULL\r\n",
        b"RCPT TO:<c@d.example>\r\n",
        b"RCPT TO:<refused@d.example> NOTIFY=NEVER\r\n",
        b"DATA\r\n",
        b"Subject: x\r\n\r\nbody\r\n.\r\n",
        b"..\r\n.x\r\n.\r\n",
        b"x" * 1001 + b"\r\n.\r\n",
        b".\r\n",
        b"BDAT 5\r\nab\r\nc",
        b"BDAT 4 LAST\r\nx\r\n\r",
        b"\nab",
        b"BDAT 0 LAST\r\n",
        b"BDAT 7 LAST\r\n.\r\n.\r\nx",
        b"BDAT\r\n",
        b"RSET\r\n",
        b"NOOP\r\n",
        b"QUIT\r\n",
        b"HUH\r\n",
        b"NOOP\n",
        b"\r\n.\n",
        b"\0",
        b"x" * 13_000,
    ]
)
USUAL = b"EHLO c\r\n" + LOGIN + b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
PREFIX = st.sampled_from([b"", USUAL, USUAL + b"DATA\r\n"])
STREAM = st.builds(lambda prefix, parts: prefix + b"".join(parts), PREFIX, st.lists(COMMANDS, max_size=12))


def _cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


def _run(pieces: list[bytes]) -> Dialogue:
    talk = dialogue(max_errors=6, max_message_bytes=2000)
    for piece in pieces:
        talk.send(piece)
    return talk


@settings(max_examples=120, deadline=None)
@given(STREAM, st.lists(st.integers(0, 100_000), max_size=20))
def test_any_cut_gives_the_same_events_and_replies(stream: bytes, cuts: list[int]) -> None:
    whole, cut = _run([stream]), _run(_cut(stream, cuts))
    assert cut.said == whole.said
    assert cut.events == whole.events
    assert cut.session.closing == whole.session.closing


@settings(max_examples=60, deadline=None)
@given(STREAM)
def test_byte_by_byte_gives_the_same(stream: bytes) -> None:
    stream = stream[:3000]
    whole, dripped = _run([stream]), _run([stream[i : i + 1] for i in range(len(stream))])
    assert (dripped.said, dripped.events) == (whole.said, whole.events)


GARBAGE = st.one_of(
    st.binary(max_size=300),
    STREAM,
    st.lists(st.one_of(COMMANDS, st.binary(max_size=40)), max_size=10).map(b"".join),
    st.text(max_size=60).map(lambda text: b"MAIL FROM:<" + text.encode("utf-8", "replace") + b"> SMTPUTF8\r\n"),
    st.text(max_size=60).map(
        lambda text: USUAL + b"RCPT TO:<a@b.example> ORCPT=" + text.encode("utf-8", "replace") + b"\r\n"
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([b"", USUAL]), GARBAGE)
def test_garbage_ends_in_well_formed_replies(prefix: bytes, garbage: bytes) -> None:
    talk = _run([prefix + garbage])
    replies = REPLY.findall(talk.said)
    assert b"".join(replies) == talk.said
    for reply in replies:
        # RFC 2034 4: every 2yz, 4yz and 5yz but the greeting and the answers to EHLO and HELO
        last = reply.rstrip(b"\r\n").split(b"\r\n")[-1]
        plain = last.startswith((b"334 ", b"354 ", b"220 mx.", b"250 mx.", b"250 AUTH", b"250 STARTTLS", b"250 ENH"))
        assert plain or ENHANCED.match(last), last
        assert max(map(len, reply.split(b"\r\n"))) <= 510
    assert talk.session.buffered_bytes <= 15_000


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.binary(max_size=30).map(lambda line: re.sub(rb"[\r\n\0]", b".", line)), max_size=12),
    st.lists(st.integers(0, 1000), max_size=10),
    st.booleans(),
)
def test_what_a_client_stuffs_is_what_is_read(lines: list[bytes], cuts: list[int], chunked: bool) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    reader = MessageReader(10_000)
    if chunked:
        for piece in _cut(message, cuts):
            reader.feed_chunk(piece)
    else:
        wire = b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines) + b".\r\nNEXT"
        rest: bytes | None = None
        for piece in _cut(wire, cuts):
            rest = reader.feed_data(piece) if rest is None else rest + piece
        assert rest == b"NEXT"
    assert reader.finish() == message
    assert not reader.violated
    assert reader.refusal is None


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(990, 1003), min_size=1, max_size=4), st.lists(st.integers(0, 5000), max_size=10), st.booleans()
)
def test_the_line_limit_holds_wherever_the_cuts_fall(lengths: list[int], cuts: list[int], chunked: bool) -> None:
    message = b"".join(b"x" * length + b"\r\n" for length in lengths)
    reader = MessageReader(100_000)
    for piece in _cut(message if chunked else message + b".\r\n", cuts):
        reader.feed_chunk(piece) if chunked else reader.feed_data(piece)
    kept = reader.finish()
    assert (reader.refusal is not None) == (max(lengths) > MAX_TEXT_LINE_BYTES)
    assert kept == (b"" if reader.refusal else message)


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"x", b"\0"]), max_size=14),
    st.lists(st.integers(0, 40), max_size=6),
)
def test_only_messages_of_whole_lines_are_taken(parts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(parts) + b"\r\n.\r\n"
    whole = stream[: (b"\r\n" + stream).find(b"\r\n.\r\n")]
    reader = MessageReader(10_000)
    ended = False
    for piece in _cut(stream, cuts):
        ended = ended or reader.feed_data(piece) is not None
    clean = not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", whole)
    assert ended
    assert reader.violated != clean
