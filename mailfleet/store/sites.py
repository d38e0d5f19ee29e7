"""Recipient domains and the sites that take their mail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import orjson

from mailfleet.store.database import Tx


class Site(NamedTuple):
    """One set of mail hosts. ``kind`` is that of ``net.resolver.MailHosts``; ``hosts`` are (preference, name)."""

    id: int
    key: str
    kind: str
    hosts: tuple[tuple[int, str], ...]
    provider: str
    detail: str


class DueDomain(NamedTuple):
    """A domain whose location is to be looked up now."""

    id: int
    name: str
    site_id: int


def domains(tx: Tx, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """``name -> (domain_id, site_id)``, site 0 when not known yet; unknown and stale ones are put up for location."""
    found: dict[str, tuple[int, int]] = {}
    for name in names:
        row = tx.row("SELECT id, site_id, valid_until_ms, next_locate_ms FROM mail_domain WHERE name = ?", (name,))
        if row is None:
            row = (
                tx.value("INSERT INTO mail_domain (name, next_locate_ms) VALUES (?, 1) RETURNING id", (name,)),
                0,
                0,
                1,
            )
        elif not row[3]:
            tx.run("UPDATE mail_domain SET next_locate_ms = max(valid_until_ms, 1) WHERE id = ?", (row[0],))
        found[name] = (int(row[0]), int(row[1]))
    return found


def due_domains(tx: Tx, *, now_ms: int, slot: int, slots: int, limit: int) -> list[DueDomain]:
    """Domains of this slot to locate now."""
    rows = tx.rows(
        "SELECT id, name, site_id FROM mail_domain WHERE next_locate_ms > 0 AND next_locate_ms <= ? AND id % ? = ?"
        " ORDER BY next_locate_ms LIMIT ?",
        (now_ms, slots, slot, limit),
    )
    return [DueDomain(*row) for row in rows]


def rest_if_idle(tx: Tx, domain_id: int) -> bool:
    """Stop looking a domain up while nothing is queued for it; true if so."""
    if tx.value("SELECT 1 FROM delivery WHERE state = 1 AND domain_id = ? LIMIT 1", (domain_id,)):
        return False
    tx.run("UPDATE mail_domain SET next_locate_ms = 0 WHERE id = ?", (domain_id,))
    return True


def put_site(tx: Tx, key: str, kind: str, hosts: list[tuple[int, str]], provider: str, detail: str) -> int:
    """The id of the site with this key, made if new; its provider and detail follow the newest knowledge."""
    return int(
        tx.value(
            "INSERT INTO site (key, kind, hosts, provider, detail) VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
            " SET provider = excluded.provider, detail = excluded.detail, hosts = excluded.hosts RETURNING id",
            (key, kind, orjson.dumps(hosts).decode(), provider, detail),
        )
    )


def locate(tx: Tx, domain_id: int, site_id: int, *, valid_until_ms: int, limit: int = 5000) -> bool:
    """Point a domain and up to ``limit`` of its queued deliveries to a site; true when none is left to move.

    The domain row moves first, so deliveries accepted from here on go the new way and the rest can follow in steps.
    """
    tx.run(
        "UPDATE mail_domain SET site_id = ?, valid_until_ms = ?, next_locate_ms = ? WHERE id = ?",
        (site_id, valid_until_ms, valid_until_ms, domain_id),
    )
    moved = tx.run(
        "UPDATE delivery SET site_id = ? WHERE id IN"
        " (SELECT id FROM delivery WHERE state = 1 AND domain_id = ? AND site_id <> ? LIMIT ?)",
        (site_id, domain_id, site_id, limit),
    )
    return moved < limit


def site(tx: Tx, site_id: int) -> Site | None:
    """One site."""
    row = tx.row("SELECT id, key, kind, hosts, provider, detail FROM site WHERE id = ?", (site_id,))
    if row is None:
        return None
    hosts = tuple((int(preference), str(name)) for preference, name in orjson.loads(row[3]))
    return Site(row[0], row[1], row[2], hosts, row[4], row[5])
