"""MAIL and RCPT parameters, extensions, and transparency."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.smtp.client_commands import mail_command, rcpt_command, xtext
from mailfleet.smtp.dotstuff import stuffed
from mailfleet.smtp.extensions import Extensions
from mailfleet.smtp.transaction import Recipient, Transaction

EVERYTHING = Extensions.parse(["mx", "PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "DSN"])


def test_parameters_only_where_they_are_offered() -> None:
    recipient = Recipient("ann@b.test", frozenset({"SUCCESS", "FAILURE"}), "rfc822;Ann+x@b.test")
    transaction = Transaction("", (recipient,), b"12345", eightbit=True, smtputf8=True, envid="a b=c", ret="HDRS")
    assert mail_command(transaction, EVERYTHING) == (
        "MAIL FROM:<> SIZE=5 SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=a+20b+3Dc\r\n"
    )
    assert (
        rcpt_command(recipient, EVERYTHING)
        == "RCPT TO:<ann@b.test> NOTIFY=FAILURE,SUCCESS ORCPT=rfc822;Ann+2Bx@b.test\r\n"
    )
    assert mail_command(transaction, Extensions()) == "MAIL FROM:<>\r\n"
    careful = transaction._replace(requiretls=True, ret="", envid="")
    assert mail_command(careful, Extensions(requiretls=True)) == "MAIL FROM:<> REQUIRETLS\r\n"
    assert rcpt_command(recipient, Extensions()) == "RCPT TO:<ann@b.test>\r\n"


def test_an_original_recipient_in_utf8_travels_in_ascii() -> None:
    recipient = Recipient("bücher@b.test", None, "rfc822;bücher+x@b.test")
    assert rcpt_command(recipient, EVERYTHING) == (
        "RCPT TO:<bücher@b.test> ORCPT=utf-8;b\\x{FC}cher\\x{2B}x@b.test\r\n"
    )


@given(st.text(max_size=60))
def test_xtext_reads_back(text: str) -> None:
    encoded = xtext(text)
    assert encoded.isascii()
    assert not set(encoded) & set(" \r\n=")
    plain = bytearray()
    rest = encoded
    while rest:
        if rest[0] == "+":
            plain.append(int(rest[1:3], 16))
            rest = rest[3:]
        else:
            plain.append(ord(rest[0]))
            rest = rest[1:]
    assert plain.decode() == text


def test_extensions_as_servers_write_them() -> None:
    found = Extensions.parse(
        [
            "mx.test at your service",
            "size 35882577",
            "8BITMIME",
            "requiretls",
            "AUTH LOGIN plain",
            "AUTH=LOGIN",
            "X-ODD 1",
            "",
        ]
    )
    assert (found.size, found.max_message_bytes) == (True, 35882577)
    assert found.auth == {"LOGIN", "PLAIN"}
    assert found.requiretls
    assert not found.pipelining
    assert Extensions.parse(["mx", "SIZE", "STARTTLS"]).max_message_bytes == 0
    assert Extensions.parse(["mx", "SIZE many"]).max_message_bytes == 0
    assert Extensions.parse(["PIPELINING"]) == Extensions()  # the first line is the greeting


def unstuffed(data: bytes) -> bytes:
    """RFC 5321 4.5.2 from the server's side, line by line."""
    lines = data.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    return b"".join((line[1:] if line.startswith(b".") else line) + b"\r\n" for line in lines[:-2])


@given(st.lists(st.sampled_from([b".", b"..", b".x", b"", b"text", b"a.b"]), max_size=12))
def test_stuffing_is_undone_by_the_server_and_ends_once(lines: list[bytes]) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    wire = stuffed(message)
    assert unstuffed(wire) == message
    assert (b"\r\n" + wire).count(b"\r\n.\r\n") == 1


@pytest.mark.parametrize("inside", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r\n"])
def test_no_final_dot_line_hides_in_a_message_however_lines_are_read(inside: bytes) -> None:
    wire = stuffed(b"a" + inside + b"b\r\n")
    assert inside not in wire.removesuffix(b"\r\n.\r\n")


def test_a_missing_last_line_end_is_added() -> None:
    assert stuffed(b"x") == b"x\r\n.\r\n"
    assert stuffed(b"") == b".\r\n"
