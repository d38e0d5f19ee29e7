"""The recipient-list reader: bytes in, rows and problems out, for CSV, NDJSON and JSON arrays, in bounded memory.

Encoding and line ends are dealt with here; the syntaxes are in ``recipients_csv`` and ``recipients_json``.
"""

from __future__ import annotations

from typing import Literal

from mailfleet.base.errors import InputError, Problem
from mailfleet.mail.recipients_csv import CsvRows
from mailfleet.mail.recipients_json import ArraySplitter, NdjsonRows, ObjectRows
from mailfleet.mail.recipients_row import MAX_CELL_BYTES, MAX_COLUMNS, MAX_ROW_BYTES, RecipientRow

__all__ = [
    "MAX_CELL_BYTES",
    "MAX_COLUMNS",
    "MAX_ROW_BYTES",
    "ListKind",
    "ObjectRows",
    "RecipientReader",
    "RecipientRow",
    "list_kind",
]

ListKind = Literal["csv", "ndjson", "json"]
_BOM = b"\xef\xbb\xbf"
_BY_TYPE: dict[str, ListKind] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "application/json": "json",
}
_BY_SUFFIX: dict[str, ListKind] = {
    "csv": "csv",
    "tsv": "csv",
    "txt": "csv",
    "ndjson": "ndjson",
    "jsonl": "ndjson",
    "json": "json",
}


def list_kind(content_type: str, filename: str) -> ListKind:
    """Which kind of list this is: by its media type, or by its file name where that says nothing. Raises ``InputError``."""
    kind = _BY_TYPE.get(content_type.partition(";")[0].strip().lower())
    if kind is None and "." in filename:
        kind = _BY_SUFFIX.get(filename.rpartition(".")[2].strip().lower())
    if kind is None:
        raise InputError(
            f"the recipient list is of an unknown kind ({content_type or 'no media type'}, {filename or 'no file name'})",
            where="recipients",
            mend="send it as text/csv, application/x-ndjson or application/json",
        )
    return kind


class RecipientReader:
    """Reads one list. ``feed`` any bytes, then ``close``; rows and problems come in order of line.

    Raises ``InputError`` when the list as a whole cannot be read: UTF-16, no header row, no address column, no array. What is
    wrong with one row is a ``Problem`` and reading goes on. Addresses are checked (``Address.parse``); duplicates are not.
    """

    def __init__(self, kind: ListKind, *, address_column: str = "") -> None:
        objects = ObjectRows(address_column)
        self._csv = CsvRows(address_column) if kind == "csv" else None
        self._array = ArraySplitter(objects) if kind == "json" else None
        self._ndjson = NdjsonRows(objects)
        self._head: bytearray | None = bytearray()  # the first three bytes, until they are known
        self._buffer = bytearray()
        self._dropping = False

    def feed(self, data: bytes) -> list[RecipientRow | Problem]:
        """Read on; what could be read whole by now."""
        if self._head is not None:
            self._head += data
            if len(self._head) < len(_BOM):
                return []
            data = self._without_bom(bytes(self._head))
        return self._read(data)

    def close(self) -> list[RecipientRow | Problem]:
        """The list has ended: what was still open."""
        found = self._read(self._without_bom(bytes(self._head))) if self._head is not None else []
        if self._array is not None:
            return found + self._array.close()
        if self._buffer or self._dropping:
            found += self._take(b"\n" if not self._buffer.endswith(b"\r") else b"", last=True)
        return found + (self._csv.close() if self._csv else [])

    def _without_bom(self, head: bytes) -> bytes:
        self._head = None
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError("the list is UTF-16", mend='save it as UTF-8 (in a spreadsheet: "CSV UTF-8")')
        return head.removeprefix(_BOM)

    def _read(self, data: bytes) -> list[RecipientRow | Problem]:
        return self._array.feed(data) if self._array is not None else self._take(data)

    def _take(self, data: bytes, *, last: bool = False) -> list[RecipientRow | Problem]:
        """Cut whole lines off: LF, CRLF or CR. A CR that came last waits for what follows."""
        buffer = self._buffer
        seen = max(0, len(buffer) - 1)
        buffer += data
        cut = 1 + max(buffer.rfind(b"\n", seen), buffer.rfind(b"\r", seen, len(buffer) - (not last)))
        lines: list[bytes | None] = []
        if cut:
            lines = list(bytes(buffer[:cut]).splitlines())
            del buffer[:cut]
            if self._dropping:
                lines[0], self._dropping = None, False
        if len(buffer) > MAX_ROW_BYTES + 1:
            # Kept back is a CR, if there is one: it ends the line that is dropped.
            self._dropping = True
        if self._dropping:
            del buffer[: len(buffer) - buffer.endswith(b"\r")]
        return self._rows(lines, cut)

    def _rows(self, lines: list[bytes | None], size: int) -> list[RecipientRow | Problem]:
        if self._csv is None:
            return self._ndjson.take(lines)
        texts = [
            None if line is None or len(line) > MAX_ROW_BYTES else line.decode("utf-8", "surrogateescape")
            for line in lines
        ]
        return self._csv.take(texts, size)
