"""Warm-up as rows: how far each source is with each provider, what it may deliver today, and what is under way.

``reserved`` counts deliveries under lease; it changes in the commits that claim, settle and release, and only while a pair is
warming. So a cap holds to the message, over any number of processes and however one of them ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.store import sites
from mailfleet.store.database import Tx
from mailfleet.store.rows import Settlement
from mailfleet.store.statements import for_update

Key = tuple[int, str]
"""``(egress_id, provider)``; the provider is empty for all sites of no known one."""


class Warmup(NamedTuple):
    """How far a source is with a provider."""

    egress_id: int
    provider: str
    plan: str
    state: str  # warming | warm | paused
    stage: int
    cap: int
    day: int
    reserved: int
    last_sent_day: int
    held_until_ms: int
    good_days: int
    reason: str
    since_ms: int
    caution: int = 0

    @property
    def key(self) -> Key:
        """Which pair it is of."""
        return self.egress_id, self.provider


class Day(NamedTuple):
    """What came of a day of a pair, and what followed from it (``move``, empty while it lasts)."""

    egress_id: int
    provider: str
    day: int
    stage: int
    cap: int
    delivered: int
    attempted: int
    deferred: int
    bounced: int
    complained: int
    move: str
    reason: str


_COLUMNS = ", ".join(Warmup._fields)
_DAY_COLUMNS = ", ".join(Day._fields)
_WARMING = for_update(
    f"SELECT {_COLUMNS} FROM warmup WHERE egress_id = ANY (?) AND provider = ANY (?) AND state = 'warming'"
    " ORDER BY egress_id, provider"
)
_HELD = for_update(f"SELECT {_COLUMNS} FROM warmup WHERE egress_id = ? AND provider = ?")


def warming(tx: Tx, keys: Iterable[Key]) -> list[Warmup]:
    """Those of these pairs that are warming up, held until the commit; perhaps some more of the same sources and providers."""
    wanted = set(keys)
    if not wanted:
        return []
    ids, providers = sorted({egress_id for egress_id, _ in wanted}), sorted({provider for _, provider in wanted})
    return [Warmup(*row) for row in tx.rows(_WARMING, (ids, providers))]


def every(tx: Tx) -> list[Warmup]:
    """All pairs, for looking at."""
    return [Warmup(*row) for row in tx.rows(f"SELECT {_COLUMNS} FROM warmup ORDER BY egress_id, provider")]


def get(tx: Tx, key: Key) -> Warmup | None:
    """One pair, held until the commit."""
    row = tx.row(_HELD, key)
    return Warmup(*row) if row else None


def put(tx: Tx, one: Warmup) -> None:
    """A new pair, or all of it anew but what is reserved."""
    changed = [name for name in Warmup._fields[2:] if name != "reserved"]
    tx.run(
        f"INSERT INTO warmup ({_COLUMNS}) VALUES ({', '.join('?' * len(one))}) ON CONFLICT (egress_id, provider)"
        f" DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in changed)}",
        tuple(one),
    )


_LEASED_NOW = (
    "(SELECT count(*) FROM delivery d JOIN site t ON t.id = d.site_id"
    " WHERE d.state = 2 AND d.egress_id = warmup.egress_id AND t.provider = warmup.provider)"
)


def recount(tx: Tx, key: Key) -> None:
    """A pair begins to warm up: what is under lease already is reserved."""
    tx.run(f"UPDATE warmup SET reserved = {_LEASED_NOW} WHERE egress_id = ? AND provider = ?", key)


def reserve(tx: Tx, counts: Mapping[Key, int]) -> None:
    """So many more of each pair are under lease; fewer where the number is negative."""
    for (egress_id, provider), count in sorted(counts.items()):
        tx.run(
            "UPDATE warmup SET reserved = CASE WHEN reserved + ? < 0 THEN 0 ELSE reserved + ? END"
            " WHERE egress_id = ? AND provider = ? AND state = 'warming'",
            (count, count, egress_id, provider),
        )


def given_back(
    tx: Tx, counts: Counter[tuple[int, int]], maybe_taken: Counter[tuple[int, int]] | None = None, day: int = 0
) -> None:
    """So many deliveries of each ``(egress_id, site_id)`` are under lease no more, and were not tried.

    Those of ``maybe_taken`` were, and nobody knows how it ended: they count as delivered, so that a cap holds all the same.
    """
    if not counts:
        return
    providers = sites.providers_of(tx, {site_id for _, site_id in counts})
    keys = {(egress_id, providers.get(site_id, "")) for egress_id, site_id in counts}
    ways = {one.key for one in warming(tx, keys)}
    if not ways:
        return
    back: Counter[Key] = Counter()
    for (egress_id, site_id), count in counts.items():
        key = egress_id, providers.get(site_id, "")
        if key in ways:
            back[key] -= count
    reserve(tx, back)
    taken: Counter[tuple[int, str, int, str]] = Counter()
    for (egress_id, site_id), count in (maybe_taken or Counter()).items():
        key = egress_id, providers.get(site_id, "")
        if key in ways:
            taken[*key, day, "delivered"] += count
            taken[*key, day, "attempted"] += count
    add(tx, taken)


_WORDS = {
    DeliveryState.DELIVERED: "delivered",
    DeliveryState.QUEUED: "deferred",
    DeliveryState.BOUNCED: "bounced",
    DeliveryState.EXPIRED: "deferred",
}


def settled(tx: Tx, settlements: Sequence[Settlement]) -> None:
    """Count what came of attempts, each to the day it was over, and let go of what was reserved.

    Greylisting counts for nothing: it is how every stranger is met.
    """
    keys = Counter((one.claimed.egress_id, one.provider) for one in settlements)
    ways = {one.key for one in warming(tx, keys)}
    if not ways:
        return
    reserve(tx, {key: -count for key, count in keys.items() if key in ways})
    counts: Counter[tuple[int, str, int, str]] = Counter()
    for one in settlements:
        egress_id, provider = one.claimed.egress_id, one.provider
        if (egress_id, provider) in ways and one.reached and one.bounce_class != "greylisted":
            counts[egress_id, provider, one.day, "attempted"] += 1
            counts[egress_id, provider, one.day, _WORDS[one.state]] += 1
    add(tx, counts)


def add(tx: Tx, counts: Mapping[tuple[int, str, int, str], int]) -> None:
    """Add to the days of pairs: ``(egress_id, provider, day, delivered | attempted | deferred | bounced | complained)``."""
    for (egress_id, provider, day, word), count in sorted(counts.items()):
        tx.run(
            f"INSERT INTO warmup_day (egress_id, provider, day, {word}) VALUES (?, ?, ?, ?)"
            f" ON CONFLICT (egress_id, provider, day) DO UPDATE SET {word} = warmup_day.{word} + excluded.{word}",
            (egress_id, provider, day, count),
        )


def day(tx: Tx, key: Key, number: int) -> Day:
    """What is counted of a day so far."""
    row = tx.row(
        f"SELECT {_DAY_COLUMNS} FROM warmup_day WHERE egress_id = ? AND provider = ? AND day = ?", (*key, number)
    )
    return Day(*row) if row else Day(*key, number, 0, 0, 0, 0, 0, 0, 0, "", "")


def close_day(tx: Tx, one: Day) -> None:
    """What a day was allowed, and what followed from it; its counts stay as they are."""
    tx.run(
        "INSERT INTO warmup_day (egress_id, provider, day, stage, cap, move, reason) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (egress_id, provider, day) DO UPDATE SET stage = excluded.stage, cap = excluded.cap,"
        " move = excluded.move, reason = excluded.reason",
        (one.egress_id, one.provider, one.day, one.stage, one.cap, one.move, one.reason),
    )


def history(tx: Tx, egress_id: int, *, limit: int = 1000) -> list[Day]:
    """The days of a source, newest first."""
    rows = tx.rows(
        f"SELECT {_DAY_COLUMNS} FROM warmup_day WHERE egress_id = ? ORDER BY day DESC, provider LIMIT ?",
        (egress_id, limit),
    )
    return [Day(*row) for row in rows]


def today(tx: Tx, number: int) -> list[Day]:
    """What is counted of a day so far, of all pairs."""
    return [Day(*row) for row in tx.rows(f"SELECT {_DAY_COLUMNS} FROM warmup_day WHERE day = ?", (number,))]
