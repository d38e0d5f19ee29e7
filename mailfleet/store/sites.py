"""Recipient domains and the sites that take their mail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import orjson

from mailfleet.policy.transport import TlsDemand
from mailfleet.store.database import Tx
from mailfleet.store.statements import Pair, for_update


class Site(NamedTuple):
    """One set of mail hosts. ``kind`` is that of ``net.resolver.MailHosts``; ``hosts`` are (preference, name)."""

    id: int
    key: str
    kind: str
    hosts: tuple[tuple[int, str], ...]
    provider: str
    detail: str
    tls: TlsDemand = ""


class DueDomain(NamedTuple):
    """A domain whose location is to be looked up now."""

    id: int
    name: str
    site_id: int


# Held until the commit, so that nobody stops looking a domain up, or moves its deliveries, without seeing these.
_KNOWN = Pair(
    "SELECT name, id, site_id, next_locate_ms FROM mail_domain WHERE name = ANY (?)",
    "SELECT name, id, site_id, next_locate_ms FROM mail_domain WHERE name = ANY (?) ORDER BY id FOR SHARE",
)
_NEW_DOMAIN = "ON CONFLICT (name) DO UPDATE SET next_locate_ms = 1 RETURNING name, id, site_id"
_ADD_DOMAINS = Pair(
    f"INSERT INTO mail_domain (name, next_locate_ms) VALUES (?, 1) {_NEW_DOMAIN}",
    f"INSERT INTO mail_domain (name, next_locate_ms) SELECT name, 1 FROM unnest(?::text[]) AS n (name) {_NEW_DOMAIN}",
)
_LOOK_AGAIN = (
    "UPDATE mail_domain SET next_locate_ms = CASE WHEN valid_until_ms > 1 THEN valid_until_ms ELSE 1 END"
    " WHERE id = ANY (?) AND next_locate_ms = 0"
)


def domains(tx: Tx, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """``name -> (domain_id, site_id)``, site 0 when not known yet; unknown and stale ones are put up for location."""
    wanted = sorted(set(names))
    known = tx.rows(_KNOWN, (wanted,)) if wanted else []
    found = {str(name): (int(domain_id), int(site_id)) for name, domain_id, site_id, _ in known}
    if resting := sorted(row[1] for row in known if not row[3]):
        tx.run(_LOOK_AGAIN, (resting,))
    if new := [(name,) for name in wanted if name not in found]:
        for name, domain_id, site_id in tx.batch(_ADD_DOMAINS, new):
            found[str(name)] = (int(domain_id), int(site_id))
    return found


def due_domains(tx: Tx, *, now_ms: int, slot: int, slots: int, limit: int) -> list[DueDomain]:
    """Domains of this slot to locate now."""
    rows = tx.rows(
        "SELECT id, name, site_id FROM mail_domain WHERE next_locate_ms > 0 AND next_locate_ms <= ? AND id % ? = ?"
        " ORDER BY next_locate_ms LIMIT ?",
        (now_ms, slots, slot, limit),
    )
    return [DueDomain(*row) for row in rows]


_HOLD_DOMAIN = for_update("SELECT id FROM mail_domain WHERE id = ?")


def rest_if_idle(tx: Tx, domain_id: int) -> bool:
    """Stop looking a domain up while nothing is queued for it; true if so."""
    tx.row(_HOLD_DOMAIN, (domain_id,))
    if tx.value("SELECT 1 FROM delivery WHERE state = 1 AND domain_id = ? LIMIT 1", (domain_id,)):
        return False
    tx.run("UPDATE mail_domain SET next_locate_ms = 0 WHERE id = ?", (domain_id,))
    return True


def put_site(
    tx: Tx, key: str, kind: str, hosts: list[tuple[int, str]], provider: str, detail: str, tls: TlsDemand = ""
) -> int:
    """The id of the site with this key, made if new; its provider and detail follow the newest knowledge."""
    return int(
        tx.value(
            "INSERT INTO site (key, kind, hosts, provider, detail, tls) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (key) DO UPDATE SET provider = excluded.provider, detail = excluded.detail,"
            " hosts = excluded.hosts, tls = excluded.tls RETURNING id",
            (key, kind, orjson.dumps(hosts).decode(), provider, detail, tls),
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
        "UPDATE delivery SET site_id = ? WHERE state = 1 AND id IN"
        " (SELECT id FROM delivery WHERE state = 1 AND domain_id = ? AND site_id <> ? LIMIT ?)",
        (site_id, domain_id, site_id, limit),
    )
    return moved < limit


def site(tx: Tx, site_id: int) -> Site | None:
    """One site."""
    row = tx.row("SELECT id, key, kind, hosts, provider, detail, tls FROM site WHERE id = ?", (site_id,))
    if row is None:
        return None
    hosts = tuple((int(preference), str(name)) for preference, name in orjson.loads(row[3]))
    return Site(row[0], row[1], row[2], hosts, row[4], row[5], row[6])


def shared(tx: Tx) -> dict[int, int]:
    """``site_id -> delivery processes that work on it``, for the sites where that is more than one."""
    return {int(site_id): int(shares) for site_id, shares in tx.rows("SELECT id, shares FROM site WHERE shares > 1")}


def set_shares(tx: Tx, site_id: int, shares: int) -> None:
    """Let this many delivery processes work on a site."""
    tx.run("UPDATE site SET shares = ? WHERE id = ?", (shares, site_id))


def reset_shares(tx: Tx) -> None:
    """Every site back to the one process that it belongs to."""
    tx.run("UPDATE site SET shares = 1 WHERE shares > 1")


def relay_sites(tx: Tx) -> dict[int, int]:
    """``relay -> site``: the site that stands for a relay's own host."""
    rows = tx.rows("SELECT key, id FROM site WHERE kind = 'relay'")
    return {int(str(key).removeprefix("relay:")): int(site_id) for key, site_id in rows}


