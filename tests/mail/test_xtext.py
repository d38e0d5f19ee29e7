"""xtext of RFC 3461 and the utf-8 address type of RFC 6533."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail import xtext


def test_examples() -> None:
    assert xtext.encode("QQ314159") == "QQ314159"
    assert xtext.encode("a+b=c d") == "a+2Bb+3Dc+20d"
    assert xtext.decode("rfc822;Bob+2Bnews@big-bucks.com") == "rfc822;Bob+news@big-bucks.com"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decode_of_encode_is_identity(text: str) -> None:
    encoded = xtext.encode(text)
    assert encoded.isascii()
    assert not set(encoded) & set(" =\r\n")
    assert xtext.decode(encoded) == text


@pytest.mark.parametrize("wrong", ["a b", "a=b", "a+2", "a+2b", "a+ZZ", "é", "+FF", "a\r\n"])
def test_what_is_not_xtext_is_refused(wrong: str) -> None:
    with pytest.raises(InputError):
        xtext.decode(wrong)


@given(st.text(max_size=30))
def test_garbage_decodes_or_is_refused(garbage: str) -> None:
    for read in (xtext.decode, xtext.decode_orcpt, xtext.decode_utf8_address):
        try:
            read(garbage)
        except InputError:
            continue


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_utf8_address_round_trip(address: str) -> None:
    encoded = xtext.encode_utf8_address(address)
    assert encoded.isascii()
    assert not set(encoded) & set(" =+\r\n\x00")
    assert xtext.decode_utf8_address(encoded) == address


@pytest.mark.parametrize(
    ("parameter", "decoded"),
    [
        ("rfc822;ann+2Btag@example.org", "rfc822;ann+tag@example.org"),
        ("utf-8;ren\\x{E9}@example.org", "utf-8;rené@example.org"),
        ("UTF-8;rené@example.org", "UTF-8;rené@example.org"),
        ("x400;/C+3DUS/", "x400;/C=US/"),
    ],
)
def test_orcpt(parameter: str, decoded: str) -> None:
    assert xtext.decode_orcpt(parameter) == decoded


@pytest.mark.parametrize(
    "wrong", ["", "ann@example.org", "rfc822;", ";ann@example.org", "rf c;a", "utf-8;\\x{D800}", "utf-8;\\x{FFFFFF}"]
)
def test_wrong_orcpt_is_refused(wrong: str) -> None:
    with pytest.raises(InputError):
        xtext.decode_orcpt(wrong)
