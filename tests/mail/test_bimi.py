"""Logos that receivers take, and every other file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail.bimi import MAX_BYTES, checked_logo

HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'version="1.2" baseProfile="tiny-ps" viewBox="0 0 64 64">'
)
TITLE = "<title>Shop</title>"
INSIDE = '<defs><path id="p" d="M0 0h9"/></defs><circle cx="32" cy="32" r="30" fill="#208060"/>'


def logo(inside: str = INSIDE, head: str = HEAD, title: str = TITLE, before: str = "") -> bytes:
    return f"{before}{head}{title}{inside}</svg>".encode()


@pytest.mark.parametrize(
    "data",
    [
        logo(),
        logo(before='<?xml version="1.0" encoding="utf-8"?>\n<!-- made by hand -->'),
        logo(before='\ufeff<?xml version="1.0"?>'),
        logo('<use xlink:href="#p"/><use href="#p"/>'),
        logo('<rect fill="url(#a)" stroke="url( \'#b\' )"/>'),
        logo(head=HEAD.replace("0 0 64 64", "-1.5,0 , 6.4e1 64.0")),
        logo('<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" rdf:about=""/>'),
        logo("<text>on &lt;script&gt; and url, grün &#128512;</text>"),
        logo(" " * (MAX_BYTES - len(logo("")))),
    ],
)
def test_a_logo_as_it_should_be(data: bytes) -> None:
    assert checked_logo(data).encode() == data


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "no XML"),
        (b"\x89PNG\r\n\x1a\n", "not UTF-8"),
        (logo().decode().encode("utf-16"), "not UTF-8"),
        (logo()[:-3], "no XML"),
        (logo("\0"), "no XML"),
        (logo(before='<?xml version="1.0" encoding="UTF-16"?>'), "calls itself UTF-16"),
        (logo(before='<?xml-stylesheet href="https://x.test/a.css"?>'), "processing instruction"),
        (logo('<?xml-stylesheet href="https://x.test/a.css"?>'), "processing instruction"),
        (logo(before="<!DOCTYPE svg>"), "DOCTYPE"),
        (logo(" " * (MAX_BYTES - len(logo("")) + 1)), f"it has {MAX_BYTES + 1} bytes"),
        (b"<html/>", "no svg element"),
        (b"<svg/>", "no svg element"),
        (logo(head=HEAD.replace("1.2", "1.1")), "version is '1.1', not '1.2'"),
        (logo(head=HEAD.replace('version="1.2"', "")), "version is missing"),
        (logo(head=HEAD.replace("tiny-ps", "tiny")), "baseProfile is 'tiny'"),
        (logo(head=HEAD.replace("<svg ", '<svg x="1" ')), "has x or y"),
        (logo(title=""), "no title"),
        (logo(title="<title> \n</title>"), "no title"),
        (logo(title="<g><title>Shop</title></g>"), "no title"),
        *((logo(head=HEAD.replace("0 0 64 64", box)), "not square") for box in (
            "0 0 64 32", "0 0 64", "", "0 0 a a", "0 0 0 0", "0 0 -5 -5", "0 0 nan nan", "0 0 inf inf", "0 0 1_0 1_0",
            "0 0 1e999 1e999",
        )),
        *((logo(f"<g><{name}/></g>"), f"an element {name}") for name in (
            "script", "image", "foreignObject", "a", "animate", "set", "video", "style",
        )),
        (logo('<x:script xmlns:x="http://x.test/"/>'), "an element script"),
        (logo('<rect onclick="alert(1)"/>'), "an attribute onclick"),
        (logo('<rect ONLOAD="alert(1)"/>'), "an attribute ONLOAD"),
        (logo('<use xlink:href="https://x.test/a.svg#p"/>'), "refers to 'https://x.test/a.svg#p'"),
        (logo('<use href=" javascript:alert(1)"/>'), "refers to 'javascript:alert(1)'"),
        (logo('<use href="data:image/png;base64,AA"/>'), "refers to 'data:"),
        (logo('<x:frame xmlns:x="http://x.test/" src="https://x.test/"/>'), "refers to"),
        (logo('<g xml:base="https://x.test/"><use href="#p"/></g>'), "refers to"),
        (logo('<rect fill="url(https://x.test/a)"/>'), "refers to 'https://x.test/a'"),
        (logo('<rect style="fill:url(#a);background:url(https://x.test/a)"/>'), "refers to 'https://x.test/a'"),
        (logo('<rect fill="URL(\n&apos;https://x.test/a&apos;)"/>'), "refers to 'https://x.test/a'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(data: bytes, what: str) -> None:
    with pytest.raises(InputError) as caught:
        checked_logo(data)
    assert what in caught.value.what
    assert caught.value.where == "logo"
    assert caught.value.mend


def test_entities_are_not_expanded() -> None:
    bomb = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    with pytest.raises(InputError, match="DOCTYPE or entities"):
        checked_logo(logo("<text>&e9;</text>", before=f'<!DOCTYPE svg [<!ENTITY e0 "lol">{bomb}]>'))
    with pytest.raises(InputError, match="no XML"):
        checked_logo(logo("<text>&e9;</text>"))


def test_depth_is_harmless() -> None:
    depth = (MAX_BYTES - len(logo(""))) // len("<g></g>")
    assert checked_logo(logo("<g>" * depth + "</g>" * depth))
    with pytest.raises(InputError, match="no XML"):
        checked_logo(logo("<g>" * (MAX_BYTES // 4)))


@pytest.mark.parametrize("name", ["script", "image"])
def test_messages_stay_short(name: str) -> None:
    long = "x" * 20_000
    for data in (
        logo(f'<use href="{long}"/>'), logo(f'<rect on{long}=""/>'), logo(f'<{long} on{name}=""/>'),
        logo(head=HEAD.replace("1.2", long)),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            checked_logo(data)
        assert len(str(caught.value)) < 500


PIECES = st.sampled_from([
    HEAD, TITLE, INSIDE, "</svg>", "<g>", "</g>", "<!--", "-->", "<![CDATA[", "]]>", "<?xml", "?>", "&amp;", "&#0;", "&x;",
    '<a href="', '"/>', "\0", "\ufffe", "<", ">", "xmlns:", "url(", " ",
])  # fmt: skip


@given(st.binary(max_size=200) | st.lists(PIECES | st.text(max_size=5), max_size=12).map(lambda s: "".join(s).encode()))
def test_any_bytes_are_a_logo_or_refused(data: bytes) -> None:
    try:
        found = checked_logo(data)
    except InputError:
        return
    assert found.encode() == data
