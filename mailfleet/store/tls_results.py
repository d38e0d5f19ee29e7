"""What came of securing sessions, by day and recipient domain, and how the reports on it stand (RFC 8460).

A count is the sum of its parts, as in ``counts``: each process adds to a part of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from mailfleet.store.database import Tx
from mailfleet.store.statements import Pair

MAX_KINDS = 300  # of one domain on one day; more are counted without saying which policy, host and address


class Key(NamedTuple):
    """What is counted apart. ``result`` is empty for success, and then so is everything after it."""

    day: int
    domain: str
    policy_type: str
    policy_domain: str
    policy_id: str  # a digest of the policy's text; empty where there is none
    result: str
    reason: str = ""
    mx_host: str = ""
    our_ip: str = ""
    remote_ip: str = ""


class Result(NamedTuple):
    """A count. ``policy``: its lines."""

    key: Key
    policy: str
    sessions: int


class Due(NamedTuple):
    """The report on a day of a domain is to be made at ``due_ms``.

    ``state``: ``waiting``, ``posting`` (to the ``urls`` that are left), ``sent``, ``unasked``, ``failed``.
    """

    day: int
    domain: str
    due_ms: int
    state: str = "waiting"
    urls: tuple[str, ...] = ()


_COLUMNS = ", ".join(Key._fields)
_UPSERT = f"ON CONFLICT ({_COLUMNS}, part) DO UPDATE SET n = tls_result.n + excluded.n"
_TYPES = "?::bigint[], " + "?::text[], " * (len(Key._fields) - 1)
_ADD = Pair(
    f"INSERT INTO tls_result ({_COLUMNS}, policy, part, n) VALUES ({'?, ' * len(Key._fields)}?, ?, ?) {_UPSERT}",
    f"INSERT INTO tls_result ({_COLUMNS}, policy, part, n)"
    f" SELECT * FROM unnest({_TYPES}?::text[], ?::bigint[], ?::bigint[]) {_UPSERT}",
)
_ADD_REPORT = Pair(
    "INSERT INTO tls_report (day, domain, due_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    "INSERT INTO tls_report (day, domain, due_ms) SELECT * FROM unnest(?::bigint[], ?::text[], ?::bigint[])"
    " ON CONFLICT DO NOTHING",
)


def add(tx: Tx, counts: Mapping[Key, int], policies: Mapping[str, str], reports: Sequence[Due]) -> None:
    """Count more of each; ``policies``: ``policy_id -> lines``. Each of the ``reports`` is due once, whoever names it."""
    bounded: Counter[Key] = Counter()
    crowded: dict[tuple[int, str], int] = {}
    for key, n in counts.items():
        place = (key.day, key.domain)
        if key.policy_id or key.result:
            if place not in crowded:
                found = tx.value("SELECT count(*) FROM tls_result WHERE day = ? AND domain = ?", place)
                crowded[place] = int(found or 0)
            crowded[place] += 1
        bounded[_folded(key) if crowded.get(place, 0) > MAX_KINDS else key] += n
    made = sorted((*key, policies.get(key.policy_id, ""), tx.part, n) for key, n in bounded.items())
    if made:
        tx.batch(_ADD, made)
        tx.batch(_ADD_REPORT, sorted((one.day, one.domain, one.due_ms) for one in reports))


def of_day(tx: Tx, day: int, domain: str) -> list[Result]:
    """All results of a domain on a day."""
    return _read(tx, "day = ? AND domain = ?", (day, domain), 10_000)


def since(tx: Tx, day: int, domain: str | None, limit: int) -> list[Result]:
    """Results from a day on, newest days first, of one domain or of all."""
    if domain is None:
        return _read(tx, "day >= ?", (day,), limit)
    return _read(tx, "day >= ? AND domain = ?", (day, domain), limit)


def due(tx: Tx, now_ms: int, limit: int) -> list[Due]:
    """Reports that are to be made, or posted, now."""
    found = tx.rows(
        "SELECT day, domain, due_ms, state, urls FROM tls_report WHERE due_ms > 0 AND due_ms <= ? ORDER BY due_ms LIMIT ?",
        (now_ms, limit),
    )
    return [
        Due(int(day), str(domain), int(due_ms), str(state), tuple(orjson.loads(urls)))
        for day, domain, due_ms, state, urls in found
    ]


def states(tx: Tx, day: int, domain: str | None, limit: int) -> dict[tuple[int, str], str]:
    """``(day, domain) -> state`` of the reports from a day on, of one domain or of all."""
    only = "" if domain is None else " AND domain = ?"
    found = tx.rows(
        f"SELECT day, domain, state FROM tls_report WHERE day >= ?{only} ORDER BY day DESC, domain LIMIT ?",
        (day, *([] if domain is None else [domain]), limit),
    )
    return {(int(row[0]), str(row[1])): str(row[2]) for row in found}


def move(tx: Tx, before: Due, state: str, *, due_ms: int = 0, urls: Sequence[str] = ()) -> bool:
    """From the state in which it was seen to another; false when somebody else did so. ``due_ms`` 0: nothing more is done."""
    changed = tx.run(
        "UPDATE tls_report SET state = ?, due_ms = ?, urls = ? WHERE day = ? AND domain = ? AND state = ? AND due_ms = ?",
        (state, due_ms, orjson.dumps(list(urls)).decode(), before.day, before.domain, before.state, before.due_ms),
    )
    return changed > 0


def has_before(tx: Tx, day: int) -> bool:
    """Whether there is something of earlier days."""
    found = [tx.value(f"SELECT 1 FROM {table} WHERE day < ? LIMIT 1", (day,)) for table in ("tls_result", "tls_report")]
    return any(found)


def forget(tx: Tx, before_day: int, limit: int = 2000) -> int:
    """Remove what is of earlier days, some at a time; returns how many rows went."""
    key = f"{_COLUMNS}, part"
    gone = tx.run(
        f"DELETE FROM tls_result WHERE ({key}) IN (SELECT {key} FROM tls_result WHERE day < ? LIMIT ?)",
        (before_day, limit),
    )
    return gone + tx.run(
        "DELETE FROM tls_report WHERE (day, domain) IN (SELECT day, domain FROM tls_report WHERE day < ? LIMIT ?)",
        (before_day, limit),
    )


def _read(tx: Tx, where: str, values: tuple[object, ...], limit: int) -> list[Result]:
    found = tx.rows(
        f"SELECT {_COLUMNS}, max(policy), CAST(sum(n) AS BIGINT) FROM tls_result WHERE {where} GROUP BY {_COLUMNS}"
        f" ORDER BY day DESC, {_COLUMNS.removeprefix('day, ')} LIMIT ?",
        (*values, limit),
    )
    return [Result(Key(*row[:-2]), row[-2], int(row[-1])) for row in found]


def _folded(key: Key) -> Key:
    return Key(key.day, key.domain, key.policy_type, key.domain, "", key.result)
