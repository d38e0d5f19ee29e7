"""Content compiled once and filled per recipient; every copy is read back with the standard library's email package."""

from __future__ import annotations

import email
import email.policy
import email.utils
import re
from email.header import decode_header, make_header
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail.address import Address
from mailfleet.mail.content import Attachment, CompiledContent, ContentSource, FilledMessage, compile_content
from mailfleet.mail.template_tree import UndefinedVariableError

_ANN = Address.parse("ann@example.org")
_AT_MS = 1_767_225_600_000


def _source(**changes: Any) -> ContentSource:
    given: dict[str, Any] = {
        "sender": "Shop <news@shop.example>",
        "subject": "Hello {{ name }}",
        "html": None,
        "text": "Hi {{ name }}",
    }
    return ContentSource(**{**given, **changes})


def _compiled(**changes: Any) -> CompiledContent:
    compiled = compile_content(_source(**changes), boundary_seed="seed")
    stored = CompiledContent.from_bytes(compiled.to_bytes())  # every test passes through the store's form
    assert stored.to_bytes() == compiled.to_bytes()
    assert stored.warnings == compiled.warnings
    return stored


def _fill(content: CompiledContent, fields: dict[str, object], **changes: Any) -> FilledMessage:
    given: dict[str, Any] = {"recipient": _ANN, "message_id": "<1@shop.example>", "date_ms": _AT_MS}
    filled = content.fill(fields, **{**given, **changes})
    for line in bytes(filled).split(b"\r\n"):
        assert len(line) <= 998
        assert b"\r" not in line
        assert b"\n" not in line
    assert filled.header.endswith(b"\r\n")
    assert b"\r\n\r\n" not in filled.header
    assert filled.body.isascii()
    assert all(len(line) <= 76 for line in filled.body.split(b"\r\n"))
    return filled


def _read(filled: FilledMessage) -> EmailMessage:
    message = email.message_from_bytes(bytes(filled), policy=email.policy.default.clone(utf8=True))
    assert isinstance(message, EmailMessage)
    assert not any(part.defects for part in message.walk())
    return message


def _body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    content = part.get_content()
    assert isinstance(content, str)
    return content.replace("\r\n", "\n")


def _plain(message: EmailMessage) -> str:
    return _body(message, "plain")


def _names(filled: FilledMessage, field: str) -> list[str]:
    """Display names, decoded as RFC 2047 says; the default policy of Python 3.11 puts spaces between encoded words."""
    raw = email.message_from_bytes(filled.header + b"\r\n", policy=email.policy.compat32)[field]
    unfolded = re.sub(r"\r\n(?=[ \t])", "", str(raw))
    return [str(make_header(decode_header(name))) for name, _ in email.utils.getaddresses([unfolded])]


def test_a_copy_has_its_fields_in_order_and_its_text() -> None:
    content = _compiled(reply_to="help@shop.example", headers=(("X-Campaign", "spring {{ name }}"),))
    filled = _fill(
        content, {"name": "Jürgen"}, display_name="Jürgen, Müller", extra_headers=[("List-Id", "<n.shop.example>")]
    )
    message = _read(filled)
    assert message.keys() == [
        *("Date", "From", "To", "Reply-To", "Subject", "Message-ID", "X-Campaign", "List-Id", "MIME-Version"),
        *("Content-Type", "Content-Transfer-Encoding"),
    ]
    assert message["date"] == "Thu, 01 Jan 2026 00:00:00 +0000"
    assert message["from"].addresses[0].display_name == "Shop"
    assert message["to"].addresses[0].display_name == "Jürgen, Müller"
    assert message["to"].addresses[0].addr_spec == "ann@example.org"
    assert message["subject"] == "Hello Jürgen"
    assert message["x-campaign"] == "spring Jürgen"
    assert message["message-id"] == "<1@shop.example>"
    assert _plain(message) == "Hi Jürgen\n"
    assert not filled.smtputf8
    assert not filled.eightbit


_WILD = st.text(st.sampled_from("ab =.\r\n\x00\té中👍<&>\"'{}%\u2028")) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=100
)


