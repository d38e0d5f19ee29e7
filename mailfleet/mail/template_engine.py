"""The template engine as it is set up here, and what can be said of a template before it runs.

Rendering is ``template``'s work; where tags begin and end is ``template_syntax``'s.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from markupsafe import Markup, escape
from minijinja import Environment, TemplateError

from mailfleet.base.errors import InputError
from mailfleet.mail.encode import whole_unicode
from mailfleet.mail.template_syntax import Kind, Token, line_of

_MAX_FUEL = 250_000  # engine instructions for one part of one message
_MIN_FUEL = 5_000
_MAX_REPEATED = 64_000_000  # bytes of literal text that the fuel may repeat
_STRAIGHT = frozenset(
    "if elif else endif for endfor with endwith break continue".split()  # noqa: SIM905  # words on a line read better
)
_PLAIN_SET = re.compile(r"set\s+[\w\s,.()]+=(?!=)")
_REPEATS = frozenset(["macro", "call", "block", "filter"])
_TOTAL_FILTERS = frozenset(
    "upper lower title capitalize trim default d e escape safe length count string join urlencode round int float abs tojson".split()  # noqa: SIM905  # words on a line read better
)
STRING = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'", re.DOTALL)


class UndefinedInputError(Exception):
    """A filter was given nothing to work on. Never leaves the template modules."""

    def __init__(self, *filters: str) -> None:
        self.filters = filters
        super().__init__()


def url_encoded(value: object) -> str:
    """The ``urlencode`` filter: all but letters, digits and ``- . _ /`` percent-encoded; a mapping becomes a query."""
    if value is None:
        raise UndefinedInputError("urlencode")  # the engine's own would make a broken link of it
    if isinstance(value, dict):
        return "&".join(f"{url_encoded(str(name))}={url_encoded(item)}" for name, item in value.items())
    return "".join(map(_URL_LETTERS.__getitem__, whole_unicode(str(value)).encode()))


def _escaped(value: object) -> Markup:
    if value is None:
        raise UndefinedInputError("e", "escape")
    return escape(value)


_URL_LETTERS = tuple(
    chr(byte) if byte < 128 and (chr(byte).isalnum() or chr(byte) in "-._/") else f"%{byte:02X}" for byte in range(256)
)
# The engine's own forms of these take an undefined variable for an empty text, even when told to be strict
_STRICT_FILTERS = {"urlencode": url_encoded, "e": _escaped, "escape": _escaped}


def environment(html: bool, finish: Callable[[object], Markup] | None = None) -> Environment:
    engine = Environment(
        undefined_behavior="strict",
        auto_escape_callback=lambda name: html,
        keep_trailing_newline=True,
        finalizer=finish,
    )
    for name, function in _STRICT_FILTERS.items():
        engine.add_filter(name, function)
    for name in ("debug", "namespace"):  # one shows everything, the other lets a loop grow a value without end
        engine.remove_global(name)
    return engine


def check_syntax(source: str, where: str) -> None:
    try:
        environment(False).add_template("part", source)
    except TemplateError as error:
        raise InputError(
            error.detail or error.message,
            where=f"{where} line {error.line or 1}",
            mend="correct the template tag there",
        ) from None


def check_filters(source: str, tokens: list[Token], where: str) -> None:
    """The engine would find an unknown filter only when it fills the first copy."""
    engine = environment(False)
    for token in tokens:
        for name in (
            re.findall(r"\|\s*([A-Za-z_]\w*)", STRING.sub("''", token.text)) if token.kind is not Kind.TEXT else ()
        ):
            try:
                engine.eval_expr(f"1|{name}")
            except TemplateError as error:
                if error.kind == "UnknownFilter":
                    place = f"{where} line {line_of(source, token.offset)}"
                    raise InputError(f"there is no filter {name!r}", where=place, mend="correct its name") from None


def expression_of(error: TemplateError) -> str:
    if error.range is None or error.template_source is None:
        return ""
    return error.template_source.encode()[slice(*error.range)].decode(errors="replace")[:60]


def end_with_line_end(tokens: list[Token]) -> None:
    """A quoted-printable part must not end in a soft line break (RFC 2045 6.7 rule 3), so its text ends a line."""
    if not tokens or tokens[-1].kind is not Kind.TEXT:
        tokens.append(Token(Kind.TEXT, "\n"))
    elif not tokens[-1].text.endswith(("\n", "\r")):
        tokens[-1] = Token(Kind.TEXT, tokens[-1].text + "\n", tokens[-1].offset)


def goes_straight(tokens: list[Token]) -> bool:
    """Whether every literal reaches the output as it stands, and not by way of a captured value."""
    for token in tokens:
        if token.kind is Kind.BLOCK and token.keyword not in _STRAIGHT and not _PLAIN_SET.match(token.text):
            return False
        if token.keyword == "for" and token.text.endswith("recursive"):
            return False
    return True


def defined_by_names(tokens: list[Token]) -> bool:
    """Whether the copy can be filled whenever all top-level names are there: nothing looks inside values or assigns."""
    for token in tokens:
        if token.kind is Kind.TEXT:
            continue
        if token.kind is Kind.BLOCK and token.keyword not in ("if", "elif", "else", "endif", "for", "endfor"):
            return False
        expression = re.sub(r"\bloop\.\w+", "loop", STRING.sub("''", token.text))
        if re.search(r"[.\[(](?<!default\()(?<!d\()(?<!round\()(?<!join\()(?<!int\()(?<!float\()", expression):
            return False
        if any(name not in _TOTAL_FILTERS for name in re.findall(r"\|\s*(\w+)", expression)):
            return False
        if token.kind is Kind.OUTPUT and re.search(r"\bif\b", expression):
            return False
    return True


def fuel_for(tokens: list[Token]) -> int:
    """Instructions that may run: fewer the longer the text is that a loop could repeat, so that memory stays bounded."""
    depth = 0
    longest = 1
    anywhere = any(token.keyword in _REPEATS or token.text.endswith("recursive") for token in tokens)
    for token in tokens:
        depth += {"for": 1, "endfor": -1}.get(token.keyword, 0)
        if token.kind is Kind.TEXT and (depth or anywhere):
            longest = max(longest, len(token.text))
    return max(_MIN_FUEL, min(_MAX_FUEL, _MAX_REPEATED // longest))
