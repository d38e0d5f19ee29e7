"""What is added to a submitted message, what is taken away, what is refused, and that the rest stays as it was."""

from __future__ import annotations

import email
import email.policy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail.repair import ReceivedInfo, RepairedMessage, decode_words, repair

NOW_MS = 1_767_225_600_123
INFO = ReceivedInfo(
    "client.example", "192.0.2.7", "ESMTPSA", "q_1", "TLSv1.3 TLS_AES_256_GCM_SHA384", "bob@example.org"
)
RECEIVED = (
    b"Received: from client.example ([192.0.2.7])\r\n"
    b"\tby mx.example with ESMTPSA (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
    b"\tid q_1\r\n\tfor <bob@example.org>;\r\n"
    b"\tThu, 01 Jan 2026 00:00:00 +0000\r\n"
)
DATE = b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
ID = b"Message-ID: <new@mx.example>\r\n"


def mend(data: bytes, info: ReceivedInfo = INFO) -> RepairedMessage:
    return repair(data, hostname="mx.example", received=info, message_id="<new@mx.example>", now_ms=NOW_MS)


def test_what_is_missing_is_added() -> None:
    data = b"From: a@b.example\r\nSubject: x\r\n\r\nbody\r\n"
    mended = mend(data)
    assert mended.data == RECEIVED + DATE + ID + data
    assert mended.message_id == "<new@mx.example>"
    assert str(mended.from_address) == "a@b.example"


def test_what_is_there_stays_byte_for_byte() -> None:
    data = (
        b"dATE :  Fri, 2 Jan 2026\r\n 10:00:00 +0100 (CET)\r\nmessage-id: \r\n <old@b.example>\r\nX-Odd:\t a \r\n"
        b"FROM:A  B\t<a@b.example>\r\nX-Odd: again\r\n\r\n\r\nbody with no end"
    )
    mended = mend(data)
    assert mended.data == RECEIVED + data
    assert mended.message_id == "<old@b.example>"


@pytest.mark.parametrize(
    "field",
    [
        b"Bcc: x@y.example\r\n",
        b"bcc: x@y.example,\r\n\tz@y.example\r\n",
        b"Bcc:\r\n",
        b"Return-Path: <x@y.example>\r\n",
        b"RESENT-BCC: x@y.example\r\n",
    ],
)
def test_private_fields_are_removed_wherever_they_stand(field: bytes) -> None:
    rest = b"From: a@b.example\r\nMessage-ID: <1@b.example>\r\nDate: x\r\n"
    for data in (field + rest, rest + field, rest.replace(b"Date", field + b"Date"), field + rest + field):
        assert mend(data + b"\r\nBcc: in the body\r\n").data == RECEIVED + rest + b"\r\nBcc: in the body\r\n"


def test_an_empty_message_id_is_replaced() -> None:
    mended = mend(b"Message-ID: \r\nFrom: a@b.example\r\nDate: x\r\n\r\n")
    assert mended.data == RECEIVED + ID + b"From: a@b.example\r\nDate: x\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [b"From: a@b.example\r\nDate: x", b"From: a@b.example\r\nDate: x\r\n", b"From: a@b.example\r\nDate: x\r\n\r\n"],
)
def test_a_message_that_is_all_header_gets_its_blank_line(data: bytes) -> None:
    assert mend(data).data == RECEIVED + ID + b"From: a@b.example\r\nDate: x\r\n\r\n"


