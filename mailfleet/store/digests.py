"""The nightly mail of what changed: for which day it was made last, and which changes it has told of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mailfleet.store.database import Tx
from mailfleet.store.dns import Past


class Made(NamedTuple):
    """The newest digest. ``day`` counts days since 1970; ``content_id`` is 0 where there was nothing to tell."""

    day: int
    at_ms: int
    content_id: int


_PAST = ", ".join(Past._fields)


def newest(tx: Tx) -> Made | None:
    """What was made last."""
    row = tx.row("SELECT day, at_ms, content_id FROM digest ORDER BY at_ms DESC LIMIT 1")
    return Made(*row) if row else None


def made(tx: Tx, one: Made) -> bool:
    """This day's is made, in place of the one before. False where another process was first."""
    tx.run("DELETE FROM digest WHERE day <> ?", (one.day,))
    return bool(
        tx.run("INSERT INTO digest (day, at_ms, content_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", tuple(one))
    )


def untold(tx: Tx, after_ms: int) -> list[Past]:
    """Changes of every domain that no digest has told of, oldest first."""
    rows = tx.rows(f"SELECT {_PAST} FROM domain_check_past WHERE told = 0 AND at_ms > ? ORDER BY id", (after_ms,))
    return [Past(*row) for row in rows]


def told(tx: Tx, past_ids: Sequence[int]) -> None:
    """These have been told of."""
    tx.run("UPDATE domain_check_past SET told = 1 WHERE id = ANY (?)", (list(past_ids),))
