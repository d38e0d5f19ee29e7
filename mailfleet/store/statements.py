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