@pytest.mark.parametrize(
    ("info", "wanted"),
    [
        (
            ReceivedInfo("[192.0.2.7]", "192.0.2.7", "ESMTPA", "q"),
            b"from [192.0.2.7] ([192.0.2.7])\r\n\tby mx.example with ESMTPA\r\n\tid q;\r\n",
        ),
        (ReceivedInfo("c", "2001:db8::1", "SMTP", "q"), b"from c ([IPv6:2001:db8::1])"),
        (ReceivedInfo("", "192.0.2.7", "SMTP", "q"), b"from [192.0.2.7] ([192.0.2.7])"),
        (ReceivedInfo("x(\r\nBcc: y", "192.0.2.7", "SMTP", "q"), b"from x???Bcc: y ("),
        (ReceivedInfo("c", "192.0.2.7", "ESMTPA", "q", "", "jürgen@b.example"), b"id q;\r\n"),
        (ReceivedInfo("c", "192.0.2.7", "UTF8SMTPA", "q", "", "jürgen@b.example"), "for <jürgen@b.example>;".encode()),
    ],
)
def test_received_fields(info: ReceivedInfo, wanted: bytes) -> None:
    received = mend(b"From: a@b.example\r\n\r\n", info).data.partition(b"Date: ")[0]
    assert wanted in received
    parsed = email.message_from_bytes(received + b"\r\n", policy=email.policy.SMTP)
    assert parsed.keys() == ["Received"]


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("a@b.example", ["a@b.example"]),
        ("<a@b.example>", ["a@b.example"]),
        ("Ann Lee <a@B.Example>", ["a@b.example"]),
        ('"Lee, Ann" <a@b.example>', ["a@b.example"]),
        ('"x <fake@evil.example>" <a@b.example>', ["a@b.example"]),
        ('"quo\\"te" <a@b.example>', ["a@b.example"]),
        ("Ann Q. Lee <a@b.example>", ["a@b.example"]),
        ("=?utf-8?q?J=C3=BCrgen?= <a@b.example>", ["a@b.example"]),
        ("Jürgen <jürgen@bücher.example>", ["jürgen@xn--bcher-kva.example"]),
        ("Ann\r\n <a@b.example>", ["a@b.example"]),
        ("Ann (of (the) <shop>) <a@b.example> (that is all)", ["a@b.example"]),
        ("a@b.example (Ann)", ["a@b.example"]),
        ('"ann lee"@b.example', ['"ann lee"@b.example']),
        ('Ann <"a>b"@b.example>', ['"a>b"@b.example']),
        ("Ann <a@[192.0.2.1]>", ["a@[192.0.2.1]"]),
        ("Ann <a@[IPv6:::1]>", ["a@[IPv6:::1]"]),
        ("[Shop] News <a@b.example>", ["a@b.example"]),
        ("<@relay.example:a@b.example>", ["a@b.example"]),
        ("Team: Ann <a@b.example>, c@d.example;", ["a@b.example", "c@d.example"]),
        ("a@b.example, Carl <c@d.example>", ["a@b.example", "c@d.example"]),
        ("a@b.example, ,", ["a@b.example"]),
    ],
)
def test_authors(value: str, addresses: list[str]) -> None:
    sender = "Sender: a@b.example\r\n" if len(addresses) > 1 else ""
    mended = mend(f"From: {value}\r\n{sender}\r\n".encode())
    assert [str(address) for address in mended.from_addresses] == addresses
    assert str(mended.from_address) == addresses[0]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "no header"),
        (b"\r\nbody\r\n", "no header"),
        (b"just text\r\n", "no colon"),
        (b"Subject: x\r\n\r\nFrom: a@b.example\r\n", "no From"),
        (b"From: a@b.example\r\nFrom: a@b.example\r\n\r\n", "two From"),
        (b"From: a@b.example\r\nfrom : a@b.example\r\n\r\n", "two from"),
        (b"From: a@b.example\r\nSubject: x\r\nSubject: y\r\n\r\n", "two Subject"),
        (b"From a@b.example Thu Jan  1\r\nFrom: a@b.example\r\n\r\n", "no colon"),
        (b" folded: first\r\nFrom: a@b.example\r\n\r\n", "continuation"),
        (b"From: a@b.example\r\nno colon here\r\n\r\n", "no colon"),
        (b"From: a@b.example\r\nB\xc3\xa4d: x\r\n\r\n", "not allowed"),
        (b"From: a@b.example\r\nX: a\nBcc: b\r\n\r\n", "CRLF"),
        (b"From: a@b.example\r\nX: a\rb\r\n\r\n", "CRLF"),
        (b"From: a@b.example\r\nX: \0\r\n\r\n", "NUL"),
        (b"From: a@b.example\r\nX: " + b"x" * 996 + b"\r\n\r\n", "longer than 998"),
        (b"From: a@b.example\r\nX: \xfc\r\n\r\n", "neither ASCII nor UTF-8"),
        (b"From:\r\n\r\n", "no mailbox"),
        (b"From: undisclosed:;\r\n\r\n", "no mailbox"),
        (b"From: Ann\r\n\r\n", "cannot be read"),
        (b"From: Ann Lee a@b.example\r\n\r\n", "white space"),
        (b"From: <>\r\n\r\n", "cannot be read"),
        (b"From: a@b.example, c@d.example\r\n\r\n", "no Sender"),
        (b"From: a@b.example\r\nSender: a@b.example, c@d.example\r\n\r\n", "Sender names several"),
        (b"From: a@b.example <c@d.example>\r\n\r\n", "unquoted @"),
        (b"From: <a@b.example> <c@d.example>\r\n\r\n", "no comma"),
        (b"From: <a@b.example> x\r\n\r\n", "no comma"),
        (b"From: Ann (open <a@b.example>\r\n\r\n", "comment"),
        (b'From: "open <a@b.example>\r\n\r\n', "cannot be read"),
        (b"From: G: a@b.example\r\n\r\n", "not ended"),
        (b"From: G: H: a@b.example;;\r\n\r\n", "colon"),
        (b"From: a@b.example;\r\n\r\n", "semicolon"),
        (b"From: " + b"a@b.example,\r\n " * 200 + b"a@b.example\r\n\r\n", "more than 100"),
    ],
)
def test_what_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        mend(data)
    assert caught.value.mend