def put_relay_site(tx: Tx, egress_id: int) -> int:
    """The site that stands for a relay, made if new. Its host is the relay's, which may get another one."""
    return put_site(tx, f"relay:{egress_id}", "relay", [], "", "")


def providers(tx: Tx, after: int) -> list[tuple[int, str]]:
    """``(site_id, provider)`` of sites with an id above ``after``."""
    rows = tx.rows("SELECT id, provider FROM site WHERE id > ? ORDER BY id", (after,))
    return [(int(site_id), str(provider)) for site_id, provider in rows]


def providers_of(tx: Tx, site_ids: Iterable[int]) -> dict[int, str]:
    """The provider of each of these sites; empty for no known one."""
    rows = tx.rows("SELECT id, provider FROM site WHERE id = ANY (?)", (sorted(site_ids),))
    return {int(site_id): str(provider) for site_id, provider in rows}


def mix(tx: Tx, newest: int = 20_000) -> dict[str, tuple[int, int]]:
    """How many of the newest deliveries went to each provider, and to how many sites; empty for sites of no known one."""
    rows = tx.rows(
        "SELECT t.provider, count(*), count(DISTINCT t.id) FROM (SELECT site_id FROM delivery ORDER BY id DESC LIMIT ?) d"
        " JOIN site t ON t.id = d.site_id WHERE t.kind IN ('mx', 'implicit') GROUP BY t.provider",
        (newest,),
    )
    return {str(provider): (int(count), int(number)) for provider, count, number in rows}


def mix_of_flow(tx: Tx, flow_id: int) -> dict[str, tuple[int, int]]:
    """The same of what is queued of a flow; what is not located yet is with the sites of no known provider. It walks the queue."""
    rows = tx.rows(
        "SELECT coalesce(t.provider, ''), count(*), count(DISTINCT d.site_id) FROM delivery d"
        " LEFT JOIN site t ON t.id = d.site_id WHERE d.flow_id = ? AND d.state = 1 GROUP BY coalesce(t.provider, '')",
        (flow_id,),
    )
    return {str(provider): (int(count), int(number)) for provider, count, number in rows}


def site_of_domain(tx: Tx, name: str) -> int:
    """The site of a recipient domain; 0 when it is not located yet."""
    return int(tx.value("SELECT site_id FROM mail_domain WHERE name = ?", (name,)) or 0)
