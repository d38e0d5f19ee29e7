"""The plain part of the template language, read into a tree that needs no engine: values, defaults and simple conditions.

Most templates are made of these alone, and walking the tree costs a tenth of what the engine does. What is not read here,
or turns out at filling to be anything but plain (a number compared with a text, a missing name), is left to the engine,
so the two never differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import escape

from mailfleet.base.errors import InputError
from mailfleet.mail.encode import quoted_printable_piece
from mailfleet.mail.template_engine import url_encoded
from mailfleet.mail.template_syntax import Kind, Token

Fields = Mapping[str, object]
Condition = Callable[[Fields], bool]

SHORT = re.compile(r"[ -<>-~]{1,75}")  # its own quoted-printable form, and room for the soft line break
SHORT_HTML = re.compile(r"[ !#-%(-;?-~]{1,75}")  # the same, and nothing to escape
_SLOT = re.compile(
    r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"""(?:\s*\|\s*(?:d|default)\s*\(\s*(?:"(?P<double>[^"\\]*)"|'(?P<single>[^'\\]*)')\s*"""
    r"(?P<empty>,\s*(?:boolean\s*=\s*)?[Tt]rue\s*)?\))?"
    r"(?P<url>\s*\|\s*urlencode)?(?P<safe>\s*\|\s*safe)?"
)
_WORD = re.compile(
    r"""\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|"(?P<double>[^"\\]*)"|'(?P<single>[^'\\]*)'|(?P<sign>==|!=|[(),\[\]]))"""
)
_RESERVED = frozenset(
    "true false none True False None loop self not and or in is if else super caller".split()  # noqa: SIM905  # words on a line read better
)


class UndefinedVariableError(InputError):
    """A tag asks for something this recipient's fields do not have; ``variable`` is how the template writes it."""

    def __init__(self, variable: str, where: str) -> None:
        self.variable = variable
        super().__init__(
            f"{variable} has no value",
            where=where,
            mend=f'give it to every recipient or write {variable}|default("...")',
        )


class NotPlainError(Exception):
    """This copy needs the engine. Never leaves the template modules."""


@dataclass(frozen=True, slots=True)
class Slot:
    """``{{ name }}`` with at most ``default("...")``, ``urlencode`` and ``safe``, in this order."""

    name: str
    where: str
    html: bool
    default: str | None = None
    default_if_empty: bool = False
    urlencode: bool = False
    safe: bool = False

    def text(self, fields: Fields) -> str:
        """What it puts out. Raises ``UndefinedVariableError``."""
        value = fields.get(self.name)
        if value is None or (self.default_if_empty and not value):
            if self.default is None:
                raise UndefinedVariableError(self.name, self.where)
            value = self.default
        text = url_encoded(value) if self.urlencode else value if isinstance(value, str) else str(value)
        return str(escape(text)) if self.html and not self.safe else text

    def encoded(self, fields: Fields) -> bytes:
        """The same as a piece of a quoted-printable body."""
        value = fields.get(self.name)
        if isinstance(value, str) and not self.urlencode and (SHORT_HTML if self.html else SHORT).fullmatch(value):
            return value.encode("ascii") + b"=\r\n"
        if self.urlencode and value and value.__class__ is str:
            letters = url_encoded(value)  # ASCII without "=" and without anything to escape
            if len(letters) <= 75:
                return letters.encode("ascii") + b"=\r\n"
        return quoted_printable_piece(self.text(fields))

    def missing(self, fields: Fields) -> bool:
        """Whether ``text`` would raise."""
        return self.default is None and fields.get(self.name) is None


@dataclass(frozen=True, slots=True)
class Choice:
    """``{% if %}``: the first branch whose condition holds; a condition of ``None`` always does."""

    branches: tuple[tuple[Condition | None, tuple[Node, ...]], ...]

    def taken(self, fields: Fields) -> tuple[Node, ...]:
        """The nodes of the branch. Raises ``NotPlainError``."""
        for condition, nodes in self.branches:
            if condition is None or condition(fields):
                return nodes
        return ()


Node = str | bytes | Slot | Choice  # bytes are literals in their encoded form


def slot_of(token: Token, where: str, html: bool) -> Slot | None:
    """The slot that an output tag is, or ``None``."""
    match = _SLOT.fullmatch(token.text) if token.kind is Kind.OUTPUT else None
    if match is None or match["name"] in _RESERVED:
        return None
    default = match["double"] if match["double"] is not None else match["single"]
    return Slot(match["name"], where, html, default, bool(match["empty"]), bool(match["url"]), bool(match["safe"]))


def read_tree(tokens: Sequence[Token], where: str, html: bool) -> tuple[Node, ...] | None:
    """The tree, or ``None`` when a tag is not one of the plain ones. The engine has found the syntax right already."""
    top: list[Node] = []
    # open choices: the list their node goes to, their branches so far, the condition of the branch being read
    opened: list[tuple[list[Node], list[tuple[Condition | None, tuple[Node, ...]]], Condition | None]] = []
    nodes = top
    for token in tokens:
        if token.kind is Kind.TEXT:
            nodes.append(token.text)
        elif token.kind is Kind.OUTPUT:
            slot = slot_of(token, where, html)
            if slot is None:
                return None
            nodes.append(slot)
        else:
            words = token.text.split(None, 1)
            condition = read_condition(words[1]) if len(words) == 2 else None
            if words[0] not in ("if", "elif", "else", "endif") or (len(words) == 2 and condition is None):
                return None
            if words[0] == "if":
                opened.append((nodes, [], condition))
            else:
                parent, branches, open_condition = opened.pop()
                branches.append((open_condition, tuple(nodes)))
                if words[0] == "endif":
                    parent.append(Choice(tuple(branches)))
                    nodes = parent
                    continue
                opened.append((parent, branches, condition))
            nodes = []
    return tuple(top)