def test_a_long_line_is_named_by_its_number() -> None:
    with pytest.raises(InputError) as caught:
        mend(b"From: a@b.example\r\nX: a\r\n " + b"x" * 998 + b"\r\n\r\n")
    assert caught.value.where == "header line 3"
    assert mend(b"From: a@b.example\r\nX: a\r\n " + b"x" * 997 + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("data", "eightbit", "utf8_header"),
    [
        (b"From: a@b.example\r\n\r\nplain\r\n", False, False),
        (b"From: a@b.example\r\n\r\n\xff\xfe\r\n", True, False),
        ("From: a@b.example\r\nSubject: ü\r\n\r\nplain\r\n".encode(), True, True),
    ],
)
def test_what_the_way_out_needs(data: bytes, eightbit: bool, utf8_header: bool) -> None:
    mended = mend(data)
    assert (mended.eightbit, mended.has_utf8_header) == (eightbit, utf8_header)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("plain", "plain"),
        ("=?utf-8?B?R3LDvMOfZQ==?=", "Grüße"),
        ("=?UTF-8?q?Gr=C3=BC=C3=9Fe_an?= alle", "Grüße an alle"),
        ("=?utf-8?q?a?= =?utf-8?q?b?= c", "ab c"),
        ("=?iso-8859-1?q?caf=E9?=", "café"),
        ("=?utf-8*de?q?x?=", "x"),
        ("=?klingon?q?x?=", "=?klingon?q?x?="),
        ("=?utf-8?b?@@@?=", ""),
        ("a =?b", "a =?b"),
    ],
)
def test_subjects_are_decoded_for_people(written: str, text: str) -> None:
    assert decode_words(written) == text
    assert mend(f"From: a@b.example\r\nSubject: {written}\r\n\r\n".encode()).subject == text


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.text('From:<>@,;"\\() \r\nabc.\t', max_size=80).map(lambda text: b"From:" + text.encode() + b"\r\n\r\n"),
        st.lists(
            st.sampled_from([b"From: a@b.example\r\n", b"Bcc: x\r\n", b" fold\r\n", b"\r\n", b"\n", b"X:", b"\xff"]),
            max_size=9,
        ).map(b"".join),
    )
)
def test_garbage_raises_only_the_typed_error(data: bytes) -> None:
    try:
        mended = mend(data)
    except InputError:
        return
    assert mended.data.startswith(RECEIVED)
    assert b"\r\nbcc:" not in mended.data.partition(b"\r\n\r\n")[0].lower()


FIELD_NAMES = st.sampled_from([b"X-A", b"x-b", b"To", b"Bcc", b"Return-Path", b"DKIM-Signature", b"Received"])
VALUES = st.binary(max_size=30).map(lambda value: re.sub(rb"[^ -~]", b"\r\n\t", value))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(FIELD_NAMES, VALUES), max_size=8, unique_by=lambda field: field[0]), st.binary(max_size=60))
def test_everything_else_is_kept(fields: list[tuple[bytes, bytes]], body: bytes) -> None:
    written = [(name, name + b": " + value + b"\r\n") for name, value in fields]
    own = b"From: a@b.example\r\nDate: x\r\nMessage-ID: <1@b.example>\r\n"
    data = own + b"".join(raw for _, raw in written) + b"\r\n" + body
    kept = b"".join(raw for name, raw in written if name not in (b"Bcc", b"Return-Path"))
    assert mend(data).data == RECEIVED + own + kept + b"\r\n" + body
