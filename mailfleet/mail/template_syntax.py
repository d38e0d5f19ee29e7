"""Where the tags of a template begin and end, and what kind they are. Rendering is ``template``'s work.

The language is minijinja's; this module reads only as much of it as is needed to treat text and tags apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from mailfleet.base.errors import InputError

MAX_TAGS = 10_000


class Kind(Enum):
    """What a token is."""

    TEXT = "text"
    OUTPUT = "{{"
    BLOCK = "{%"
    COMMENT = "{#"


@dataclass(frozen=True, slots=True)
class Token:
    """``text`` is the literal text with whitespace control applied, or what stands inside the tag, without delimiters.

    ``keyword`` is the first word of a block tag. ``offset`` is where the token starts in the source.
    """

    kind: Kind
    text: str
    offset: int = 0

    @property
    def keyword(self) -> str:
        """``for`` of ``{% for x in y %}``; empty for everything but blocks."""
        return self.text.split(None, 1)[0] if self.kind is Kind.BLOCK and self.text.strip() else ""

    @property
    def source(self) -> str:
        """The token as template source."""
        if self.kind is Kind.TEXT:
            return self.text
        return f"{self.kind.value} {self.text} {_END[self.kind]}"


_END = {Kind.OUTPUT: "}}", Kind.BLOCK: "%}", Kind.COMMENT: "#}"}
_TAG_START = re.compile(r"\{[{%#]")
_LOOKS_LIKE_TAG = re.compile(r"\{(?:[{%#]|\Z)")
_RAW = re.compile(r"\{%[-+]?\s*raw\s*[-+]?%\}")
_END_RAW = re.compile(r"\{%([-+]?)\s*endraw\s*([-+]?)%\}")
_INNER = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<end>[-+]?[}%]\})|(?P<open>[\[({])|(?P<close>[\])}])""",
    re.DOTALL,
)
_FORBIDDEN = {
    "include": "one content has no files to include",
    "import": "one content has no files to import",
    "from": "one content has no files to import",
    "extends": "one content has no parent",
    "autoescape": "use |safe on the value",
}


def tokenize(source: str, where: str) -> list[Token]:
    """Split a template into tokens whose sources, joined, are the same template without whitespace control.

    Comments are dropped, neighbouring texts joined, ``{% raw %}`` becomes text; text that looks like a tag becomes a tag
    that puts it out.

    Raises ``InputError`` naming ``where`` and the line for a tag without end or a tag that is not available. Everything
    else that can be wrong with a tag is found by the engine.
    """
    found: list[Token] = []
    trims: list[tuple[bool, bool]] = []
    if source.count("{") > MAX_TAGS and sum(1 for _ in _TAG_START.finditer(source)) > MAX_TAGS:
        raise InputError(f"there are more than {MAX_TAGS} tags", where=where, mend="use a loop for what repeats")
    at = 0
    while (start := _TAG_START.search(source, at)) is not None:
        if start.start() > at:
            found.append(Token(Kind.TEXT, source[at : start.start()], at))
            trims.append((False, False))
        token, trim, at = _tag(source, start.start(), where)
        found.append(token)
        trims.append(trim)
    if at < len(source):
        found.append(Token(Kind.TEXT, source[at:], at))
        trims.append((False, False))
    return _told_apart(_joined(_trimmed(found, trims)))


def line_of(source: str, offset: int) -> int:
    """The 1-based line that ``offset`` is on."""
    return source.count("\n", 0, offset) + 1


def _tag(source: str, start: int, where: str) -> tuple[Token, tuple[bool, bool], int]:
    raw = _RAW.match(source, start)
    if raw:
        return _raw(source, raw, where)
    kind = Kind(source[start : start + 2])
    end = source.find("#}", start) if kind is Kind.COMMENT else _end_of_tag(source, start + 2, kind)
    if end < 0:
        raise InputError(
            f"the tag that starts with {source[start : start + 20]!r} has no end",
            where=f"{where} line {line_of(source, start)}",
            mend=f"close it with {_END[kind]}",
        )
    inner = source[start + 2 : end]
    trim_before, trim_after = inner.startswith("-"), inner.endswith("-")
    inner = inner[1:] if inner.startswith(("-", "+")) else inner
    inner = inner[:-1] if inner.endswith(("-", "+")) else inner
    token = Token(kind, inner.strip(), start)
    if token.keyword in _FORBIDDEN:
        raise InputError(
            f"the tag {token.keyword} is not available",
            where=f"{where} line {line_of(source, start)}",
            mend=_FORBIDDEN[token.keyword],
        )
    return token, (trim_before, trim_after), end + 2


def _end_of_tag(source: str, at: int, kind: Kind) -> int:
    """Offset of the end delimiter, strings and brackets respected; -1 if there is none."""
    depth = 0
    while (match := _INNER.search(source, at)) is not None:
        at = match.end()
        if match["end"] and depth == 0:
            if match["end"][-2:] == _END[kind]:
                return at - 2
        elif match["open"]:
            depth += 1
        elif match["close"] or match["end"]:
            at = match.start() + 1  # two closing braces inside brackets are two brackets
            depth -= source[match.start()] in "])}"
    return -1


def _raw(source: str, opening: re.Match[str], where: str) -> tuple[Token, tuple[bool, bool], int]:
    closing = _END_RAW.search(source, opening.end())
    if closing is None:
        place = f"{where} line {line_of(source, opening.start())}"
        raise InputError("the raw block has no end", where=place, mend="close it with {% endraw %}")
    text = source[opening.end() : closing.start()]
    if opening[0].endswith("-%}"):
        text = text.lstrip()
    if closing[1] == "-":
        text = text.rstrip()
    trim = (opening[0].startswith("{%-"), closing[2] == "-")
    return Token(Kind.TEXT, text, opening.start()), trim, closing.end()


def _trimmed(tokens: Sequence[Token], trims: Sequence[tuple[bool, bool]]) -> list[Token]:
    """Whitespace control: ``{{-`` strips the text before the tag, ``-}}`` the text after it."""
    texts = [token.text for token in tokens]
    for left, right in pairwise(range(len(tokens))):
        if tokens[left].kind is Kind.TEXT and trims[right][0]:
            texts[left] = texts[left].rstrip()
        if tokens[right].kind is Kind.TEXT and trims[left][1]:
            texts[right] = texts[right].lstrip()
    return [Token(token.kind, text, token.offset) for token, text in zip(tokens, texts, strict=True)]


def _joined(tokens: Sequence[Token]) -> list[Token]:
    joined: list[Token] = []
    for token in tokens:
        if token.kind is Kind.COMMENT or (token.kind is Kind.TEXT and not token.text):
            continue
        if token.kind is Kind.TEXT and joined and joined[-1].kind is Kind.TEXT:
            joined[-1] = Token(Kind.TEXT, joined[-1].text + token.text, joined[-1].offset)
        else:
            joined.append(token)
    return joined


def _told_apart(tokens: Sequence[Token]) -> list[Token]:
    apart: list[Token] = []
    for index, token in enumerate(tokens):
        if token.kind is not Kind.TEXT:
            apart.append(token)
            continue
        text = token.text if index + 1 < len(tokens) else token.text + "\0"  # at the very end a brace starts nothing
        at = 0
        for match in _LOOKS_LIKE_TAG.finditer(text):
            if match.start() > at:
                apart.append(Token(Kind.TEXT, text[at : match.start()], token.offset))
            apart.append(Token(Kind.OUTPUT, f"'{match[0]}'|safe", token.offset))
            at = match.end()
        if token.text[at:]:
            apart.append(Token(Kind.TEXT, token.text[at:], token.offset))
    return apart
