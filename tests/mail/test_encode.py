"""Encoding for the wire, judged by decoding with the standard library's email package."""

from __future__ import annotations

import binascii
import email
import email.policy
import email.utils
import re
from datetime import UTC, datetime
from email.header import decode_header, make_header

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailfleet.mail.address import Address
from mailfleet.mail.encode import (
    clean_header_text,
    encode_header_text,
    encoded_words,
    fold_header,
    fold_words,
    format_date,
    format_mailbox,
    quoted_printable,
    quoted_printable_piece,
)

_LONG = {
    "cyrillic": "Здравствуйте, уважаемый покупатель! " * 12,
    "arabic": "مرحبا بكم في متجرنا الجديد، عروض خاصة لكم " * 10,
    "emoji": "👩‍👩‍👧‍👦 🇩🇪 👍🏽 " * 30,
    "mixed": "Your order 12345 is on its way, Müller & Söhne, " * 8,
    "one word": "ü" * 400,
    "long ascii word": "https://example.org/" + "a" * 2000,
    "chinese": "尊敬的客户您好" * 40,
}
_texts = st.text(st.sampled_from('aZ09 .,?=_<>@"\\()éЖ中👍\u200d\u0301')) | st.text(
    st.characters(exclude_categories=["Cs"])
)


def _unfolded(field: bytes) -> str:
    return re.sub(r"\r\n(?=[ \t])", "", field.decode("ascii").removesuffix("\r\n")).partition(": ")[2]


def _check_lines(field: bytes) -> None:
    assert field.endswith(b"\r\n")
    lines = field[:-2].split(b"\r\n")
    for line in lines:
        assert b"\r" not in line
        assert b"\n" not in line
        assert len(line) <= 998
        assert len(line) <= 76 or b"=?utf-8?" not in line
        assert len(line) <= 76 or b" " not in line.split(b": ")[-1].lstrip(b" ")
    for line in lines[1:]:
        assert line.startswith(b" ")
        assert line.strip()


@pytest.mark.parametrize("text", _LONG.values(), ids=_LONG)
def test_long_subjects_of_every_script_come_back(text: str) -> None:
    field = fold_header("Subject", text)
    _check_lines(field)
    message = email.message_from_bytes(field + b"\r\n", policy=email.policy.default)
    assert message["subject"] == clean_header_text(text)
    assert str(make_header(decode_header(_unfolded(field)))) == clean_header_text(text)


@settings(max_examples=300)
@given(_texts)
@example("a  =?utf-8?Q?x?=  b")
@example("é  é")
@example("x" * 75 + "  é" + " " * 90 + "é y")
@example("a" * 66 + " é")
def test_any_text_comes_back_from_an_unstructured_field(text: str) -> None:
    field = fold_header("Subject", text)
    lines = field[:-2].split(b"\r\n")
    assert all((len(line) <= 998 and line.lstrip(b" ") == line.strip(b" ")) or not text for line in lines[1:])
    message = email.message_from_bytes(field + b"\r\n", policy=email.policy.compat32)
    assert len(message.keys()) == 1
    assert str(make_header(decode_header(_unfolded(field)))) == clean_header_text(text)


@given(st.text(st.sampled_from("ab\r\n\x00\x0b\x0c\x85\u2028\u2029: é"), max_size=60))
def test_no_value_can_start_a_field_of_its_own(text: str) -> None:
    field = fold_header("X-Note", text + "\r\nBcc: evil@example.org")
    message = email.message_from_bytes(field + b"\r\nbody", policy=email.policy.default)
    assert message.keys() == ["X-Note"]
    assert message.get_payload() == "body"
    assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x80-\xff]", field)


def test_plain_text_stays_readable() -> None:
    assert fold_header("Subject", "Hello world") == b"Subject: Hello world\r\n"
    assert encode_header_text("Hello Jürgen") == "Hello =?utf-8?Q?J=C3=BCrgen?="
    assert encode_header_text("=?utf-8?Q?x?=") != "=?utf-8?Q?x?="
    words = " ".join(["word"] * 40)
    assert fold_header("X-Words", words).replace(b"\r\n", b"").decode() == f"X-Words: {words}"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(24, 75))
