"""Command lines: what is read, what is refused and how."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.mail import xtext
from mailfleet.smtp.commands import (
    BdatCommand,
    CommandError,
    MailCommand,
    parse_bdat,
    parse_hello,
    parse_line,
    parse_mail,
    parse_rcpt,
)


def rcpt(argument: str, *, smtputf8: bool = False) -> str:
    return parse_rcpt(argument, smtputf8=smtputf8, hostname="mx.example").forward_path


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("FROM:<>", ""),
        ("from:<Ann@Shop.EXAMPLE>", "Ann@shop.example"),
        ('FROM:<"ann lee"@shop.example>', '"ann lee"@shop.example'),
        ('FROM:<"a>b\\"@c"@shop.example>', '"a>b\\"@c"@shop.example'),
        ('FROM:<"ann"@shop.example>', "ann@shop.example"),
        ("FROM:<a+b=c@shop.example>", "a+b=c@shop.example"),
        ("FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ("FROM:<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"),
        ("FROM:<@one.example,@two.example:a@b.example>", "a@b.example"),
        ("FROM:<ann@bücher.example> SMTPUTF8", "ann@xn--bcher-kva.example"),
        ("FROM:<jürgen@b.example> SMTPUTF8", "jürgen@b.example"),
        ("FROM:<a@b.example>   SIZE=1", "a@b.example"),
    ],
)
def test_reverse_paths(argument: str, path: str) -> None:
    assert parse_mail(argument).reverse_path == path


@pytest.mark.parametrize(
    ("argument", "code", "enhanced"),
    [
        ("", 501, "5.5.4"),
        ("FROM", 501, "5.5.4"),
        ("TO:<a@b.example>", 501, "5.5.4"),
        ("FROM: <a@b.example>", 501, "5.5.4"),
        ("FROM :<a@b.example>", 501, "5.5.4"),
        ("FROM:a@b.example", 501, "5.5.4"),
        ("FROM:<a@b.example", 501, "5.5.4"),
        ("FROM:<a@b.example>SIZE=1", 501, "5.5.4"),
        ("FROM:<a b@c.example>", 501, "5.5.4"),
        ("FROM:<a@b@c.example>", 501, "5.5.4"),
        ("FROM:<<a@b.example>>", 501, "5.5.4"),
        ("FROM:<postmaster>", 553, "5.1.7"),
        ("FROM:<a@b>", 553, "5.1.7"),
        ("FROM:<a..b@c.example>", 553, "5.1.7"),
        ("FROM:<a@-b.example>", 553, "5.1.7"),
        (f"FROM:<{'a' * 65}@b.example>", 553, "5.1.7"),
        ("FROM:<jürgen@b.example>", 553, "5.6.7"),
        ("FROM:<a@bücher.example>", 553, "5.6.7"),
        ("FROM:<a@b.example> SIZE", 501, "5.5.4"),
        ("FROM:<a@b.example> SIZE=x", 501, "5.5.4"),
        ("FROM:<a@b.example> SIZE=1 SIZE=1", 501, "5.5.4"),
        ("FROM:<a@b.example> SIZE=123456789012345678901", 501, "5.5.4"),
        ("FROM:<a@b.example> =x", 501, "5.5.4"),
        ("FROM:<a@b.example> X=a=b", 501, "5.5.4"),
        ("FROM:<a@b.example> XSHOUT=1", 555, "5.5.4"),
        ("FROM:<a@b.example> NOTIFY=NEVER", 555, "5.5.4"),
        ("FROM:<a@b.example> BODY=BINARYMIME", 555, "5.5.4"),
        ("FROM:<a@b.example> BODY", 501, "5.5.4"),
        ("FROM:<a@b.example> SMTPUTF8=yes", 501, "5.5.4"),
        ("FROM:<a@b.example> RET=ALL", 501, "5.5.4"),
        ("FROM:<a@b.example> ENVID=a+zz", 501, "5.5.4"),
        ("FROM:<a@b.example> ENVID=a+0D+0Ab", 501, "5.5.4"),
        (f"FROM:<a@b.example> ENVID={'a' * 101}", 501, "5.5.4"),
        ("FROM:<a@b.example> AUTH=+1", 501, "5.5.4"),
    ],
)
def test_mail_refused(argument: str, code: int, enhanced: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_mail(argument)
    assert (caught.value.reply.code, str(caught.value.reply.enhanced)) == (code, enhanced)


@pytest.mark.parametrize(
    ("argument", "code", "enhanced"),
    [
        ("TO:<>", 501, "5.1.3"),
        ("TO:<nobody>", 553, "5.1.3"),
        ("TO:<a@b.example> NOTIFY=NEVER,FAILURE", 501, "5.5.4"),
        ("TO:<a@b.example> NOTIFY=SUCCESS,SUCCESS", 501, "5.5.4"),
        ("TO:<a@b.example> NOTIFY=", 501, "5.5.4"),
        ("TO:<a@b.example> ORCPT=a@b.example", 501, "5.5.4"),
        ("TO:<a@b.example> ORCPT=rfc822;a+0Ab", 501, "5.5.4"),
        ("TO:<a@b.example> ORCPT=utf-8;a\\x{0A}b", 501, "5.5.4"),
        ("TO:<a@b.example> SIZE=1", 555, "5.5.4"),
    ],
)
def test_rcpt_refused(argument: str, code: int, enhanced: str) -> None:
    with pytest.raises(CommandError) as caught:
        rcpt(argument)
    assert (caught.value.reply.code, str(caught.value.reply.enhanced)) == (code, enhanced)


def test_the_postmaster_needs_no_domain() -> None:
    assert rcpt("TO:<PostMaster>") == "postmaster@mx.example"
    assert rcpt("TO:<PostMaster@b.example>") == "PostMaster@b.example"


def test_internationalised_orcpt() -> None:
    parsed = parse_rcpt("TO:<a@b.example> ORCPT=utf-8;j\\x{FC}rgen@b.example", smtputf8=False, hostname="mx.example")
    assert parsed.orcpt == "utf-8;jürgen@b.example"
    parsed = parse_rcpt("TO:<a@b.example> ORCPT=utf-8;jürgen@b.example", smtputf8=True, hostname="mx.example")
    assert parsed.orcpt == "utf-8;jürgen@b.example"


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        ("0", BdatCommand(0, False)),
        ("86 last", BdatCommand(86, True)),
        ("99999999999", BdatCommand(99999999999, False)),
    ],
)
def test_bdat(argument: str, command: BdatCommand) -> None:
    assert parse_bdat(argument) == command


@pytest.mark.parametrize("argument", ["", "x", "-1", "1 FIRST", "1  LAST", "1 LAST x", "١"])
def test_bdat_refused(argument: str) -> None:
    with pytest.raises(CommandError):
        parse_bdat(argument)


@pytest.mark.parametrize(
    "name", ["c.example", "localhost", "desk_top", "[192.0.2.1]", "[IPv6:::1]", "xn--bcher-kva.example"]
)
def test_hello_names(name: str) -> None:
    assert parse_hello(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a(b)", "<a>", "ü.example", "[1.2.3.4", "a;b", "a@b"])
def test_hello_refused(name: str) -> None:
    with pytest.raises(CommandError):
        parse_hello(name)


def test_line_lengths_by_verb() -> None:
    assert parse_line(b"noop " + b"x" * 505) == ("NOOP", "x" * 505)
    assert parse_line(b"MAIL " + b"x" * 1100)[0] == "MAIL"
    assert parse_line(b"RCPT " + b"x" * 1000)[0] == "RCPT"
    assert parse_line(b"AUTH " + b"x" * 12_000)[0] == "AUTH"
    for line in (b"NOOP " + b"x" * 506, b"MAIL " + b"x" * 1200, b"RCPT " + b"x" * 1100, b"AUTH " + b"x" * 12_300):
        with pytest.raises(CommandError):
            parse_line(line)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=80), st.text('FROMTO:<>@,"\\ab.=+ SIZEBODY', max_size=40)))
def test_garbage_raises_only_the_typed_error(text: str) -> None:
    for parse in (parse_mail, rcpt, parse_bdat, parse_hello, lambda t: parse_line(t.encode("utf-8", "replace"))):
        with contextlib.suppress(CommandError):
            parse(text)


ATEXT = st.text("abcXYZ019!#$%&'*+/=?^_`{|}~-üß名", min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(
    ATEXT,
    st.sampled_from(["b.example", "sub.b.example", "[192.0.2.7]"]),
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20),
)
def test_formatted_commands_are_read_back(local_part: str, domain: str, envid: str) -> None:
    encoded = xtext.encode(envid)
    parameters = f" ENVID={encoded}" if encoded and len(encoded) <= 100 else ""
    parsed = parse_mail(f"FROM:<{local_part}@{domain}> SMTPUTF8{parameters}")
    assert parsed == MailCommand(parsed.reverse_path, smtputf8=True, envid=envid if parameters else "")
    assert parse_mail(f"FROM:<{parsed.reverse_path}> SMTPUTF8").reverse_path == parsed.reverse_path