@settings(max_examples=60)
@given(
    _WILD,
    _WILD,
    st.sampled_from(["{{ a }}", "{{ a|safe }}", "{{ a|default('x') }}{{ b|upper }}", "{% if a %}{{ a }}{% endif %}"]),
)
@example("x" * 76, "\r\nBcc: evil@example.org", "{{ a }}")
def test_any_value_reaches_the_reader_and_never_the_wire(a: str, b: str, tag: str) -> None:
    content = _compiled(
        subject="S {{ a }} {{ b }}",
        html=f"<p>é {tag} end</p>",
        text=f"é {tag} end {{{{ b }}}}",
        headers=(("X-B", "{{ b }}"), ("X-AB", "{{ a|upper }}{{ b }}")),
        reply_to="{{ 'x@example.org' if a == 'q' else 'y@example.org' }}",
    )
    filled = _fill(content, {"a": a, "b": b}, display_name=b)
    message = _read(filled)
    assert message.keys() == [
        *("Date", "From", "To", "Reply-To", "Subject", "Message-ID", "X-B", "X-AB", "MIME-Version", "Content-Type")
    ]
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xff]", filled.header)
    text, html = _body(message, "plain"), _body(message, "html")
    if tag == "{{ a }}":
        a, b = (re.sub(r"\r\n|\r|\n", "\n", value) for value in (a, b))
        wanted = f"é {a} end {b}\n"
        assert text == wanted
        assert not re.search(r"<(?!/?(?:p|html|head|body|!DOCTYPE))", html)


@pytest.mark.parametrize(
    "text",
    ["Здравствуйте, уважаемый покупатель! " * 10, "مرحبا بكم في متجرنا " * 12, "👩‍👩‍👧‍👦🇩🇪 " * 30, "尊敬的客户" * 60],
)
def test_long_subjects_names_and_bodies_of_every_script(text: str) -> None:
    text = text.strip()
    content = _compiled(subject="{{ t }}", text="{{ t }}\n{{ t|upper }}", sender="{{ t }} <news@shop.example>")
    filled = _fill(content, {"t": text}, display_name=text)
    assert all(len(line) <= 78 for line in filled.header.split(b"\r\n"))
    message = _read(filled)
    assert message["subject"] == text
    assert _names(filled, "to") == _names(filled, "from") == [text]
    assert _plain(message) == f"{text}\n{text.upper()}\n"


def test_html_gets_a_text_part_and_inlined_css() -> None:
    content = _compiled(html="<style>p{color:red}</style><p>Dear {{ name }}</p>", text=None)
    message = _read(_fill(content, {"name": "<Ann> & Co"}))
    assert message.get_content_type() == "multipart/alternative"
    assert '<p style="color: red;">Dear &lt;Ann&gt; &amp; Co</p>' in _body(message, "html")
    assert _body(message, "plain") == "Dear <Ann> & Co\n"
    assert content.warnings == ()


def test_files_and_images() -> None:
    content = _compiled(
        html='<p>{{ name }}<img src="cid:logo"></p>',
        text=None,
        attachments=(
            Attachment("Счёт.pdf", "application/pdf", bytes(range(256)) * 20),
            Attachment("logo.png", "image/png", b"\x89PNG", "logo"),
        ),
    )
    message = _read(_fill(content, {"name": "Ann"}))
    (attached,) = message.iter_attachments()
    assert (attached.get_filename(), attached.get_content()) == ("Счёт.pdf", bytes(range(256)) * 20)
    image = next(part for part in message.walk() if part.get_content_type() == "image/png")
    assert image["content-id"] == "<logo>"
    assert content.warnings == ()
    assert _compiled(html='<img src="cid:gone">').warnings == ("html: the image cid:gone is not among the attachments",)


def test_fixed_recipients_stand_in_to_and_cc() -> None:
    content = _compiled(to=("Ann <ann@example.org>", "bob@example.org"), cc=("Çağ <c@example.org>",))
    message = _read(_fill(content, {"name": "x"}, recipient=Address.parse("hidden@example.org")))
    assert [item.addr_spec for item in message["to"].addresses] == ["ann@example.org", "bob@example.org"]
    assert message["cc"].addresses[0].display_name == "Çağ"
    assert "hidden" not in str(message)


def test_smtputf8_is_needed_only_for_local_parts() -> None:
    content = _compiled()
    idn = _fill(content, {"name": "x"}, recipient=Address.parse("ann@例子.公司"))
    assert b"To: ann@xn--fsqu00a.xn--55qx5d\r\n" in idn.header
    assert (idn.smtputf8, idn.eightbit) == (False, False)
    local = _fill(content, {"name": "x"}, recipient=Address.parse("用户@例子.公司"), display_name="用户")
    assert "用户@xn--fsqu00a".encode() in local.header
    assert (local.smtputf8, local.eightbit) == (True, True)


def test_undefined_variables_are_told_before_and_at_filling() -> None:
    content = _compiled(html="<p>{{ city }} {{ points|default(0) }}</p>", headers=(("X-A", "{{ ref }}"),))
    assert content.variables == {"name", "city", "points", "ref"}
    assert content.check({"name": "a", "city": "b", "ref": "c"}) == []
    assert content.check({"name": "a", "city": None}) == ["ref", "city"]
    with pytest.raises(UndefinedVariableError) as caught:
        _fill(content, {"name": "a", "ref": "c"})
    assert (caught.value.variable, caught.value.where) == ("city", "html")
    simple = _compiled()
    assert simple.check({}) == ["name"]
    assert simple.check({"name": ""}) == []


