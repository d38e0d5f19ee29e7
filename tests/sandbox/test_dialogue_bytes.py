"""The conversation as bytes: any split says the same, garbage breaks nothing, limits hold, strictness is as documented."""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.sandbox import catalogue
from mailfleet.sandbox.dialogue import Dialogue, parse_path
from mailfleet.sandbox.journal import JournalWriter, read
from mailfleet.sandbox.memory import Memory
from mailfleet.sandbox.provider import Desk, Provider
from mailfleet.sandbox.published import Published
from mailfleet.sandbox.signatures import SignatureCheck
from mailfleet.sandbox.spool import Place, SpoolReader, SpoolWriter
from tests.sandbox.conftest import ManualClock, letter

SPECS = {spec.name: spec for spec in catalogue.load(rates={"*": {}})}


class Bench:
    """A provider without sockets."""

    def __init__(self, name: str = "gmail", max_message_bytes: int | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.data = Path(self._folder.name)
        spec = SPECS[name]
        if max_message_bytes is not None:
            spec = replace(spec, max_message_bytes=max_message_bytes)
        self.desk = Desk(
            clock=ManualClock(),
            seed=1,
            time_scale=1,
            memory=Memory(1),
            log=JournalWriter(self.data),
            spool=SpoolWriter(self.data, 10_000_000),
            signatures=SignatureCheck(Published(self.data)),
            provider_of_domain={"gmail.com": "gmail"},
        )
        self.provider = Provider(spec, self.desk)

    def talk(self, *pieces: bytes) -> tuple[list[int], Dialogue]:
        """Feed the pieces; the codes of all final reply lines."""
        dialogue = Dialogue(self.provider, "127.0.0.1", offers_tls=True)
        for piece in pieces:
            if dialogue.closed or dialogue.dropped:
                break
            dialogue.receive(piece)
        return [int(code) for code in re.findall(rb"(?m)^(\d{3}) ", b"".join(dialogue.out))], dialogue

    def accepted(self) -> list[bytes | None]:
        reader = SpoolReader(self.data)
        found = [reader.read(Place(one.segment, one.offset, one.length)) for _, one in read(self.data) if one.accepted]
        reader.close()
        return found

    def close(self) -> None:
        self.desk.log.close()
        self.desk.spool.close()
        self._folder.cleanup()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


ENVELOPE = b"MAIL FROM:<b@shop.example>\r\nRCPT TO:<ann@gmail.com>\r\n"
WHOLE = (
    b"EHLO a.example\r\n"
    + ENVELOPE
    + b"DATA\r\n"
    + letter("1@x", "..dots\r\n...\r\n\r\nend\r\n")
    + b".\r\n"
    + ENVELOPE
    + b"RCPT TO:<unknown@gmail.com>\r\nBDAT 30\r\n"
    + letter("2@x")[:30]
    + b"BDAT %d LAST\r\n" % (len(letter("2@x")) - 30)
    + letter("2@x")[30:]
    + b"NOOP\r\nQUIT\r\n"
)
CODES = [250, 250, 250, 354, 250, 250, 250, 550, 250, 250, 250, 221]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, len(WHOLE) - 1), max_size=12))
def test_any_split_of_the_bytes_says_the_same(cuts: list[int]) -> None:
    bench = Bench()
    edges = [0, *sorted(cuts), len(WHOLE)]
    codes, dialogue = bench.talk(*(WHOLE[a:b] for a, b in itertools.pairwise(edges)))
    assert codes == CODES
    assert dialogue.closed
    assert bench.accepted() == [letter("1@x", ".dots\r\n..\r\n\r\nend\r\n"), letter("2@x")]
    bench.close()


def test_byte_by_byte(bench: Bench) -> None:
    codes, _ = bench.talk(*(WHOLE[at : at + 1] for at in range(len(WHOLE))))
    assert codes == CODES
    assert len(bench.accepted()) == 2