def encode_literals(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The same tree with every literal as a piece of a quoted-printable body."""
    return tuple(
        quoted_printable_piece(node)
        if isinstance(node, str)
        else Choice(tuple((condition, encode_literals(branch)) for condition, branch in node.branches))
        if isinstance(node, Choice)
        else node
        for node in nodes
    )


def write_encoded(nodes: Sequence[Node], fields: Fields, out: list[bytes]) -> None:
    """Append the pieces of this copy. Raises ``UndefinedVariableError`` and ``NotPlainError``, having appended some."""
    for node in nodes:
        if isinstance(node, bytes):
            out.append(node)
        elif isinstance(node, Slot):
            out.append(node.encoded(fields))
        elif isinstance(node, Choice):
            write_encoded(node.taken(fields), fields, out)


def slots_in(nodes: Sequence[Node]) -> list[Slot]:
    """All slots, those of every branch included, in order."""
    found: list[Slot] = []
    for node in nodes:
        if isinstance(node, Slot):
            found.append(node)
        elif isinstance(node, Choice):
            for _, branch in node.branches:
                found += slots_in(branch)
    return found


def surely_filled(nodes: Sequence[Node], fields: Fields) -> bool:
    """Whether this copy can be filled for certain; ``False`` means: ask the engine."""
    for node in nodes:
        if isinstance(node, Slot):
            if node.default is None and fields.get(node.name) is None:
                return False
        elif isinstance(node, Choice):
            try:
                taken = node.taken(fields)
            except NotPlainError:
                return False
            if not surely_filled(taken, fields):
                return False
    return True


def read_condition(text: str) -> Condition | None:
    """``name``, ``name is [not] defined``, ``name == "..."``, ``name [not] in ("...", ...)``, with not, and, or.

    ``None`` for anything else.
    """
    words: list[tuple[str, str]] = []
    at = 0
    text = text.strip()
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            return None
        kind = match.lastgroup or ""
        words.append(("text" if kind in ("double", "single") else kind, match[kind]))
        at = match.end()
    reader = _ConditionReader(words)
    try:
        condition = reader.either()
    except NotPlainError:
        return None
    return condition if reader.at_end() else None


class _ConditionReader:
    """Recursive descent over the words of a condition; raises ``NotPlainError`` at what it does not know."""

    def __init__(self, words: list[tuple[str, str]]) -> None:
        self._words = [*words, ("end", "")]
        self._at = 0

    def at_end(self) -> bool:
        return self._words[self._at][0] == "end"

    def _next_is(self, kind: str, text: str) -> bool:
        if self._words[self._at] == (kind, text):
            self._at += 1
            return True
        return False

    def _take(self, kind: str) -> str:
        found, text = self._words[self._at]
        if found != kind or (kind == "name" and text in _RESERVED):
            raise NotPlainError
        self._at += 1
        return text

    def either(self) -> Condition:
        left = self._both()
        while self._next_is("name", "or"):
            left = _or(left, self._both())
        return left

    def _both(self) -> Condition:
        left = self._negated()
        while self._next_is("name", "and"):
            left = _and(left, self._negated())
        return left

    def _negated(self) -> Condition:
        if self._next_is("name", "not"):
            return _not(self._negated())
        return self._test()

    def _test(self) -> Condition:
        name = self._take("name")
        if self._next_is("name", "is"):
            negated = self._next_is("name", "not")
            if self._take("name") != "defined":
                raise NotPlainError
            return _not(_defined(name)) if negated else _defined(name)
        if self._next_is("sign", "=="):
            return _among(name, (self._take("text"),))
        if self._next_is("sign", "!="):
            return _not(_among(name, (self._take("text"),)))
        if self._next_is("name", "in"):
            return _among(name, self._texts())
        if self._next_is("name", "not"):
            if not self._next_is("name", "in"):
                raise NotPlainError
            return _not(_among(name, self._texts()))
        return _truth(name)

    def _texts(self) -> tuple[str, ...]:
        if self._next_is("sign", "("):
            closing = ")"
        elif self._next_is("sign", "["):
            closing = "]"
        else:
            raise NotPlainError
        texts = [self._take("text")]
        while self._next_is("sign", ","):
            texts.append(self._take("text"))
        if not self._next_is("sign", closing) or (closing == ")" and len(texts) == 1):  # ("a") is a text, not a tuple
            raise NotPlainError
        return tuple(texts)


def _defined(name: str) -> Condition:
    return lambda fields: fields.get(name) is not None


def _truth(name: str) -> Condition:
    def test(fields: Fields) -> bool:
        value = fields.get(name)
        if not isinstance(value, str | int):
            raise NotPlainError
        return bool(value)

    return test


def _among(name: str, texts: tuple[str, ...]) -> Condition:
    def test(fields: Fields) -> bool:
        value = fields.get(name)
        if not isinstance(value, str):
            raise NotPlainError
        return value in texts

    return test


def _not(inner: Condition) -> Condition:
    return lambda fields: not inner(fields)


def _and(left: Condition, right: Condition) -> Condition:
    return lambda fields: left(fields) and right(fields)


def _or(left: Condition, right: Condition) -> Condition:
    return lambda fields: left(fields) or right(fields)
