"""Recipient lists as CSV (RFC 4180, and what spreadsheets really write). Text lines in, rows and problems out.

The header row names the columns; the delimiter is the one of comma, semicolon and tab that it has most of (or what a first
line ``sep=;`` says). Cells without quotes are trimmed, cells in quotes are taken as they are, with line ends as LF. Blank
lines count as lines but not as rows. A row with fewer cells than columns lacks the last ones; more cells is a problem.
A quote that never ends costs its own row only: reading goes on at the next line.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from mailfleet.base.errors import InputError, Problem
from mailfleet.mail.recipients_row import (
    MAX_CELL_BYTES,
    MAX_COLUMNS,
    MAX_ROW_BYTES,
    RecipientRow,
    aliases_of,
    bad_byte,
    find_address_column,
    nul,
    row_of,
    shortened,
    too_long,
)

Read = RecipientRow | Problem
_DELIMITERS = ",;\t"
_UNFIT = re.compile("[\\0\udc80-\udcff]")
_RESCAN_FLOOR_BYTES = 8 * 1024 * 1024


class StrayQuoteError(Exception):
    """Text stands between a closing quote and the next delimiter."""


class OpenRecord:
    """A record while its lines come in. ``lines`` are kept so that reading can restart behind a quote that never ends."""

    __slots__ = ("_delimiter", "cells", "lines", "open", "size")

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self.open: list[str] | None = None  # pieces of the quoted cell that is open
        self.cells: list[str] = []
        self.lines: list[str] = []
        self.size = 0

    def add(self, line: str) -> bool:
        """Take one physical line; true when the record ends with it. Raises ``StrayQuoteError``."""
        self.lines.append(line)
        self.size += len(line) + 1
        at = 0
        if self.open is not None:
            self.open.append("\n")
            at = self._quoted(self.open, line, 0)
        while at >= 0:
            start = at
            while line[start : start + 1] == " ":
                start += 1
            if line[start : start + 1] == '"':
                self.open = []
                at = self._quoted(self.open, line, start + 1)
            else:
                end = line.find(self._delimiter, at)
                self.cells.append((line[at:] if end < 0 else line[at:end]).strip())
                at = end + 1 if end >= 0 else -1
        return self.open is None

    def _quoted(self, cell: list[str], line: str, at: int) -> int:
        """Read on inside a quoted cell; where the next cell starts, or -1 at the end of the line (cell open or not)."""
        while True:
            quote = line.find('"', at)
            if quote < 0:
                cell.append(line[at:])
                return -1
            cell.append(line[at:quote])
            if line[quote + 1 : quote + 2] != '"':
                break
            cell.append('"')
            at = quote + 2
        self.cells.append("".join(cell))
        self.open = None
        rest = quote + 1
        while line[rest : rest + 1] == " ":
            rest += 1
        if rest == len(line):
            return -1
        if line[rest] != self._delimiter:
            raise StrayQuoteError
        return rest + 1


class CsvRows:
    """Turns physical lines into rows. Raises ``InputError`` for a header that cannot work."""

    def __init__(self, address_column: str) -> None:
        self._wanted = address_column
        self._delimiter = ""
        self._names: list[str] = []
        self._aliases: dict[str, str] = {}
        self._address = 0
        self._line = 0  # lines consumed
        self._record: OpenRecord | None = None
        self._taken_bytes = 0
        self._rescanned_bytes = 0

    def take(self, lines: Sequence[str | None], size: int) -> list[Read]:
        """Read the next lines, without their ends; ``None`` stands for a line that was too long to keep.

        Undecodable bytes are in the lines as surrogates (``surrogateescape``). ``size`` is how many bytes they were.
        """
        self._taken_bytes += size
        found: list[Read] = []
        ahead = deque(lines)
        while ahead:
            line = ahead.popleft()
            self._line += 1
            if line is None:
                if not self._names and self._record is None:
                    raise InputError(
                        "the first line is too long to be a header row",
                        where="header row",
                        mend="its first line names the columns, for example: email,name",
                    )
                if self._record is not None:
                    ahead.appendleft(None)
                    self._line -= 1
                    self._recover(self._record, found, ahead)
                else:
                    found.append(too_long(self._line))
            elif self._record is None and '"' not in line and self._names:
                if line and not line.isspace():
                    found.append(self._row(self._line, line.split(self._delimiter), line, strip=True))
            else:
                self._slowly(line, found, ahead)
        return found

    def close(self) -> list[Read]:
        """The list has ended. Raises ``InputError`` when there was no header."""
        found: list[Read] = []
        while self._record is not None:
            ahead: deque[str | None] = deque()
            self._recover(self._record, found, ahead)
            found += self.take(list(ahead), 0)
        if not self._names:
            raise InputError("the list is empty", mend="its first line names the columns, for example: email,name")
        return found

    def _slowly(self, line: str, found: list[Read], ahead: deque[str | None]) -> None:
        """A line with a quote in it, inside a quoted cell, or before the header is known."""
        if self._record is None:
            if not line or line.isspace():
                return
            if not self._delimiter:
                if line[:4].lower() == "sep=" and line[4:] in tuple(_DELIMITERS):
                    self._delimiter = line[4:]
                    return
                self._delimiter = _sniff(line)
            self._record = OpenRecord(self._delimiter)
        record = self._record
        try:
            done = record.add(line)
        except StrayQuoteError:
            self._recover(record, found, ahead)
            return
        if done:
            self._record = None
            first = self._line - len(record.lines) + 1
            if self._names:
                found.append(self._row(first, record.cells, "\n".join(record.lines), strip=False))
            else:
                self._header(record.cells)
        elif record.size > MAX_ROW_BYTES:
            self._recover(record, found, ahead)

    def _recover(self, record: OpenRecord, found: list[Read], ahead: deque[str | None]) -> None:
        """Give up the open record: one problem for the line it began on, and its other lines are read again."""
        self._record = None
        self._line -= len(record.lines) - 1
        where = f"line {self._line}"
        if not self._names:
            raise InputError("a quote in the header row is never closed", where=where, mend="close it with a quote")
        if len(record.lines) == 1 and record.open is None:
            found.append(_stray_quote(self._line, record.lines[0]))
            return
        found.append(_open_quote(self._line, record.lines[0]))
        self._rescanned_bytes += record.size - len(record.lines[0])
        if self._rescanned_bytes > 4 * self._taken_bytes + _RESCAN_FLOOR_BYTES:
            # Each restart is bounded by MAX_ROW_BYTES, but a list made for it could ask for one on every line.
            raise InputError("too many quotes are never closed", where=where, mend="write a quote inside a cell twice")
        ahead.extendleft(reversed(record.lines[1:]))

    def _header(self, cells: list[str]) -> None:
        names = [_clean_name(cell) for cell in cells]
        if len(names) > MAX_COLUMNS:
            raise InputError(f"the list has more than {MAX_COLUMNS} columns", where="header row", mend="remove some")
        for index, name in enumerate(names):
            where = f"header row, column {index + 1}"
            if not name:
                raise InputError("the column has no name", where=where, mend="name it or remove it")
            if name in names[:index]:
                raise InputError(
                    f"the column {shortened(name)!r} is there twice", where=where, mend="rename one of them"
                )
        column = find_address_column(names, self._wanted)
        if column is None:
            raise _no_address_column(names, self._wanted)
        self._names, self._aliases, self._address = names, aliases_of(names), names.index(column)

    def _row(self, number: int, cells: list[str], line: str, *, strip: bool) -> Read:
        if len(line) > MAX_CELL_BYTES // 4 or _UNFIT.search(line):
            problem = _unfit(number, cells, line, self._names)
            if problem is not None:
                return problem
        names = self._names
        if len(cells) > len(names):
            return Problem(
                number,
                "too-many-cells",
                f"the row has {len(cells)} cells and the header row {len(names)}",
                mend="put quotes around a cell that has the delimiter in it",
                value=shortened(line),
            )
        if strip:
            cells = [cell.strip() for cell in cells]
        fields: dict[str, object] = dict(zip(names, cells, strict=False))
        for alias, name in self._aliases.items():
            if name in fields:
                fields[alias] = fields[name]
        column = names[self._address]
        return row_of(number, column, fields.get(column), fields)


def _sniff(line: str) -> str:
    """The delimiter of a header line: what it has most of outside quotes; a comma when it has none."""
    outside = "".join(line.split('"')[::2])
    return max(_DELIMITERS, key=outside.count)


def _clean_name(cell: str) -> str:
    name = cell.strip()
    if "\0" in name:
        raise InputError("the header row has NUL bytes", mend="save the list as UTF-8, it looks like UTF-16")
    if any("\udc80" <= letter <= "\udcff" for letter in name):
        raise InputError("it is not valid UTF-8", where="header row", mend="save the list as UTF-8")
    return name


def _no_address_column(names: list[str], wanted: str) -> InputError:
    if not wanted and any("@" in name for name in names):
        return InputError(
            "the first line is not a header row: it has an address in it",
            where="line 1",
            mend="add a line before it that names the columns, for example: email,name",
        )
    found = ", ".join(shortened(name, 40) for name in names[:20])
    what = f"there is no column {wanted!r}" if wanted else "no column is named like an address"
    return InputError(
        f"{what}; the columns are: {found}", where="header row", mend="call it email, or name it with address_column"
    )


def _unfit(number: int, cells: list[str], line: str, names: list[str]) -> Problem | None:
    """What is wrong with a row that is long or has letters that cannot be, if anything is."""
    unfit = _UNFIT.search(line)
    if unfit is not None:
        at = number + line.count("\n", 0, unfit.start())
        return nul(at, line) if unfit[0] == "\0" else bad_byte(at, ord(unfit[0]) - 0xDC00, line)
    if len(line.encode()) > MAX_ROW_BYTES:
        return too_long(number)
    for index, cell in enumerate(cells):
        if len(cell.encode()) > MAX_CELL_BYTES:
            return Problem(
                number,
                "cell-too-long",
                f"a cell is longer than {MAX_CELL_BYTES // 1024} KiB",
                mend="shorten it",
                field=names[index] if index < len(names) else "",
            )
    return None


def _stray_quote(number: int, line: str) -> Problem:
    return Problem(
        number,
        "stray-quote",
        "text stands behind a closing quote",
        mend='inside a quoted cell write a quote twice, for example """ann lee""@example.org"',
        value=shortened(line),
    )


def _open_quote(number: int, line: str) -> Problem:
    return Problem(
        number,
        "open-quote",
        "a quote is opened in this row and never closed",
        mend="close it, or write a quote inside a quoted cell twice",
        value=shortened(line),
    )
