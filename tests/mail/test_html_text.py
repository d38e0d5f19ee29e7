"""HTML that is a template: CSS is inlined around the tags, and the text part is a template too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.mail.html_tags import hide_tags, inline_css
from mailfleet.mail.html_text import html_to_text
from mailfleet.mail.template import Template
from mailfleet.mail.template_syntax import tokenize


def _inlined(html: str) -> str | None:
    hidden = hide_tags(tokenize(html, "html"))
    inlined = inline_css(hidden)
    return None if inlined is None else hidden.restore(inlined)


def _text(html: str) -> str:
    hidden = hide_tags(tokenize(html, "html"))
    return html_to_text(inline_css(hidden) or hidden.html, hidden)


def _filled(source: str, **fields: object) -> str:
    return Template(source, where="text").render(fields)


def test_rules_move_into_style_attributes_and_media_rules_stay() -> None:
    inlined = _inlined(
        "<html><head><style>p{color:red} @media (max-width:600px){p{color:blue!important}} a:hover{color:green}</style>"
        "</head><body><p>x</p></body></html>"
    )
    assert inlined is not None
    assert '<p style="color: red;">x</p>' in inlined
    assert "@media (max-width:600px)" in inlined
    assert "a:hover" in inlined
    assert "p { color: red" not in inlined


def test_tags_in_every_place_survive() -> None:
    html = """<!DOCTYPE html><html><head><title>{{ title }}</title><style>p{color:{{ color }}}</style>
