"""Templates: every way of rendering gives the same text, and nothing a template does can hurt the sender."""

from __future__ import annotations

import binascii
from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from minijinja import Environment, TemplateError

from mailfleet.base.errors import InputError
from mailfleet.mail.template import Template
from mailfleet.mail.template_syntax import Kind, tokenize
from mailfleet.mail.template_tree import UndefinedVariableError


def _decoded(encoded: bytes) -> str:
    assert encoded.endswith(b"\r\n")
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))
    return binascii.a2b_qp(encoded).decode().replace("\r\n", "\n")


def _render(source: str, fields: Mapping[str, object], *, html: bool = True) -> str:
    template = Template(source, where="html", html=html, body=True)
    text = template.render(fields)
    assert _decoded(template.render_encoded(fields)) == text.replace("\r\n", "\n").replace("\r", "\n")
    return text


_FIELDS: dict[str, object] = {
    "name": 'Ann <&> "O\'Neil" = =C3',
    "city": "Köln",
    "n": 7,
    "empty": "",
    "rows": [{"k": "a=b"}, {"k": "中"}],
    "long": "word = é " * 40,
    "lines": "one\r\ntwo\nthree\rfour",
}
_literals = st.text(st.sampled_from("ab =.{}%#\n\té中\"'<&")) | st.just("x" * 80)
_tags = st.sampled_from(
    [
        *(
            "{{ name }}",
            "{{name|safe}}",
            "{{ city }}",
            "{{ n }}",
            "{{ empty }}",
            '{{ gone|default("frïend") }}',
            "{{- name -}}",
        ),
        *(
            "{{ lines }}",
            "{{ long }}",
            "{{ empty|default('none', true) }}",
            "{{ name|upper }}",
            "{# note -#}",
            "{{ '}}' ~ name }}",
        ),
        *(
            "{% if n > 3 %}é = yes{% else %}no{% endif %}",
            "{% for r in rows %}={{ r.k }};{{ loop.index }}\n{% endfor %}",
        ),
        *(
            "{% set v %}<b>{{ city }}=</b>{% endset %}{{ v }}",
            "{% raw %}{{ name }}{% endraw %}",
            "{% set w = n + 1 -%} {{ w }}",
        ),
        *(
            "{% macro m(x) %}<i>é{{ x }}</i>{% endmacro %}{{ m(name) }}",
            "{% filter upper %}x=é{% endfilter %}",
            "{{ {'a': {'b': n}} }}",
        ),
    ]
)
_sources = st.lists(_literals | _tags, max_size=8).map("".join)


@settings(max_examples=200)
@given(_sources, st.booleans())
@example("{" + "{{- name }}", True)
@example("{# #}{", True)
@example("{{ name -}}", False)
def test_fast_and_slow_ways_decode_to_the_same_text(source: str, html: bool) -> None:
    try:
        text = _render(source, _FIELDS, html=html)
    except InputError:
        with pytest.raises(TemplateError):
            Environment(undefined_behavior="strict").render_str(source, **_FIELDS)
        return
    try:
        plain = Environment(undefined_behavior="strict", keep_trailing_newline=True).render_str(source, **_FIELDS)
    except TemplateError:
        pytest.fail(f"{source!r} renders here and not in the engine")
    if not html and "{# " not in source:
        assert text in (plain, plain + "\n")  # a body ends in a line end


_conditions = st.sampled_from(
    [
        *(
            "a",
            "not a",
            "a is defined",
            "a is not defined",
            'a == "x"',
            "a != 'x'",
            'a in ("x", "")',
            'a not in ["x", "0"]',
        ),
        *(
            "a is defined and a",
            "not a is defined or b",
            "a and b or not a",
            'not a == "x"',
            "a in ('x')",
            "a in b",
            "a > 1",
        ),
        *("(a)", "a == b", "not not a", 'a not in ("", "0") and b is defined'),
    ]
)
_values = st.sampled_from(["", "x", "0", "é/ ~&", 0, 1, 1.5, True, False, None, [], ["x"], {}, {"x": "1 2"}])
_plain_tags = st.builds(
    "{{% if {} %}}1{{{{ b }}}}{{% elif {} -%}} 2 {{%- else %}}3{{% endif %}}".format, _conditions, _conditions
) | (
    st.sampled_from(
        [
            *(
                "{{ a }}",
                "{{ a|urlencode }}",
                "{{ a|default('é=') }}",
                '{{ a | d("", true) | urlencode }}',
                "{{ b|safe }}",
            ),
            *(
                "{% if a %}{% if b %}{{ b }}{% endif %}-{% endif %}",
                "{{ a|default('q')|urlencode|safe }}",
                "{{ b|upper }}",
            ),
        ]
    )
)


