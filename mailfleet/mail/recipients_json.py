"""Recipient lists as JSON: one object a line (NDJSON), or one array of objects, split without loading the array.

An object is flat (``{"email": "ann@example.org", "city": "Oslo"}``) or has its own ``fields`` object beside ``address``
and ``name``; the members of ``fields`` then stand beside the others. A plain string is an address alone.
"""

from __future__ import annotations

import re

import orjson

from mailfleet.base.errors import InputError, Problem
from mailfleet.mail.recipients_row import (
    MAX_COLUMNS,
    MAX_ROW_BYTES,
    RecipientRow,
    alias_of,
    bad_byte,
    find_address_column,
    nul,
    row_of,
    shortened,
    too_long,
)

Read = RecipientRow | Problem
_OUTSIDE = re.compile(rb'(?s)"(?:[^"\\]++|\\.)*+"|["{}\[\],]')  # a whole string, or what may start or end something
_IN_STRING = re.compile(rb'["\\]')
_BLANK = b" \t\r\n"


class ObjectRows:
    """Turns objects into rows, remembering which keys are the address and what their aliases are."""

    def __init__(self, address_column: str) -> None:
        self._wanted = address_column
        self._column: dict[tuple[str, ...], str | None] = {}
        self._alias: dict[str, str] = {}

    def read(self, number: int, source: bytes) -> Read:
        """One record's bytes to a row; ``number`` is its line or its place in the array."""
        try:
            value = orjson.loads(source)
        except orjson.JSONDecodeError as error:
            return _unreadable(number, source, error)
        if b"\\u0000" in source:
            return nul(number, source.decode())
        return self.row(number, value)

    def row(self, number: int, value: object) -> Read:
        """One parsed record to a row."""
        if isinstance(value, str):
            return row_of(number, "", value, {"email": value.strip()})
        if not isinstance(value, dict):
            return Problem(number, "not-an-object", "the record is not an object", mend='write {"email": "..."}')
        fields: dict[str, object] = value
        nested = value.get("fields")
        if isinstance(nested, dict):
            fields = {**nested, **{key: member for key, member in value.items() if key != "fields"}}
        if len(fields) > MAX_COLUMNS:
            return Problem(
                number, "too-many-fields", f"the record has more than {MAX_COLUMNS} fields", mend="remove some"
            )
        column = self._address_key(fields)
        if column is None:
            what = f"there is no field {self._wanted!r}" if self._wanted else "no field is named like an address"
            found = shortened(", ".join(fields), 200)
            return Problem(
                number,
                "missing-address",
                f"{what}; the fields are: {found}",
                mend="call it email, or name it with address_column",
            )
        for key in list(fields):
            alias = self._alias_of(key)
            if alias:
                fields.setdefault(alias, fields[key])
        return row_of(number, column, fields[column], fields)

    def _address_key(self, fields: dict[str, object]) -> str | None:
        keys = tuple(fields)
        if keys not in self._column:
            if len(self._column) > 1000:  # a list whose every record has other keys
                self._column.clear()
            self._column[keys] = find_address_column(keys, self._wanted)
        return self._column[keys]

    def _alias_of(self, key: str) -> str:
        alias = self._alias.get(key)
        if alias is None:
            if len(self._alias) > 10_000:
                self._alias.clear()
            alias = self._alias[key] = alias_of(key)
        return alias


class NdjsonRows:
    """One object a line. Lines come as bytes; ``None`` stands for a line that was too long to keep."""

    def __init__(self, objects: ObjectRows) -> None:
        self._objects = objects
        self._line = 0

    def take(self, lines: list[bytes | None]) -> list[Read]:
        """Read the next lines, without their ends."""
        found: list[Read] = []
        for line in lines:
            self._line += 1
            if line is None or len(line) > MAX_ROW_BYTES:
                found.append(too_long(self._line))
            elif line.strip(_BLANK):
                found.append(self._objects.read(self._line, line))
        return found


class ArraySplitter:
    """Splits a JSON array into its elements, any bytes at a time, holding one element at most."""

    def __init__(self, objects: ObjectRows) -> None:
        self._objects = objects
        self._element = bytearray()
        self._overlong = False
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._started = False
        self._ended = False
        self._number = 0

    def feed(self, data: bytes) -> list[Read]:
        """Read on. Raises ``InputError`` when this is no array."""
        found: list[Read] = []
        at = 0
        if not self._started:
            at = len(data) - len(data.lstrip(_BLANK))
            if at == len(data):
                return found
            if data[at : at + 1] != b"[":
                raise InputError(
                    "the list is not a JSON array",
                    mend="send [ {...}, {...} ], or one object a line as application/x-ndjson",
                )
            self._started, self._depth, at = True, 1, at + 1
        return self._split(data, at, found)

    def close(self) -> list[Read]:
        """The list has ended. Raises ``InputError`` when the array has not."""
        if not self._started:
            raise InputError("the list is empty", mend="send [ {...}, {...} ]")
        if not self._ended:
            raise InputError(
                "the JSON array is not closed", where=f"record {self._number + 1}", mend="check that the list is whole"
            )
        return []

    def _split(self, data: bytes, at: int, found: list[Read]) -> list[Read]:
        """Go from byte to byte that matters; an element is cut off at the comma or bracket behind it."""
        start = at  # of the element, or of the part of it that is in ``data``
        while at < len(data) and not self._ended:
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            match = (_IN_STRING if self._in_string else _OUTSIDE).search(data, at)
            if match is None:
                break
            at, mark = match.end(), match[0]
            if self._in_string:
                self._escaped = self._in_string = mark == b"\\"
            elif mark[:1] == b'"':
                self._in_string = len(mark) == 1  # else the string is whole
            elif mark in b"{[":
                self._depth += 1
            elif mark in b"}]":
                self._depth -= 1
                self._ended = self._depth == 0
            if self._ended or (mark == b"," and self._depth == 1):
                self._keep(data[start : at - 1])
                self._end_element(found)
                start = at
        if self._ended and data[start:].strip(_BLANK):
            raise InputError("something follows the end of the JSON array", mend="send one array")
        self._keep(data[start:])
        return found

    def _keep(self, piece: bytes) -> None:
        if not self._overlong:
            self._element += piece if self._element else piece.lstrip(_BLANK)
            self._overlong = len(self._element) > MAX_ROW_BYTES
        if self._overlong:
            self._element.clear()

    def _end_element(self, found: list[Read]) -> None:
        source = bytes(self._element)
        self._element.clear()
        overlong, self._overlong = self._overlong, False
        if self._ended and not source and not overlong and self._number == 0:
            return  # []
        self._number += 1
        found.append(too_long(self._number) if overlong else self._objects.read(self._number, source))


def _unreadable(number: int, source: bytes, error: orjson.JSONDecodeError) -> Problem:
    try:
        source.decode()
    except UnicodeDecodeError as wrong:
        return bad_byte(number, source[wrong.start], source.decode("utf-8", "replace"))
    return Problem(
        number, "bad-json", f"not valid JSON: {error.msg}", mend="write one object", value=shortened(source.decode())
    )
