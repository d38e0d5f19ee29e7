"""Templates: one text with tags, filled from one recipient's fields. The language is minijinja's, in a closed box.

Three ways of rendering give the same text. A template of plain values and conditions is walked as a tree of encoded pieces
(``template_tree``); one whose literals go straight to the output is rendered by the engine over literals that were encoded
once; any other is rendered whole and encoded afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup, escape
from minijinja import Environment, TemplateError

from mailfleet.base.errors import InputError
from mailfleet.mail.encode import quoted_printable, quoted_printable_piece
from mailfleet.mail.template_engine import (
    STRING,
    UndefinedInputError,
    check_filters,
    check_syntax,
    defined_by_names,
    end_with_line_end,
    environment,
    expression_of,
    fuel_for,
    goes_straight,
)
from mailfleet.mail.template_syntax import Kind, Token, tokenize
from mailfleet.mail.template_tree import (
    SHORT,
    SHORT_HTML,
    Choice,
    Node,
    NotPlainError,
    Slot,
    UndefinedVariableError,
    encode_literals,
    read_tree,
    slots_in,
    surely_filled,
    write_encoded,
)

MAX_OUTPUT = 5_000_000  # characters of one rendered part
MAX_SOURCE = 5_000_000
_MAX_CACHED = 1024
_MAX_NAMED = 50  # undefined variables told of one recipient

_NAME_IN_DETAIL = re.compile(r"`(.+)` is undefined", re.DOTALL)
_CONDITION = re.compile(r"\b(?:if|or|and)\b")


class Template:
    """One part of a content. ``where`` names it in errors: ``subject``, ``html``, ``text``, ``header X-Foo``.

    ``html`` escapes values unless they go through ``|safe``. ``body`` makes the output end in a line end and gives it an
    encoded form. With ``templated`` false the source is the output. Immutable but for caches; not for two threads at once.
    Raises ``InputError`` for a source that does not parse.
    """

    def __init__(
        self, source: str, *, where: str, html: bool = False, body: bool = False, templated: bool = True
    ) -> None:
        if len(source) > MAX_SOURCE:
            raise InputError(
                f"longer than {MAX_SOURCE} characters", where=where, mend="host large data elsewhere and link to it"
            )
        self.where = where
        self._html = html
        self._tokens = tokenize(source, where) if templated else [Token(Kind.TEXT, source)] if source else []
        if templated and len(self._tokens) > (1 if self._tokens and self._tokens[0].kind is Kind.TEXT else 0):
            check_syntax(source, where)
            check_filters(source, self._tokens, where)
        if body:
            end_with_line_end(self._tokens)
        self._tree = read_tree(self._tokens, where, html)
        plain = self._tree is not None and not any(isinstance(node, Choice) for node in self._tree)
        self.slots = [node for node in self._tree or () if isinstance(node, str | Slot)] if plain else None
        self._encoded_tree = encode_literals(self._tree) if body and self._tree is not None else ()
        self._straight = body and self.slots is None and goes_straight(self._tokens)
        self._left = 0
        self._by_names = self.slots is None and defined_by_names(self._tokens)
        self._by_key_set = self._by_names and all(
            token.kind is not Kind.BLOCK and not _CONDITION.search(STRING.sub("", token.text))
            for token in self._tokens
            if token.kind is not Kind.TEXT
        )
        self._known: dict[frozenset[str], list[str]] = {}
        self._plain: Environment | None = None
        self._encoded: Environment | None = None
        self.variables = self._find_variables()

    @property
    def static(self) -> bool:
        """Every recipient gets the same."""
        return not self._tokens or (len(self._tokens) == 1 and self._tokens[0].kind is Kind.TEXT)

    def _find_variables(self) -> frozenset[str]:
        if self.slots is not None:
            return frozenset(slot.name for slot in slots_in(self.slots))
        engine = self._plain_engine()
        return frozenset(engine.undeclared_variables_in_str(self._source()) - set(engine.globals))

    def _source(self) -> str:
        return "".join(token.source for token in self._tokens)

    def _plain_engine(self) -> Environment:
        if self._plain is None:
            self._plain = self._engine(self._source(), self._finish)
        return self._plain

    def _encoded_engine(self) -> Environment:
        if self._encoded is None:
            source = "".join(
                quoted_printable_piece(token.text).decode("ascii") if token.kind is Kind.TEXT else token.source
                for token in self._tokens
            )
            self._encoded = self._engine(source, self._finish_encoded)
        return self._encoded

    def _engine(self, source: str, finish: Callable[[object], Markup]) -> Environment:
        engine = environment(self._html, finish)
        engine.fuel = fuel_for(self._tokens)
        engine.add_template("part", source)
        return engine

    def _finish(self, value: object) -> Markup:
        """What the engine puts out for a value: null is nothing, text is escaped in HTML unless marked safe."""
        if value is None:
            return Markup()
        text = escape(value) if self._html else Markup(value)  # noqa: S704  # escaped above where it is HTML
        self._spend(len(text))
        return text

    def _finish_encoded(self, value: object) -> Markup:
        if isinstance(value, str) and (SHORT_HTML if self._html else SHORT).fullmatch(value):
            self._spend(len(value))
            return str.__new__(Markup, f"{value}=\r\n")
        return Markup(quoted_printable_piece(str(self._finish(value))).decode("ascii"))  # noqa: S704  # already escaped

    def _spend(self, characters: int) -> None:
        self._left -= characters
        if self._left < 0:
            raise self._too_large()

    def render(self, fields: Mapping[str, object]) -> str:
        """The text for one recipient. A field that is ``None`` counts as absent.

        Raises ``UndefinedVariableError``, and ``InputError`` for what else goes wrong while filling.
        """
        if self._tree is not None:
            out: list[str] = []
            try:
                self._write(self._tree, fields, out)
            except NotPlainError:
                return self._run(self._plain_engine(), fields)
            return "".join(out)
        return self._run(self._plain_engine(), fields)

    def _write(self, nodes: Sequence[Node], fields: Mapping[str, object], out: list[str]) -> None:
        for node in nodes:
            if isinstance(node, str):
                out.append(node)
            elif isinstance(node, Slot):
                out.append(node.text(fields))
            elif isinstance(node, Choice):
                self._write(node.taken(fields), fields, out)

    def render_encoded(self, fields: Mapping[str, object]) -> bytes:
        """The same as a quoted-printable body part with CRLF line ends. Raises like ``render``."""
        if self._encoded_tree:
            out: list[bytes] = []
            try:
                write_encoded(self._encoded_tree, fields, out)
            except NotPlainError:
                pass
            else:
                return b"".join(out)
        if self._straight:
            try:
                return self._run(self._encoded_engine(), fields).encode("ascii")
            except UndefinedVariableError:
                raise
            except InputError:
                self.render(fields)  # says what is wrong in the words of the source
                raise
        return quoted_printable(self.render(fields))

    def _run(self, engine: Environment, fields: Mapping[str, object]) -> str:
        if None in fields.values():
            fields = {name: value for name, value in fields.items() if value is not None}
        self._left = MAX_OUTPUT
        try:
            text = engine.render_template("part", **fields)
        except TemplateError as error:
            raise self._explained(error) from None
        except UndefinedInputError as error:
            raise UndefinedVariableError(self._input_of(error.filters, fields), self.where) from None
        except InputError:
            raise
        except Exception as error:  # a method of a list or dict that a tag called may raise anything
            raise InputError(
                f"a tag failed: {error!r}", where=self.where, mend="correct the tag or the value"
            ) from None
        if len(text) > MAX_OUTPUT * (3 if engine is self._encoded else 1):
            raise self._too_large()
        return text

    def _input_of(self, filters: tuple[str, ...], fields: Mapping[str, object]) -> str:
        """The first name that goes into one of ``filters`` and is not there, as the template writes it."""
        pattern = re.compile(rf"([A-Za-z_][\w.]*)\s*\|\s*(?:{'|'.join(filters)})\b")
        names = [name for token in self._tokens if token.kind is not Kind.TEXT for name in pattern.findall(token.text)]
        absent = [name for name in names if fields.get(name.partition(".")[0]) is None]
        return next(iter(absent or names), f"what goes into {filters[0]}")

    def _too_large(self) -> InputError:
        return InputError(f"filled in, it is longer than {MAX_OUTPUT} characters", where=self.where, mend="shorten it")

    def _explained(self, error: TemplateError) -> InputError:
        expression = expression_of(error)
        if error.kind == "UndefinedError":
            named = _NAME_IN_DETAIL.fullmatch(error.detail or "")
            return UndefinedVariableError(named[1] if named else expression or "a value", self.where)
        if error.kind == "OutOfFuel":
            return InputError(
                "filling it takes more steps than one message may", where=self.where, mend="make its loops shorter"
            )
        what = error.detail or error.message
        return InputError(
            f"{what}, in {expression!r}" if expression else what, where=self.where, mend="correct the tag or the value"
        )

    def undefined(self, fields: Mapping[str, object]) -> list[str]:
        """Names of what this recipient's copy would miss, in order of meeting; empty when it can be filled.

        Raises ``InputError`` when filling fails for another reason.
        """
        if self._tree is not None and surely_filled(self._tree, fields):
            return []
        if self.slots is not None:
            return list(dict.fromkeys(slot.name for slot in slots_in(self.slots) if slot.missing(fields)))
        if self._by_names and all(fields.get(name) is not None for name in self.variables):
            return []
        if not self._by_key_set:
            return self._try_all(fields)
        keys = frozenset(name for name in self.variables if fields.get(name) is not None)
        known = self._known.get(keys)
        if known is None:
            known = self._try_all(fields)
            if len(self._known) < _MAX_CACHED:
                self._known[keys] = known
        return known

    def _try_all(self, fields: Mapping[str, object]) -> list[str]:
        missing: list[str] = []
        tried = dict(fields)
        while len(missing) < _MAX_NAMED:
            try:
                self._run(self._plain_engine(), tried)
            except UndefinedVariableError as error:
                top = re.split(r"[.\[(]", error.variable, maxsplit=1)[0]
                if error.variable not in missing:
                    missing.append(error.variable)
                if tried.get(top) is not None or not top.isidentifier():
                    return missing
                tried[top] = _Anything()
            except InputError:
                if missing:
                    return missing
                raise
            else:
                return missing
        return missing


class _Anything:
    """Stands in for an undefined variable so that those behind it are found too."""

    def __getattr__(self, name: str) -> _Anything:
        if name.startswith("_"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: object) -> _Anything:
        if isinstance(key, int):
            raise IndexError(key)
        return self

    def __str__(self) -> str:
        return ""