def _refuse(value: object) -> object:
    """The engine's own filter takes an undefined variable for an empty text."""
    if value is None:
        raise KeyError(value)
    return str(Environment().render_str("{{ value|urlencode }}", value=value))


@settings(max_examples=300)
@given(st.lists(_plain_tags | st.sampled_from(["é", "\n"]), max_size=4).map("".join), _values, _values, st.booleans())
def test_the_tree_and_the_engine_never_differ(source: str, a: object, b: object, present: bool) -> None:
    fields = {"a": a, "b": b} if present else {"b": b}
    engine = Environment(
        undefined_behavior="strict",
        keep_trailing_newline=True,
        finalizer=lambda value: "" if value is None else str(value),
    )
    template = Template(source, where="text", body=True)
    if a is None or not present:
        engine.add_filter("urlencode", _refuse)
    try:
        wanted = engine.render_str(source, **{name: value for name, value in fields.items() if value is not None})
    except (TemplateError, KeyError) as error:
        with pytest.raises(InputError):
            template.render(fields)
        with pytest.raises(InputError):
            template.render_encoded(fields)
        if isinstance(error, KeyError) or error.kind == "UndefinedError":
            assert template.undefined(fields) != []
        return
    assert template.render(fields) in (wanted, wanted + "\n")
    assert _decoded(template.render_encoded(fields)) == template.render(fields)
    assert template.undefined(fields) == []


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        ("plain", [Kind.TEXT]),
        ("a{# b #}c", [Kind.TEXT]),
        ("{{ '}}' }}", [Kind.OUTPUT]),
        ("{{ {'a': {'b': 1}}}}", [Kind.OUTPUT]),
        ("a {%- if x -%} b {% endif %}", [Kind.TEXT, Kind.BLOCK, Kind.TEXT, Kind.BLOCK]),
        ("{% raw %}{{ x }}{% endraw %}", [Kind.OUTPUT, Kind.TEXT]),
    ],
)
def test_tags_are_told_from_text(source: str, kinds: list[Kind]) -> None:
    assert [token.kind for token in tokenize(source, "html")] == kinds


def test_values_are_escaped_in_html_and_nowhere_else() -> None:
    fields = {"v": "<b>&\"'"}
    assert _render("{{ v }}", fields) == "&lt;b&gt;&amp;&#34;&#39;\n"
    assert _render("{{ v|safe }}", fields) == "<b>&\"'\n"
    assert _render("{{ v|upper }}", fields) == "&lt;B&gt;&amp;&#34;&#39;\n"
    assert _render("{{ v|default('x') }}", fields) == "&lt;b&gt;&amp;&#34;&#39;\n"
    assert _render("{{ v }}{{ v|upper }}", fields, html=False) == "<b>&\"'<B>&\"'\n"
    assert _render("{{ u }}{% if u %}{% endif %}", {"u": "https://example.org/?a=1"}) == "https://example.org/?a=1\n"


def test_undefined_variables_are_errors_with_their_name() -> None:
    for source in (
        "{{ gone }}",
        "{{ gone|upper }}",
        "{% if gone %}x{% endif %}",
        "{% for r in gone %}{% endfor %}",
        "{{ gone|urlencode }}",
        "{% if here %}{{ gone|e }}{% endif %}",
    ):
        with pytest.raises(UndefinedVariableError) as caught:
            _render(source, {"here": 1})
        assert caught.value.variable == "gone"
        assert caught.value.where == "html"
    with pytest.raises(UndefinedVariableError) as caught:
        _render("{{ order.total }}", {"order": {"id": 1}})
    assert caught.value.variable == "order.total"
    assert _render("{{ gone|default('x') }}{{ gone is defined }}", {}) == "xFalse\n"


