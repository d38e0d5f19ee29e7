"""Statements as store modules write them: one text for every engine, or two side by side where engines differ.

``?`` takes the next of a sequence, ``:name`` what a mapping has under it. ``= ANY (?)`` takes a list on every engine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import orjson

Engine = Literal["sqlite", "postgres"]
Params = Sequence[Any] | Mapping[str, Any]
Row = tuple[Any, ...]


class Pair(NamedTuple):
    """One statement in two texts, with the same parameters in the same order."""

    sqlite: str
    postgres: str


Sql = str | Pair


def for_update(select: str) -> Pair:
    """Rows that nobody else changes before the commit: for whoever decides by what they are. SQLite has one writer at a time."""
    return Pair(select, f"{select} FOR UPDATE")


_ANY = re.compile(r"= ANY \((\?|:\w+)\)")


@lru_cache(maxsize=2000)
def for_sqlite(sql: Sql) -> str:
    """The text for SQLite, which has no arrays: a list travels as JSON."""
    return _ANY.sub(r"IN (SELECT value FROM json_each(\1))", sql.sqlite if isinstance(sql, Pair) else sql)


def params_for_sqlite(params: Params) -> Params:
    """The same parameters with lists as JSON."""
    if isinstance(params, Mapping):
        if any(type(value) is list for value in params.values()):
            return {key: _json(value) for key, value in params.items()}
    elif any(type(value) is list for value in params):
        return [_json(value) for value in params]
    return params


def _json(value: Any) -> Any:
    return orjson.dumps(value).decode() if type(value) is list else value


class Numbered(NamedTuple):
    """A statement for PostgreSQL: ``$1`` and so on, and for each the name under which a mapping has it."""

    text: str
    names: tuple[str, ...]


# Strings and casts are left alone; what is left are the marks.
_MARK = re.compile(r"'[^']*'|::\w+|\?|:([A-Za-z_]\w*)")


@lru_cache(maxsize=2000)
def for_postgres(sql: Sql) -> Numbered:
    """The text for PostgreSQL."""
    names: list[str] = []
    count = 0

    def number(mark: re.Match[str]) -> str:
        nonlocal count
        if mark[0] == "?":
            count += 1
            return f"${count}"
        if mark[1] is None:
            return mark[0]
        if mark[1] not in names:
            names.append(mark[1])
        return f"${names.index(mark[1]) + 1}"

    text = _MARK.sub(number, sql.postgres if isinstance(sql, Pair) else sql)
    return Numbered(text, tuple(names))


def params_for_postgres(statement: Numbered, params: Params) -> list[Any]:
    """The parameters in the order of the numbers."""
    values = [params[name] for name in statement.names] if isinstance(params, Mapping) else params
    return [_storable(value) for value in values]


def columns_for_postgres(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Rows as an array per column."""
    return [
        [_storable(value) for value in column] if _has_nul(column) else column for column in zip(*rows, strict=True)
    ]


def rows_for_postgres(rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    """Rows as they can be copied in."""
    if any(_has_nul(column) for column in zip(*rows, strict=True)):
        return [[_storable(value) for value in row] for row in rows]
    return rows


def _has_nul(values: Sequence[Any]) -> bool:
    return "\0" in "".join([value for value in values if type(value) is str])


def _storable(value: Any) -> Any:
    """PostgreSQL's text has no place for NUL. What a remote sent must not keep its outcome from being written."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) and "\0" in value else value
