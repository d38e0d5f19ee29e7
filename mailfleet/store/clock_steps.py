"""What is stored as an instant of the machine's clock and has to follow when that clock is set back."""

from __future__ import annotations

from typing import NamedTuple

from mailfleet.base.ids import EPOCH_MS, MADE_SHIFT
from mailfleet.store.database import Tx


class Told(NamedTuple):
    """The newest event, and when it was written by the clock of then; zeros where there is none."""

    id: int
    at_ms: int


# Retries, and mail that was to leave at once: its due time is that of its id. What has a time to send keeps it,
# and so does what was put off after the step, by the clock as it is now: its event is younger than ``told`` and, by its
# time, older than ``since_ms``.
_HURRY = f"""
UPDATE delivery SET due_ms = CASE WHEN due_ms - :step_ms > :now_ms THEN due_ms - :step_ms ELSE :now_ms END WHERE id IN (
  SELECT id FROM delivery WHERE state = 1 AND id > :after AND due_ms > :now_ms AND (
    way > 0
    OR (due_ms - ((id >> {MADE_SHIFT}) + {EPOCH_MS}) BETWEEN -60000 AND 1000
      AND NOT EXISTS (SELECT 1 FROM campaign c WHERE c.id = delivery.campaign_id AND c.send_at_ms IS NOT NULL)))
    AND id NOT IN (SELECT delivery_id FROM event WHERE id > :told AND at_ms < :since_ms)
  ORDER BY id LIMIT :limit
) RETURNING id
"""


def hurry(tx: Tx, *, now_ms: int, step_ms: int, after: int, told: int, since_ms: int, limit: int = 5000) -> int | None:
    """Make up to ``limit`` queued deliveries with an id above ``after`` due ``step_ms`` earlier, but not before now.

    ``told``: the newest event of a time when the clock was not set back yet; ``since_ms``: whatever came after it and says to be
    older was written since. Returns the last id, from which to go on, or None when there are no more.
    """
    values = {"now_ms": now_ms, "step_ms": step_ms, "after": after, "told": told, "since_ms": since_ms, "limit": limit}
    rows = tx.rows(_HURRY, values)
    return max(int(row[0]) for row in rows) if len(rows) == limit else None


def look_up_again(tx: Tx, *, now_ms: int) -> int:
    """Have every domain that waits for its next look-up looked up now; returns how many."""
    return tx.run("UPDATE mail_domain SET next_locate_ms = 1, valid_until_ms = 1 WHERE next_locate_ms > ?", (now_ms,))


def last_told(tx: Tx) -> Told:
    """What was written last."""
    row = tx.row("SELECT id, at_ms FROM event ORDER BY id DESC LIMIT 1")
    return Told(int(row[0]), int(row[1])) if row else Told(0, 0)


def newest_id(tx: Tx) -> int:
    """The greatest id of ours in the tables that grow."""
    tables = ("content", "delivery", "campaign", "flow", "suppression")
    return max(int(tx.value(f"SELECT max(id) FROM {table}") or 0) for table in tables)