def test_encoded_words_are_short_and_hold_whole_characters(text: str, room: int) -> None:
    words = encoded_words(text, first_room=room)
    assert len(words[0]) <= room
    assert all(len(word) <= 75 for word in words)
    assert "".join(str(make_header(decode_header(word))) for word in words) == text


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=120))
@example("Acme, Inc.")
@example('Ann "the \\ hammer" Lee')
@example("=?utf-8?Q?x?=")
@example("  spaced   out  ")
@example("محمد بن سلمان " * 8)
@example("x" * 1500)
def test_a_display_name_comes_back_from_an_address_field(name: str) -> None:
    address = Address.parse("ann@münchen.example")
    field = fold_words("To", format_mailbox(name, address))
    _check_lines_of_mailbox(field)
    unfolded = _unfolded(field)
    parsed_name, parsed_address = email.utils.parseaddr(unfolded)
    assert parsed_address == "ann@xn--mnchen-3ya.example"
    wanted = clean_header_text(name).strip()
    decoded = str(make_header(decode_header(parsed_name))) if "=?utf-8?" in unfolded else parsed_name
    assert decoded == wanted


def _check_lines_of_mailbox(field: bytes) -> None:
    assert field.isascii()
    assert field.count(b"\r\n ") == field.count(b"\r\n") - 1
    assert all(len(line) <= 998 for line in field.split(b"\r\n"))


def test_a_local_part_outside_ascii_stays_utf8() -> None:
    assert fold_words("To", format_mailbox("用户", Address.parse("用户@例子.公司"))).decode() == (
        "To: =?utf-8?B?55So5oi3?= <用户@xn--fsqu00a.xn--55qx5d>\r\n"
    )


@given(st.integers(0, 4_000_000_000_000))
def test_dates_are_rfc_5322_in_utc(at_ms: int) -> None:
    written = format_date(at_ms)
    assert written.endswith(" +0000")
    assert email.utils.parsedate_to_datetime(written) == datetime.fromtimestamp(at_ms // 1000, UTC)
    assert written == email.utils.format_datetime(datetime.fromtimestamp(at_ms // 1000, UTC))


_bodies = st.text(st.sampled_from("ab=. \t\r\n\x00é中👍")) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=300
)


@given(_bodies)
@example("x" * 76)
@example("x" * 75 + "=")
@example("x" * 73 + "é")
@example(" " * 200)
@example("From me\n.\n..\n")
def test_quoted_printable_comes_back_in_short_lines(text: str) -> None:
    encoded = quoted_printable(text)
    assert encoded.isascii()
    assert all(len(line) <= 76 and not line.endswith((b" ", b"\t")) for line in encoded.split(b"\r\n"))
    assert b"\n" not in encoded.replace(b"\r\n", b"")
    assert b"\r" not in encoded.replace(b"\r\n", b"")
    assert binascii.a2b_qp(encoded) == re.sub(r"\r\n|\r|\n", "\r\n", text).encode()


@given(st.lists(_bodies.filter(lambda text: not text.endswith("\r")), max_size=6))
@example(["x" * 76, "y" * 75, "é" * 25 + "z"])
@example(["a ", " b", "\t", "\n"])
def test_pieces_join_to_the_whole(texts: list[str]) -> None:
    pieces = [quoted_printable_piece(text) for text in texts]
    assert all(not piece or piece.endswith(b"\r\n") for piece in pieces)
    assert all(len(line) <= 76 for piece in pieces for line in piece.split(b"\r\n"))
    joined = binascii.a2b_qp(b"".join(pieces)).decode()
    assert joined == "".join(re.sub(r"\r\n|\r|\n", "\r\n", text) for text in texts)


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    assert clean_header_text("a\ud83d b") == "a\ufffd b"
    assert clean_header_text("\ud83d\udc4d") == "👍"
    assert binascii.a2b_qp(quoted_printable("a\udc4d")).decode() == "a\ufffd"
