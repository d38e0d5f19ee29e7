"""Mailboxes as people write them, and the header fields a caller may and may not add."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail.address import Address
from mailfleet.mail.headers import (
    Mailbox,
    address_field,
    check_custom_field,
    custom_field,
    parse_mailbox,
    parse_mailboxes,
)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("ann@example.org", "", "ann@example.org"),
        ("<ann@example.org>", "", "ann@example.org"),
        ("Ann Lee <ann@example.org>", "Ann Lee", "ann@example.org"),
        ("  Acme, Inc. <info@acme.example> ", "Acme, Inc.", "info@acme.example"),
        ('"Acme, \\"the\\" Inc." <info@acme.example>', 'Acme, "the" Inc.', "info@acme.example"),
        ("Ünal Öz<u@münchen.example>", "Ünal Öz", "u@xn--mnchen-3ya.example"),
        ('"a b"@example.org', "", '"a b"@example.org'),
    ],
)
def test_mailboxes_are_read(text: str, name: str, address: str) -> None:
    mailbox = parse_mailbox(text)
    assert (mailbox.display_name, str(mailbox.address)) == (name, address)


@pytest.mark.parametrize(
    "text", ["", "Ann", "Ann <>", "Ann <ann>", "Ann <a@example.org> x", "a@example.org, b@example.org", "x" * 3000]
)
def test_what_is_not_one_mailbox_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_mailbox(text, where="sender")
    assert caught.value.where.startswith("sender")
    assert caught.value.mend


def test_lists_are_separated_at_commas_outside_names() -> None:
    found = parse_mailboxes('"Lee, Ann" <ann@example.org>, bob@example.org,, C <c@example.org>')
    assert [str(mailbox.address) for mailbox in found] == ["ann@example.org", "bob@example.org", "c@example.org"]
    with pytest.raises(InputError):
        parse_mailboxes(" , ")


@given(st.text(max_size=200))
def test_garbage_raises_only_the_typed_error(text: str) -> None:
    for read in (parse_mailbox, parse_mailboxes):
        try:
            read(text)
        except InputError:
            continue


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=60).map(
        lambda text: " ".join(text.split(" ")).strip()
    )
)
def test_what_is_written_reads_back_the_same_when_ascii(name: str) -> None:
    mailbox = Mailbox(name, Address.parse("ann@example.org"))
    if name.isascii() and "=?" not in name:
        assert parse_mailbox(str(mailbox)) == mailbox


def test_many_recipients_are_folded_and_parse_back() -> None:
    people = tuple(parse_mailbox(f"Персона {number} <p{number}@example.org>") for number in range(60))
    field = address_field("Cc", people)
    assert all(len(line) <= 78 for line in field.split(b"\r\n"))
    message = email.message_from_bytes(field + b"\r\n", policy=email.policy.default)
    assert [(item.display_name, item.addr_spec) for item in message["cc"].addresses] == [
        (mailbox.display_name, str(mailbox.address)) for mailbox in people
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("From", "to", "CC", "bcc", "Date", "Message-ID", "DKIM-Signature", "Received", "Content-Type", "content-foo"),
        *(
            "MIME-Version",
            "Return-Path",
            "Sender",
            "Subject",
            "Reply-To",
            "Resent-To",
            "",
            "X Foo",
            "X:Foo",
            "X-Ü",
            "X-A\r\nBcc",
        ),
        "x" * 77,
    ],
)
def test_fields_that_are_not_the_callers_to_set(name: str) -> None:
    with pytest.raises(InputError) as caught:
        check_custom_field(name)
    assert caught.value.where.startswith("header")
    assert caught.value.mend


def test_fields_a_caller_may_set() -> None:
    for name in ("X-Campaign", "List-Unsubscribe", "Precedence", "References", "Importance"):
        check_custom_field(name)


def test_structured_fields_are_folded_but_never_encoded() -> None:
    url = "https://t.example.org/u/" + "x" * 300
    field = custom_field("List-Unsubscribe", f"<{url}>, <mailto:u@example.org>")
    assert field == f"List-Unsubscribe: <{url}>,\r\n <mailto:u@example.org>\r\n".encode()
    for value in ("<https://example.org/ü>", "x" * 1000):
        with pytest.raises(InputError):
            custom_field("List-Unsubscribe", value)
    assert custom_field("X-Note", "ü") == b"X-Note: =?utf-8?B?w7w=?=\r\n"
