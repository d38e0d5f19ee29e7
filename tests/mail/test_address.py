"""Addresses: what is read is what is written, and nothing else gets in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail.address import MAX_LOCAL_PART_BYTES, MAX_PATH_BYTES, Address, domain_to_ascii, domain_to_unicode

_ATEXT = "abzAZ09!#$%&'*+/=?^_`{|}~-"
_atoms = st.text(st.sampled_from(_ATEXT), min_size=1, max_size=12)
_words = st.text(st.sampled_from("aÄß字مअ"), min_size=1, max_size=6)
_dotted = st.lists(_atoms | _words, min_size=1, max_size=3).map(".".join)
_quoted = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
_labels = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9]{0,10}[a-zA-Z0-9])?", fullmatch=True)
_domains = (
    st.builds(
        lambda labels, tld: ".".join([*labels, tld]),
        st.lists(_labels, min_size=1, max_size=3),
        st.sampled_from(["org", "DE"]),
    )
    | st.sampled_from(["münchen.example", "例え.テスト", "xn--mnchen-3ya.example", "пример.рф", "straße.de"])
    | st.ip_addresses(v=4).map(lambda ip: f"[{ip}]")
    | st.ip_addresses(v=6).map(lambda ip: f"[IPv6:{ip}]")
)


@given(_dotted | _quoted, _domains)
def test_what_is_written_reads_back_the_same(local_part: str, domain: str) -> None:
    address = Address.parse(f"{local_part}@{domain}")
    assert Address.parse(str(address)) == address
    assert address.domain.isascii()
    assert Address.parse(str(address)).key == address.key


@given(st.text() | st.builds("{}@{}".format, st.text(max_size=80), st.text(max_size=80)))
def test_garbage_raises_only_the_typed_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except InputError:
        return
    wire = str(address)
    assert Address.parse(wire) == address
    assert not any(letter < " " or letter == "\x7f" for letter in wire)
    assert len(wire.encode()) <= MAX_PATH_BYTES


@pytest.mark.parametrize(
    ("text", "local_part", "domain", "wire"),
    [
        ("Ann@Example.ORG", "Ann", "example.org", "Ann@example.org"),
        ("ann+tag@example.org", "ann+tag", "example.org", "ann+tag@example.org"),
        ('"ann"@example.org', "ann", "example.org", "ann@example.org"),
        ('"ann lee"@example.org', "ann lee", "example.org", '"ann lee"@example.org'),
        ('"a@b\\"c"@example.org', 'a@b"c', "example.org", '"a@b\\"c"@example.org'),
        ('""@example.org', "", "example.org", '""@example.org'),
        ("ann@münchen.example.", "ann", "xn--mnchen-3ya.example", "ann@xn--mnchen-3ya.example"),
        ("ann@XN--MNCHEN-3YA.example", "ann", "xn--mnchen-3ya.example", "ann@xn--mnchen-3ya.example"),
        ("ann@[192.0.2.1]", "ann", "[192.0.2.1]", "ann@[192.0.2.1]"),
        ("ann@[ipv6:2001:DB8::1]", "ann", "[IPv6:2001:db8::1]", "ann@[IPv6:2001:db8::1]"),
        ('"ü x"@example.org', "ü x", "example.org", '"ü x"@example.org'),
        ("用户@例子.公司", "用户", "xn--fsqu00a.xn--55qx5d", "用户@xn--fsqu00a.xn--55qx5d"),
    ],
)
def test_forms_that_real_lists_have(text: str, local_part: str, domain: str, wire: str) -> None:
    address = Address.parse(text)
    assert (address.local_part, address.domain, str(address)) == (local_part, domain, wire)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "ann",
            "@example.org",
            "ann@",
            "ann@localhost",
            "ann@@example.org",
            "ann lee@example.org",
            ".ann@example.org",
        ),
        *(
            "ann.@example.org",
            "a..b@example.org",
            "ann@example..org",
            "ann@-example.org",
            "ann@example.org-",
            "ann@exa_mple.org",
        ),
        *(
            "ann@192.0.2.1",
            "ann@[192.0.2.300]",
            "ann@[192.0.2.1",
            "ann@[IPv6:fe80::1%eth0]",
            "ann@[IPv6:fe80::1%\r\nX]",
        ),
        *(
            '"ann@example.org',
            '"ann"x@example.org',
            '"a\nb"@example.org',
            "ann@exam\nple.org",
            "ann@example.org\r\n",
            "a\x00b@example.org",
        ),
        *(
            "a\u200bb@example.org",
            '"a\u2028b"@example.org',
            "\ud800@example.org",
            '"\ud800"@example.org',
            "ann@example.org, bob@example.org",
        ),
        *(
            "Ann <ann@example.org>",
            "<ann@example.org>",
            "ann@xn--a.example",
            "ann@exam ple.org",
            "ann@ex\u2024\u2024ample.org",
        ),
    ],
)
def test_forms_that_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        Address.parse(text)


def test_the_error_shows_the_whole_address_whatever_part_is_wrong() -> None:
    for text in ("ann@exa_mple.org", "ann@localhost", "ann@-\u00fc.de", "a b@example.org", "ann@[1.2.3]"):
        with pytest.raises(InputError) as caught:
            Address.parse(text)
        assert caught.value.where == repr(text)
    with pytest.raises(InputError) as caught:
        Address.parse("a" * 100_000 + "@example.org")
    assert len(caught.value.where) < 100


def test_limits_hold_on_both_sides() -> None:
    domain = ".".join(["d" * 63, "e" * 63, "f" * 57, "org"])
    local_part = "a" * MAX_LOCAL_PART_BYTES
    longest = f"{local_part}@{domain}"
    assert len(longest) == MAX_PATH_BYTES
    assert str(Address.parse(longest)) == longest
    for text in (
        f"a{local_part}@example.org",
        f"{local_part}@d{domain}",
        f"{local_part}@g.{domain}",
        f"a@{'d' * 64}.org",
    ):
        with pytest.raises(InputError):
            Address.parse(text)
    with pytest.raises(InputError):
        Address.parse(f"a@example.{'t' * 64}")
    assert str(Address.parse(f"a@example.{'t' * 63}"))
    with pytest.raises(InputError):
        Address.parse("ü" * 33 + "@example.org")  # 66 bytes in 33 letters


def test_one_mailbox_has_one_key() -> None:
    same = ["Ann@Example.org", "ann@EXAMPLE.org", '"ann"@example.org', "aNN@example.org."]
    assert len({Address.parse(text).key for text in same}) == 1
    composed, decomposed = Address.parse("andré@example.org"), Address.parse("andre\u0301@example.org")
    assert composed == decomposed == Address.parse('"andre\u0301"@example.org')
    assert Address.parse("ann+a@example.org").key != Address.parse("ann@example.org").key


def test_only_the_local_part_decides_on_smtputf8() -> None:
    assert Address.parse("用户@example.org").needs_smtputf8
    assert not Address.parse("ann@例子.公司").needs_smtputf8


def test_domains_are_shown_to_people_as_they_write_them() -> None:
    assert domain_to_unicode(domain_to_ascii("MÜNCHEN.example")) == "münchen.example"
    assert domain_to_unicode("xn--a.example") == "xn--a.example"
    assert domain_to_unicode("example.org") == "example.org"