<style>{% if dark %}body{background:#000}{% endif %}</style></head><body {% if rtl %}dir="rtl"{% endif %}>
<!--[if mso]><table><tr><td>{{ mso }}<![endif]--><![if !mso]>other<![endif]>
<a href="{{ url|default("https://example.org/?a=1&b=2") }}" title='{{ t["x"] }}'>{{ label }}</a>
<p class="{% if a %}b{% endif %}">Hello {% if a %}<b>{{ a }}</b>{% else %}you{% endif %}</p>{# gone #}</body></html>"""
    inlined = _inlined(html)
    assert inlined is not None
    for tag in (
        *("<title>{{ title }}</title>", 'style="color: {{ color }};"', "{% if dark %}body{background:#000}{% endif %}"),
        *(
            '<body {% if rtl %}dir="rtl" {% endif %}>',
            "<table><tr><td>{{ mso }}<![endif]-->",
            "<![if !mso]>other<![endif]>",
        ),
        *('href="{{ url|default("https://example.org/?a=1&b=2") }}"', """{{ t["x"] }}""", "{{ label }}"),
        *('class="{% if a %}b{% endif %}"', "{% if a %}<b>{{ a }}</b>{% else %}you{% endif %}"),
    ):
        assert tag in inlined
    assert "gone" not in inlined


def test_loops_around_rows_stay_between_the_rows() -> None:
    html = (
        "<style>td{padding:1px}</style><table>{% for r in rows %}<tr><td>{{ r }}</td></tr>"
        "{% else %}{{ none_html|safe }}{% endfor %}</table>"
    )
    inlined = _inlined(html)
    assert inlined is not None
    body = inlined[inlined.index("<table>") : inlined.index("</table>")]
    filled = Template(body, where="html", html=True).render({"rows": [1, 2, 3]})
    assert filled == "<table>" + "".join(f'<tr><td style="padding: 1px;">{n}</td></tr>' for n in (1, 2, 3))
    assert "<tr><td>none" in Template(body, where="html", html=True).render(
        {"rows": [], "none_html": "<tr><td>none</td></tr>"}
    )


@pytest.mark.parametrize(
    "html",
    [
        '{% if u %}<a href="{{ u }}">{% endif %}<img src="x">{% if u %}</a>{% endif %}',
        "<table><tr>{% if a %}<td>{% else %}<td class=x>{% endif %}x</td></tr></table>",
        '{% if u %}<a href="1">{% else %}<a href="2">{% endif %}t</a>',
        '<p {% if a %} class="x" {% else %} class="y" {% endif %}>t</p>',
        "<table><tr><td>a</td>{% if x %}</tr><tr>{% endif %}<td>b</td></tr></table>",
        "<p>one {% for r in rows %}<p>{{ r }}{% endfor %} end",
    ],
)
def test_inlining_never_changes_what_a_branch_contains(html: str) -> None:
    """Either the branches give the elements that the author wrote, or the HTML is left alone."""
    html = f"<style>p{{color:red}}</style>{html}"
    inlined = _inlined(html)
    if inlined is None:
        return
    for fields in ({"u": "x", "a": 1, "x": 1, "rows": [1, 2]}, {"u": "", "a": 0, "x": 0, "rows": []}):
        before = _filled(html, **fields)
        after = _filled(inlined, **fields)
        assert after.count("<a ") == before.count("<a ")
        assert after.count("</a>") == before.count("</a>")
        assert after.count("<tr>") == before.count("<tr>")


def test_unnested_branches_are_not_inlined() -> None:
    assert _inlined('<style>a{color:red}</style>{% if u %}<a href="1">{% else %}<a href="2">{% endif %}t</a>') is None
    assert _inlined('<style>p{color:red}</style><p {% if a %} class="x" {% else %} class="y" {% endif %}>t</p>') is None


def test_no_stylesheet_is_loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    sheet = tmp_path_factory.mktemp("css") / "local.css"
    sheet.write_text("p { color: red }")
    for href in (str(sheet), sheet.as_uri(), "http://127.0.0.1:9/x.css"):
        inlined = _inlined(f'<html><head><link rel="stylesheet" href="{href}"></head><body><p>x</p></body></html>')
        assert inlined is not None
        assert "<p>x</p>" in inlined


def test_text_reads_like_a_letter() -> None:
    text = _text(
        """<html><head><title>T</title><style>.pre{display:none}</style></head><body><div class="pre">preview</div>
<h1>Hello</h1><p>Some <b>bold</b>   text &amp; a <a href="https://example.org/x">link</a>.<br>New line</p>
<ul><li>one</li><li>two</li></ul><ol><li>first</li><li>second</li></ol>
<table><tr><th>Item</th><th>Price</th></tr><tr><td>Tea</td><td>3</td></tr></table>
<p><a href="https://shop.example/"><img src="x" alt="Shop"></a> <a href="mailto:a@example.org">a@example.org</a></p>
<script>alert(1)</script><hr><blockquote>said</blockquote><pre>a
  b</pre></body></html>"""
    )
    assert text == (
        "Hello\n=====\n\nSome bold text & a link (https://example.org/x).\nNew line\n\n- one\n- two\n\n1. first\n2. second\n\n"
        "Item | Price\nTea | 3\n\nShop (https://shop.example/) a@example.org\n\n----------------------------------------\n\n"
        "> said\n\na\n  b\n"
    )


def test_text_is_a_template() -> None:
    source = _text(
        '<p>Dear {{ name|default("friend") }}, <a href="https://example.org/{{ id }}">see</a>{% if vip %} (VIP){% endif %}.</p>'
        "<table>{% for r in rows %}<tr><td>{{ r }}</td></tr>{% endfor %}</table><p>{{ html|safe }}</p>"
    )
    filled = _filled(source, id=7, vip=True, rows=["Tea", "Cake"], html="end")
    assert filled == "Dear friend, see (https://example.org/7) (VIP).\n\nTea\nCake\n\nend\n"
    assert "(VIP)" not in _filled(source, name="Ann", id=7, vip=False, rows=[], html="")


def test_lines_wrap_and_urls_stay_whole() -> None:
    url = "https://example.org/" + "path/" * 30
    text = _text(f'<p>{"word " * 60}<a href="{url}">here</a> {"more " * 30}{{{{ name }}}}</p>')
    assert f"({url})" in text
    assert all(len(line) <= 78 or url in line for line in text.split("\n"))
    assert "{{ name }}" in text


@pytest.mark.parametrize(
    "style",
    ["display:none", "DISPLAY: NONE !important", "max-height:0px;overflow:hidden", "opacity:0", "visibility:hidden"],
)
def test_hidden_preheaders_are_left_out(style: str) -> None:
    assert _text(f'<div style="{style}">preview {{{{ x }}}}</div><p>Body</p>') == "Body\n"
    assert "shown" in _text('<p style="font-size:0;opacity:0.9;max-height:05px">shown</p>')


def test_a_heading_is_underlined_as_far_as_it_goes() -> None:
    assert _text("<p>A line that is much longer than the heading</p><h2>Short</h2>&nbsp;<p>x</p>").endswith(
        "\n\nShort\n-----\n\nx\n"
    )


@given(st.text(st.sampled_from("<>/pabtdr \"'=!-{}&;é\n\ue001"), max_size=80))
def test_any_html_gives_some_text_and_keeps_no_place_markers(html: str) -> None:
    hidden = hide_tags(tokenize(html.replace("{", ""), "html"))
    inlined = inline_css(hidden)
    text = html_to_text(inlined or hidden.html, hidden)
    assert text.endswith("\n")


def test_broken_html_is_read_in_linear_time() -> None:
    for broken in ("<!--", "<a '", '<a "', "<style>", "<![", "<p ", "<table><tr><td>"):
        hidden = hide_tags(tokenize(broken * 20_000, "html"))
        assert hidden.html
