"""Which addresses a list has had so far: a private, temporary database that no other process sees and no crash leaves behind.

The list itself is uncommitted as a whole until it is sealed, so nothing of this has to be durable; what does not fit into
memory goes to a temporary file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import apsw

_PRAGMAS = ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", "cache_size=-32768")


class SeenAddresses:
    """The addresses of one list."""

    def __init__(self) -> None:
        self._connection = apsw.Connection("")  # no name: removed by the system with its last descriptor
        for pragma in _PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        self._connection.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY) WITHOUT ROWID")
        self._connection.execute("BEGIN")

    def add(self, keys: Iterable[str]) -> list[bool]:
        """For each address key in turn: is it new? Those that are count as seen from then on."""
        digests = [(hashlib.blake2b(key.encode(), digest_size=16).digest(),) for key in keys]
        added = self._connection.executemany("INSERT OR IGNORE INTO seen VALUES (?) RETURNING digest", digests)
        new = {row[0] for row in added}
        found = []
        for (digest,) in digests:
            found.append(digest in new)
            new.discard(digest)
        return found

    def close(self) -> None:
        """Forget them. Safe to call twice."""
        self._connection.close()