_TOKENS = [
    b"EHLO x\r\n",
    ENVELOPE,
    b"DATA\r\n",
    b".\r\n",
    b"BDAT 5 LAST\r\n",
    b"RSET\r\n",
    b"\x00\xff\r\n",
    b"\n",
    b"STARTTLS\r\n",
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(_TOKENS), st.binary(max_size=40)), max_size=15))
def test_garbage_only_ever_gets_replies(pieces: list[bytes]) -> None:
    bench = Bench()
    _, dialogue = bench.talk(*pieces)
    for line in b"".join(dialogue.out).splitlines():
        assert re.match(rb"[2345]\d\d[ -]", line)
    bench.close()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"MAIL FROM:<b@shop.example>", 503),
        (b"EHLO", 501),
        (b"HELO ", 501),
        (b"RCPT TO:<a@gmail.com>", 503),
        (b"DATA", 503),
        (b"FOO", 500),
        (b"VRFY ann", 252),
        (b"RSET", 250),
        (b"EHLO \xff", 501),
        (b"EHLO a\r\nMAIL FROM:b@shop.example", 501),
        (b"EHLO a\r\nMAIL FROM:<b@shop.example> RET=FULL", 555),
        (b"EHLO a\r\nMAIL FROM:<b@shop.example> BODY=BINARYMIME", 555),
        (b"EHLO a\r\nMAIL FROM:<b@shop.example> SIZE=999999999", 552),
        (b"EHLO a\r\nMAIL FROM:<> SIZE=9 BODY=8BITMIME SMTPUTF8", 250),
        (b"EHLO a\r\nMAIL FROM:<>\r\nMAIL FROM:<>", 503),
        (b"EHLO a\r\nMAIL FROM:<>\r\nDATA", 554),
        (b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<>", 501),
        (b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<ann@gmail.com> NOTIFY=NEVER", 555),
        (b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a..b@gmail.com>", 553),
        (b"EHLO a\r\nMAIL FROM:<>\r\nBDAT 0 LAST", 503),
        (b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<ann@gmail.com>\r\nBDAT 3\r\nabcDATA", 503),
        (b"EHLO a\r\nMAIL FROM:<>\r\nBDAT x LAST", 501),
        (b'EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<"ann > b"@gmail.com>', 250),
    ],
)
def test_the_last_reply_to(bench: Bench, line: bytes, code: int) -> None:
    assert bench.talk(line + b"\r\n")[0][-1] == code


def test_a_bare_line_feed_ends_the_connection(bench: Bench) -> None:
    codes, dialogue = bench.talk(b"EHLO a\nMAIL FROM:<b@shop.example>\r\n")
    assert codes == [500]
    assert dialogue.closed


@pytest.mark.parametrize("body", ["a\nb\r\n", "a\rb\r\n", "a\r\n.\nMAIL FROM:<x@y.example>\r\n", "nul\0\r\n"])
def test_bare_line_ends_inside_a_message_are_refused(bench: Bench, body: str) -> None:
    codes, _ = bench.talk(b"EHLO a\r\n" + ENVELOPE + b"DATA\r\n" + letter("1@x", body) + b".\r\n")
    assert codes == [250, 250, 250, 354, 550]
    assert not bench.accepted()


@pytest.mark.parametrize(
    "message", [b"", b"Subject: no From\r\n\r\nhi\r\n", b"no header\r\n", b"Subject: a\r\n\r\nFrom: b@c\r\n"]
)
def test_a_message_without_from_is_refused(bench: Bench, message: bytes) -> None:
    assert bench.talk(b"EHLO a\r\n" + ENVELOPE + b"DATA\r\n" + message + b".\r\n")[0][-1] == 550


def test_a_message_without_message_id_is_known_by_its_bytes(bench: Bench) -> None:
    wire = ENVELOPE + b"DATA\r\nFrom: a@shop.example\r\n\r\nhi\r\n.\r\n"
    bench.talk(b"EHLO a\r\n" + wire + wire + wire.replace(b"hi", b"ho"))
    assert [one.repeat for _, one in read(bench.data)] == [False, True, False]


def test_too_many_errors_end_the_connection(bench: Bench) -> None:
    codes, dialogue = bench.talk(b"FOO\r\n" * 50)
    assert codes == [500] * 10 + [421]
    assert dialogue.closed


def test_an_endless_line_ends_the_connection(bench: Bench) -> None:
    codes, dialogue = bench.talk(*[b"x" * 500] * 10)
    assert codes == [500]
    assert dialogue.closed


@pytest.mark.parametrize("chunked", [False, True])
def test_a_message_over_the_limit_is_refused_without_being_held(chunked: bool) -> None:
    bench = Bench(max_message_bytes=5000)
    pieces = [b"word word word word\r\n" * 50] * 100
    if chunked:
        wire = [ENVELOPE + b"BDAT %d LAST\r\n" % (100 * len(pieces[0])), *pieces]
    else:
        wire = [ENVELOPE + b"DATA\r\n", *pieces, b".\r\n"]
    codes, dialogue = bench.talk(b"EHLO a\r\n", *wire)
    assert codes[-1] == 552
    assert len(dialogue._buffer) + len(dialogue._chunks) < 20_000
    assert [one.reason for _, one in read(bench.data)] == ["message-too-large"]
    dialogue.receive(ENVELOPE + b"DATA\r\n" + letter("small@x") + b".\r\n")
    assert bench.accepted() == [letter("small@x")]
    bench.close()


def test_a_line_that_ends_in_a_dot_does_not_end_a_message_over_the_limit() -> None:
    bench = Bench(max_message_bytes=100)
    line = b"the end.\r\n"
    codes, dialogue = bench.talk(b"EHLO a\r\n" + ENVELOPE + b"DATA\r\n", line * 800 + line[:-2], b"\r\nX")
    assert codes[-1] == 354
    dialogue.receive(b"\r\n.\r\n")
    assert dialogue.out[-1].startswith(b"552")
    bench.close()


def test_nothing_sent_in_the_clear_behind_starttls_counts(bench: Bench) -> None:
    codes, dialogue = bench.talk(b"EHLO a\r\nSTARTTLS\r\nNOOP\r\n")
    assert codes == [250, 220]
    assert dialogue.wants_tls
    dialogue.receive(b"MAIL FROM:<>\r\n")  # through TLS, before the caller could say so
    dialogue.out.clear()
    dialogue.secured()
    assert [reply[:3] for reply in dialogue.out] == [b"503"]


def test_a_slow_recipient_delays_the_reply_and_what_follows(bench: Bench) -> None:
    wire = b"EHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<slow@gmail.com>\r\nDATA\r\n" + letter("1@x") + b".\r\nNOOP\r\n"
    codes, dialogue = bench.talk(wire)
    assert (codes[-1], dialogue.delay_s) == (354, 3.0)
    dialogue.out.clear()
    dialogue.resume()
    assert [reply[:3] for reply in dialogue.out] == [b"250", b"250"]


@pytest.mark.parametrize(
    ("rest", "parsed"),
    [
        ("FROM:<a@b.example>", ("a@b.example", [])),
        ("from: <a@b.example> SIZE=1  BODY=7BIT ", ("a@b.example", ["SIZE=1", "BODY=7BIT"])),
        ("FROM:<>", ("", [])),
        ('FROM:<"a>\\"b"@c.example>', ('"a>\\"b"@c.example', [])),
        ("FROM:a@b.example", None),
        ("TO:<a@b.example>", None),
        ("FROM:<a@b.example>SIZE=1", None),
        ("FROM:<a b@c.example>", None),
    ],
)
def test_paths(rest: str, parsed: tuple[str, list[str]] | None) -> None:
    assert parse_path(rest, "FROM") == parsed
