"""8bit to 7bit conversion: what the standard library reads out of a message is the same before and after."""

from __future__ import annotations

import email
import quopri
from email.message import Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail.downgrade import MAX_DEPTH, quoted_printable, to_seven_bit
from mailfleet.mail.fields import split_message

TEXT = "Grüße aus Köln\r\n"


def payloads(message: bytes) -> list[tuple[str, bytes]]:
    """Type and decoded content of every leaf."""
    parsed: Message = email.message_from_bytes(message)
    return [
        (part.get_content_type(), part.get_payload(decode=True) or b"")  # type: ignore[misc]  # decode=True gives bytes
        for part in parsed.walk()
        if not part.is_multipart()
    ]


def assert_seven_bit(message: bytes) -> None:
    assert message.isascii()
    assert b"\x00" not in message
    assert message.count(b"\r\n") == message.count(b"\n") == message.count(b"\r")
    assert max(map(len, message.split(b"\r\n"))) <= 998


def test_text_becomes_quoted_printable_and_says_so() -> None:
    message = (
        b"From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 8bit\r\nSubject: x\r\n\r\n" + TEXT.encode()
    )
    assert to_seven_bit(message) == (
        b"From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\nSubject: x\r\n\r\nGr=C3=BC=C3=9Fe aus K=C3=B6ln\r\n"
    )


def test_seven_bit_message_keeps_every_byte() -> None:
    message = b"From: a@example.org\r\nContent-Transfer-Encoding: 8bit\r\n\r\nplain, and not even = encoded \r\n"
    assert to_seven_bit(message) is message


def test_message_without_mime_gets_what_makes_it_readable() -> None:
    converted = to_seven_bit(b"From: a@example.org\r\n\r\n" + TEXT.encode())
    parsed = email.message_from_bytes(converted)
    assert parsed["MIME-Version"] == "1.0"
    assert parsed.get_content_charset() == "utf-8"
    assert parsed.get_payload(decode=True) == TEXT.encode()
    latin = email.message_from_bytes(to_seven_bit(b"From: a@example.org\r\n\r\n\xe9t\xe9\r\n"))
    assert latin.get_content_charset() == "unknown-8bit"


MIXED = (
    'From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: MULTIPART/mixed;\r\n boundary="--=(b)"\r\n'
    "Content-Transfer-Encoding: 8bit\r\n\r\npreamble é\r\n"
    "----=(b)\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nfünf\r\n"
    "----=(b) \r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\nöäü\r\nx\r\n"
    "----=(b)\r\n\r\nuntouched = text \r\n"
    "----=(b)\r\nContent-Type: message/rfc822\r\n\r\n"
    "Subject: inner\r\nContent-Type: text/html\r\n\r\n<p>ß</p>\r\n"
    "----=(b)\r\nContent-Type: multipart/alternative; boundary=inner\r\n\r\n--inner\r\n\r\nà\r\n--inner--\r\n"
    "----=(b)--\r\nepilogue ü\r\n"
).encode()


def test_structure_boundaries_and_untouched_parts_stay() -> None:
    converted = to_seven_bit(MIXED)
    assert_seven_bit(converted)
    assert payloads(converted) == payloads(MIXED)
    assert b"\r\n\r\nuntouched = text \r\n----=(b)\r\n" in converted
    assert b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n" in converted
    assert b'boundary="--=(b)"\r\nContent-Transfer-Encoding: 7bit\r\n' in converted
    assert to_seven_bit(converted) is converted