@pytest.mark.parametrize(
    ("source", "fields", "missing"),
    [
        ("{{ a }} {{ b }} {{ a }}", {}, ["a", "b"]),
        ("{{ a }} {{ b|default('x') }}", {"a": ""}, []),
        ("{{ a }}", {"a": None}, ["a"]),
        ("{{ a|upper }}{{ b|lower }}", {"c": 1}, ["a", "b"]),
        ("{{ a|upper }}{{ b|default(c) }}", {"a": "x"}, ["c"]),
        ("{{ a|upper }}{{ b|default(c) }}", {"a": "x", "b": "y"}, []),
        ("{% if a %}{{ b }}{% else %}{{ c }}{% endif %}", {"a": True, "c": 1}, ["b"]),
        ("{% if a %}{{ b }}{% else %}{{ c }}{% endif %}", {"a": False, "c": 1}, []),
        ("{% for r in rows %}{{ r.k }}{% endfor %}{{ z }}", {"rows": [{}]}, ["r.k"]),
        ("{% for r in rows %}{{ r.k }}{% endfor %}{{ z }}", {"rows": []}, ["z"]),
        ("{% if a %}{% set q = 1 %}{% endif %}{{ q }}", {"a": 0}, ["q"]),
        ("{{ a.b.c }}{{ d }}", {}, ["a", "d"]),
    ],
)
def test_what_a_recipient_lacks_is_named(source: str, fields: dict[str, object], missing: list[str]) -> None:
    template = Template(source, where="html", html=True, body=True)
    for _ in range(2):  # the second answer comes from what is known already
        assert template.undefined(fields) == missing


@given(
    _sources,
    st.dictionaries(st.sampled_from(list(_FIELDS)), st.none() | st.sampled_from(["", "x", 1, [], [{"k": 1}], [{}]])),
)
def test_a_copy_can_be_filled_exactly_when_nothing_is_undefined(source: str, fields: dict[str, object]) -> None:
    try:
        template = Template(source, where="html", html=True, body=True)
        missing = template.undefined(fields)
    except InputError:
        return
    try:
        template.render_encoded(fields)
        met = []
    except UndefinedVariableError as error:
        met = [error.variable]
    assert missing[:1] == met


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("a\nb\n{% if x %}", "html line 3"),
        ("a\n{{ x", "html line 2"),
        ("a\n{{ x y }}", "html line 2"),
        ("\n\n{% endfor %}", "html line 3"),
        ("\n{{ x|nosuchfilter }}", "html line 2"),
        ("\n{% include 'x' %}", "html line 2"),
        ("\n{% extends 'x' %}", "html line 2"),
        ("\n{%- import 'x' as y -%}", "html line 2"),
        ("{% raw %}\n", "html line 1"),
        ("{{ x }}" * 10_001, "html"),
        ("{% autoescape false %}{{ x }}{% endautoescape %}", "html line 1"),
    ],
)
def test_a_source_that_does_not_parse_is_refused_with_its_line(source: str, where: str) -> None:
    with pytest.raises(InputError) as caught:
        Template(source, where="html", html=True, body=True)
    assert caught.value.where == where
    assert caught.value.mend


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
        "{% for i in range(10000) %}{{ big }}{% endfor %}",
        "{% for i in range(10000) %}" + "x" * 10_000 + "{% endfor %}",
        "{{ big * 100000 }}",
        "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
        "{% set ns = namespace(v='ab') %}{% for i in range(60) %}{% set ns.v = ns.v ~ ns.v %}{% endfor %}{{ ns.v }}",
        "{{ range(1000000000) }}",
        "{{ 1 / 0 }}",
        "{{ rows.pop(99) }}",
    ],
)
def test_a_template_that_never_ends_or_swells_is_an_input_error(source: str) -> None:
    fields: dict[str, object] = {"big": "y" * 10_000, "rows": [1]}
    for render in (Template.render, Template.render_encoded):
        with pytest.raises(InputError):
            render(Template(source, where="html", html=True, body=True), fields)


def test_a_long_list_is_no_bomb() -> None:
    rows = [{"name": f"Item {number}", "price": number} for number in range(500)]
    text = _render(
        "{% for r in rows %}<tr><td>{{ r.name }}</td><td>{{ r.price }}</td></tr>\n{% endfor %}", {"rows": rows}
    )
    assert text.count("<tr>") == 500


def test_without_templating_the_source_is_the_text() -> None:
    template = Template("{{ a }} {% b", where="text", body=True, templated=False)
    assert template.static
    assert template.variables == frozenset()
    assert template.render({}) == "{{ a }} {% b\n"


def test_variables_are_the_top_level_names() -> None:
    source = "{{ a.b }}{% for r in rows %}{{ r.k }}{{ loop.index }}{% endfor %}{{ c|default(d) }}{{ range(2) }}"
    assert Template(source, where="text").variables == {"a", "rows", "c", "d"}
    assert Template("{{ x }}{{ y|default('') }}", where="text").variables == {"x", "y"}
