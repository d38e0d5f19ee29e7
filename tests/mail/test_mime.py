"""MIME layout and attachments, read back with the standard library's email package."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail.mime import EncodedPart, Slot, base64_lines, encode_attachment, lay_out

_TEXTS: dict[str, bytes] = {"text": b"plain =C3=A9\r\n", "html": b"<p>html</p>\r\n"}


def _message(slots: list[Slot], parts: list[EncodedPart], seed: str = "1") -> EmailMessage:
    layout = lay_out(slots, parts, seed)
    body = b"".join(_TEXTS[item] if isinstance(item, str) else item for item in layout.segments)
    data = b"MIME-Version: 1.0\r\n" + layout.fields + b"\r\n" + body
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not any(part.defects for part in message.walk())
    return message


def _shape(message: EmailMessage) -> object:
    if not message.is_multipart() or message.get_content_maintype() == "message":
        return message.get_content_type()
    return (message.get_content_subtype(), [_shape(part) for part in message.iter_parts()])  # type: ignore[arg-type]  # all are EmailMessage


_PDF = encode_attachment("a.pdf", "application/pdf", b"%PDF" * 100)
_LOGO = encode_attachment("logo.png", "image/png", b"\x89PNG", "logo")


@pytest.mark.parametrize(
    ("slots", "parts", "shape"),
    [
        (["text"], [], "text/plain"),
        (["html"], [], "text/html"),
        (["text", "html"], [], ("alternative", ["text/plain", "text/html"])),
        (["text", "html"], [_LOGO], ("alternative", ["text/plain", ("related", ["text/html", "image/png"])])),
        (["text"], [_PDF], ("mixed", ["text/plain", "application/pdf"])),
        (["text"], [_LOGO], ("mixed", ["text/plain", "image/png"])),
        (
            ["text", "html"],
            [_PDF, _LOGO],
            ("mixed", [("alternative", ["text/plain", ("related", ["text/html", "image/png"])]), "application/pdf"]),
        ),
    ],
)
def test_structure(slots: list[Slot], parts: list[EncodedPart], shape: object) -> None:
    assert _shape(_message(slots, parts)) == shape


@pytest.mark.parametrize(
    "filename",
    [
        *(
            "a.pdf",
            "with space.pdf",
            'quote".pdf',
            "back\\slash.pdf",
            "Отчёт за квартал.pdf",
            "报告.pdf",
            "👍.pdf",
            "it's 100%.pdf",
        ),
        *("x" * 200 + ".pdf", "я" * 120 + ".pdf", "semi;colon=.pdf"),
    ],
)
def test_filenames_come_back(filename: str) -> None:
    message = _message(["text"], [encode_attachment(filename, "application/pdf", b"data")])
    assert [part.get_filename() for part in message.iter_attachments()] == [filename]
    fields = encode_attachment(filename, "application/pdf", b"data").fields
    assert fields.isascii()
    assert all(len(line) <= 78 for line in fields.split(b"\r\n"))


def test_a_filename_cannot_add_a_field() -> None:
    fields = encode_attachment("a\r\nX-Evil: 1", "application/pdf", b"").fields
    assert email.message_from_bytes(fields + b"\r\n").keys() == [
        "Content-Type",
        "Content-Transfer-Encoding",
        "Content-Disposition",
    ]


@given(st.binary(max_size=400))
def test_data_comes_back(data: bytes) -> None:
    assert all(len(line) <= 76 for line in base64_lines(data).split(b"\r\n"))
    (part,) = _message(["text"], [encode_attachment("x.bin", "application/octet-stream", data)]).iter_attachments()
    assert part.get_payload(decode=True) == data


def test_inline_images_have_their_content_id() -> None:
    part = next(part for part in _message(["html"], [_LOGO]).walk() if part.get_content_type() == "image/png")
    assert part["content-id"] == "<logo>"
    assert part.get_content_disposition() == "inline"


def test_content_types_keep_their_parameters() -> None:
    part = encode_attachment("i.ics", 'text/calendar; method=REQUEST; name="a; b.ics"', b"BEGIN:VCALENDAR")
    (read,) = _message(["text"], [part]).iter_attachments()
    assert (read.get_param("method"), read.get_param("name")) == ("REQUEST", "a; b.ics")


@pytest.mark.parametrize(
    ("content_type", "content_id", "data"),
    [
        *(
            ("", "", b""),
            ("pdf", "", b""),
            ("multipart/mixed", "", b""),
            ("image/png\r\nX: y", "", b""),
            ("a/b; c", "", b""),
        ),
        *(
            ("image/png", "a b", b""),
            ("image/png", "<x>", b""),
            ("image/png", "x" * 300, b""),
            ("a/" + "b" * 300, "", b""),
        ),
        *(("message/rfc822", "", "ü".encode()), ("message/rfc822", "", b"x" * 999)),
    ],
)
def test_what_is_no_file_is_refused(content_type: str, content_id: str, data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        encode_attachment("f", content_type, data, content_id)
    assert caught.value.where == "attachment 'f'"
    assert caught.value.mend


def test_attached_messages_are_not_base64_and_boundaries_avoid_them() -> None:
    taken = lay_out(["text"], [_PDF], "seed").fields.split(b'"')[1]
    inner = b"Subject: inner\n\n--" + taken + b"\nbody\n"
    part = encode_attachment("m.eml", "message/rfc822", inner)
    message = _message(["text"], [part], "seed")
    assert _shape(message) == ("mixed", ["text/plain", "message/rfc822"])
    (attached,) = message.iter_attachments()
    assert attached["content-transfer-encoding"] == "7bit"
    assert taken in bytes(attached)


def test_boundaries_depend_on_the_seed_alone() -> None:
    assert lay_out(["text", "html"], [_PDF], "a") == lay_out(["text", "html"], [_PDF], "a")
    assert lay_out(["text", "html"], [_PDF], "a").fields != lay_out(["text", "html"], [_PDF], "b").fields