@pytest.mark.parametrize("subtype", ["signed", "encrypted"])
@pytest.mark.parametrize("nested", [False, True])
def test_signed_and_encrypted_are_refused(subtype: str, nested: bool) -> None:
    message = f"Content-Type: multipart/{subtype}; boundary=b\r\n\r\n--b\r\n\r\n{TEXT}--b--\r\n"
    if nested:
        message = f"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n{message}\r\n--o--\r\n"
    with pytest.raises(InputError, match="signed or encrypted"):
        to_seven_bit(message.encode())
    beside = f"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n\r\n{TEXT}\r\n--o\r\n{message}\r\n--o--\r\n"
    ascii_signature = beside.replace("--b\r\n\r\n" + TEXT, "--b\r\n\r\nGruesse\r\n").encode()
    assert_seven_bit(to_seven_bit(ascii_signature))
    assert b"--b\r\n\r\nGruesse\r\n--b--" in to_seven_bit(ascii_signature)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("Subject: é\r\n\r\nhi\r\n", "UTF-8"),
        (f"Content-Type: multipart/mixed\r\n\r\n{TEXT}", "no boundary"),
        (f"Content-Type: multipart/mixed; boundary=b\r\n\r\n{TEXT}", "no part"),
        (f"Content-Type: message/partial\r\n\r\n{TEXT}", "message/partial"),
        (f"Content-Transfer-Encoding: x-uuencode\r\n\r\n{TEXT}", "unknown encoding"),
        (f"no colon\r\n\r\n{TEXT}", "no colon"),
        ("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nSubject: é\r\n\r\n--b--\r\n", "UTF-8"),
    ],
)
def test_what_cannot_be_converted_is_refused(message: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        to_seven_bit(message.encode())


def test_internationalised_message_inside_is_encoded_whole() -> None:
    """RFC 6532 3.7 lets message/global be encoded, unlike message/rfc822. (The standard library does not know.)"""
    inner = f"Subject: é\r\n\r\n{TEXT}".encode()
    converted = to_seven_bit(b"MIME-Version: 1.0\r\nContent-Type: message/global\r\n\r\n" + inner)
    header, body = split_message(converted)
    assert header.endswith(b"Content-Transfer-Encoding: quoted-printable\r\n")
    assert quopri.decodestring(body) == inner


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        return b"Content-Type: message/rfc822\r\n\r\n" * depth + b"\r\n" + TEXT.encode()

    assert_seven_bit(to_seven_bit(nested(MAX_DEPTH)))
    for deep in (MAX_DEPTH + 1, 20_000):
        with pytest.raises(InputError, match="deep"):
            to_seven_bit(nested(deep))


def test_cutting_lines_makes_no_delimiter() -> None:
    for padding in range(60, 80):
        for dashes in (2, 3, 80, 200):
            encoded = quoted_printable(b"\xc3\xa9" + b"x" * padding + b"-" * dashes + b"b--\r\nend")
            assert not any(line.startswith(b"--") for line in encoded.split(b"\r\n"))


def test_parameter_inside_a_quoted_string_is_no_boundary() -> None:
    message = (
        'Content-Type: multipart/mixed (a; boundary=no); name="; boundary=wrong"; BOUNDARY="ri\\ght"\r\n\r\n'
        f"--right\r\n\r\n{TEXT}--right--\r\n"
    ).encode()
    assert b"--right\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" in to_seven_bit(message)


chunks = st.lists(
    st.sampled_from(
        [
            b"\r\n",
            b" ",
            b"\t",
            b"=",
            b"--",
            b"--b",
            b"a" * 70,
            b"b" * 1100,
            "é".encode(),
            b"\xff",
            b"\x00",
            b"From ",
            b".",
            b"word",
        ]
    ),
    max_size=30,
).map(b"".join)


@given(chunks)
def test_quoted_printable_decodes_to_the_same_bytes(body: bytes) -> None:
    encoded = quoted_printable(body)
    assert_seven_bit(encoded)
    assert max(map(len, encoded.split(b"\r\n"))) <= 76
    parsed = email.message_from_bytes(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded)
    assert parsed.get_payload(decode=True) == body


leaf_types = st.sampled_from(["text/plain; charset=utf-8", "text/html", "application/pdf; name=x", "image/png", "text"])
encodings = st.sampled_from(["", "7bit", "8BIT", "binary"])


@st.composite
def entities(draw: st.DrawFn, depth: int = 0) -> bytes:
    """A MIME entity of random shape; every delimiter is unique, so content cannot hold one by accident."""
    encoding = draw(encodings)
    label = f"Content-Transfer-Encoding: {encoding}\r\n" if encoding else ""
    shape = draw(st.sampled_from(["leaf", "multi", "rfc822"] if depth < 3 else ["leaf"]))
    if shape == "leaf":
        header = f"Content-Type: {draw(leaf_types)}\r\n{label}\r\n"
        return header.encode() + draw(chunks)
    if shape == "rfc822":
        return f"{label}Content-Type: message/rfc822\r\n\r\n".encode() + draw(entities(depth + 1))
    boundary = f"=_{depth}_{draw(st.integers(0, 10**9))}"
    parts = draw(st.lists(entities(depth + 1), min_size=1, max_size=3))
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts)
    return (
        f'{label}Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'.encode()
        + body
        + f"--{boundary}--\r\n".encode()
    )


@settings(max_examples=150)
@given(entities())
def test_payloads_are_equal_before_and_after(entity: bytes) -> None:
    message = b"From: a@example.org\r\nMIME-Version: 1.0\r\n" + entity
    converted = to_seven_bit(message)
    assert_seven_bit(converted)
    assert payloads(converted) == payloads(message)


@settings(max_examples=200)
@given(
    st.binary(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                b"Content-Type: multipart/mixed; boundary=b\r\n",
                b"\r\n",
                b"--b",
                b"--",
                "é".encode(),
                b"Content-Type: message/rfc822\r\n",
                b"Content-Transfer-Encoding: base64\r\n",
                b"Content-Transfer-Encoding: quoted-printable\r\n",
                b"=",
                b"QUJD",
                b"x",
            ]
        ),
        max_size=20,
    ).map(b"".join)
)
def test_garbage_is_converted_or_refused(garbage: bytes) -> None:
    try:
        converted = to_seven_bit(garbage)
    except InputError:
        return
    assert converted.isascii()