def test_without_templating_tags_are_text() -> None:
    content = _compiled(subject="{{ name }}", html="<p>{{ name }} {% x</p>", text=None, templated=False)
    assert content.check({}) == []
    message = _read(_fill(content, {}))
    assert message["subject"] == "{{ name }}"
    assert "{{ name }} {% x" in _body(message, "html")
    assert "{{ name }} {% x" in _body(message, "plain")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"text": None}, "content"),
        ({"sender": ""}, "sender"),
        ({"sender": "nobody"}, "sender 'nobody'"),
        ({"sender": "A <a@exa_mple.org>"}, "sender 'a@exa_mple.org'"),
        ({"reply_to": "x"}, "reply_to 'x'"),
        ({"subject": "{{ x"}, "subject line 1"),
        ({"text": "a\nb {{ x y }}"}, "text line 2"),
        ({"html": "<p>\n\n{% if %}"}, "html line 3"),
        ({"html": "<style>\n</style>\n{{ a|nope }}"}, "html line 3"),
        ({"headers": (("X-Foo", "{{ }}"),)}, "header X-Foo line 1"),
        ({"headers": (("Bcc", "x@example.org"),)}, "header Bcc"),
        ({"headers": (("List-Unsubscribe", "ü"),)}, "header List-Unsubscribe"),
        ({"to": ("x",)}, "to 'x'"),
        ({"attachments": (Attachment("a", "b", b""),)}, "attachment 'a'"),
    ],
)
def test_bad_sources_are_refused_with_their_place(changes: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as caught:
        compile_content(_source(**changes), boundary_seed="seed")
    assert caught.value.where == where
    assert caught.value.mend


def test_a_filled_sender_must_be_an_address() -> None:
    content = _compiled(sender="{{ name }} <{{ from }}>")
    message = _read(_fill(content, {"name": "Ünal, Ann", "from": "u@shop.example"}))
    assert message["from"].addresses[0].display_name == "Ünal, Ann"
    with pytest.raises(InputError) as caught:
        _fill(content, {"name": "x", "from": "a@b.example>, <c@d.example"})
    assert caught.value.where.startswith("sender")


def test_unnested_tags_leave_css_alone_with_a_warning() -> None:
    html = '<style>a{color:red}</style>{% if u %}<a href="1">{% else %}<a href="2">{% endif %}t</a>'
    content = _compiled(html=html, text="t")
    assert len(content.warnings) == 1
    assert '<a href="1">t</a>' in _body(_read(_fill(content, {"u": 1, "name": "x"})), "html")
    assert '<a href="2">t</a>' in _body(_read(_fill(content, {"u": 0, "name": "x"})), "html")


def test_deep_and_broken_html_compiles() -> None:
    for html in ("<div>" * 400, "<table><tr><td>" * 160 + "{{ name }}", "<a '" * 2000, "</p>" * 2000, "", "\x00"):
        content = _compiled(html=html, text=None)
        assert _fill(content, {"name": "x"}).body


def test_html_that_would_overrun_the_stack_is_left_alone() -> None:
    for html in (
        "<div>" * 30_000,
        "<table><tr><td>" * 10_000,
        "<div><table></div></table>" * 10_000,
        "<b></i>" * 20_000,
    ):
        content = _compiled(html=html, text=None)
        assert "500 deep" in content.warnings[0]
        assert _fill(content, {"name": "x"}).body.count(b"<") > 500
    table = f"<table>{'<tr><td>a<td>b' * 2000}</table>{'<p>x' * 2000}<ul>{'<li>x' * 2000}</ul>"
    assert _compiled(html=table, text=None).warnings == ()


def test_the_same_source_gives_the_same_bytes() -> None:
    source = _source(html="<p>{{ name }}</p>", attachments=(Attachment("a.txt", "text/plain", b"x"),))
    first, second = (compile_content(source, boundary_seed="s") for _ in range(2))
    assert first.to_bytes() == second.to_bytes()
    assert bytes(_fill(first, {"name": "x"})) == bytes(_fill(second, {"name": "x"}))


@given(st.binary(max_size=60), st.integers(0, 400))
def test_stored_bytes_that_are_not_content_are_refused(garbage: bytes, cut: int) -> None:
    whole = compile_content(_source(attachments=(Attachment("a", "a/b", b"x" * 50),)), boundary_seed="s").to_bytes()
    for data in (garbage, whole[: min(cut, len(whole) - 1)], whole[:8] + garbage):
        with pytest.raises(InputError):
            CompiledContent.from_bytes(data)
