"""Ways out and pools as rows: sources and relays, who is in which pool, and which pool a stream sends through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mailfleet.store.database import Tx, hold_table

DEFAULT_EGRESS = DEFAULT_POOL = 1


class Egress(NamedTuple):
    """A source (an address of ours) or a relay (another SMTP server)."""

    id: int
    kind: str  # source | relay
    name: str
    tenant_id: int  # 0: for every tenant
    node: str
    address: str  # of a source; empty: what the system chooses
    ehlo_name: str  # empty: the node's
    host: str  # of a relay
    port: int
    tls: str
    username: str
    sealed_secret: bytes | None
    limits: str  # JSON object
    cost: str  # JSON object
    state: str  # active | paused | draining | retired
    reason: str
    created_ms: int
    since_ms: int


class Pool(NamedTuple):
    """A named set of ways out; ``overflow_pool_id`` 0 for none."""

    id: int
    tenant_id: int
    name: str
    overflow_pool_id: int
    created_ms: int


class Member(NamedTuple):
    """A way out in a pool."""

    pool_id: int
    egress_id: int
    weight: int


_COLUMNS = ", ".join(Egress._fields)


def ensure_default(tx: Tx, now_ms: int) -> None:
    """The pool and the source that every install starts with: whatever address the system chooses."""
    if tx.value("SELECT 1 FROM pool WHERE id = ?", (DEFAULT_POOL,)):
        return
    tx.run("INSERT INTO pool (id, name, created_ms) VALUES (?, 'default', ?)", (DEFAULT_POOL, now_ms))
    tx.run(
        "INSERT INTO egress (id, kind, name, created_ms, since_ms) VALUES (?, 'source', 'default', ?, ?)",
        (DEFAULT_EGRESS, now_ms, now_ms),
    )
    tx.run("INSERT INTO pool_member (pool_id, egress_id) VALUES (?, ?)", (DEFAULT_POOL, DEFAULT_EGRESS))


def hold(tx: Tx, table: str = "egress") -> None:
    """Whoever changes ways out or pools (``pool``) by what they are now does so alone until the commit."""
    hold_table(tx, table)


def next_id(tx: Tx, table: str) -> int:
    """The number of the next row of ``egress`` or ``pool``; rows are never removed, so it is free. Writers take turns for it."""
    hold(tx, table)
    return int(tx.value(f"SELECT coalesce(max(id), 0) + 1 FROM {table}"))


def insert(tx: Tx, new: Egress) -> None:
    """A new way out."""
    marks = ", ".join("?" * len(new))
    tx.run(f"INSERT INTO egress ({_COLUMNS}) VALUES ({marks})", tuple(new))


def update(tx: Tx, changed: Egress) -> None:
    """Everything of a way out but its id."""
    names = Egress._fields[1:]
    tx.run(f"UPDATE egress SET {', '.join(f'{name} = ?' for name in names)} WHERE id = ?", (*changed[1:], changed.id))


def get(tx: Tx, egress_id: int) -> Egress | None:
    """One way out."""
    row = tx.row(f"SELECT {_COLUMNS} FROM egress WHERE id = ?", (egress_id,))
    return Egress(*row) if row else None


def by_name(tx: Tx, name: str) -> Egress | None:
    """One way out by the name people use."""
    row = tx.row(f"SELECT {_COLUMNS} FROM egress WHERE name = ?", (name,))
    return Egress(*row) if row else None


def all_egresses(tx: Tx) -> list[Egress]:
    """Every way out, the retired ones included."""
    return [Egress(*row) for row in tx.rows(f"SELECT {_COLUMNS} FROM egress ORDER BY id")]


def pools(tx: Tx) -> list[Pool]:
    """Every pool."""
    return [
        Pool(*row) for row in tx.rows("SELECT id, tenant_id, name, overflow_pool_id, created_ms FROM pool ORDER BY id")
    ]


def members(tx: Tx) -> list[Member]:
    """Who is in which pool."""
    rows = tx.rows("SELECT pool_id, egress_id, weight FROM pool_member ORDER BY pool_id, egress_id")
    return [Member(*row) for row in rows]


def insert_pool(tx: Tx, new: Pool) -> None:
    """A new pool, without members."""
    tx.run("INSERT INTO pool (id, tenant_id, name, overflow_pool_id, created_ms) VALUES (?, ?, ?, ?, ?)", tuple(new))


def set_overflow(tx: Tx, pool_id: int, overflow_pool_id: int) -> None:
    """Where a pool's mail may go when its own ways out are full; 0 for nowhere."""
    tx.run("UPDATE pool SET overflow_pool_id = ? WHERE id = ?", (overflow_pool_id, pool_id))


def set_members(tx: Tx, pool_id: int, wanted: Iterable[Member]) -> None:
    """Exactly these are in the pool."""
    tx.run("DELETE FROM pool_member WHERE pool_id = ?", (pool_id,))
    tx.many("INSERT INTO pool_member (pool_id, egress_id, weight) VALUES (?, ?, ?)", [tuple(one) for one in wanted])


def remove_pool(tx: Tx, pool_id: int) -> None:
    """A pool that nothing sends through any more."""
    tx.run("DELETE FROM pool_member WHERE pool_id = ?", (pool_id,))
    tx.run("DELETE FROM pool WHERE id = ?", (pool_id,))


def leased_by(tx: Tx, egress_id: int) -> int:
    """Deliveries under way by it."""
    return int(tx.value("SELECT count(*) FROM delivery WHERE state = 2 AND egress_id = ?", (egress_id,)))
