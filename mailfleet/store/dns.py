"""Zones that may be written to, records that we put there, and how the checks of a domain stand."""

from __future__ import annotations

import json
from typing import NamedTuple

from mailfleet.policy.dns_checks import Check, Kept
from mailfleet.store.database import Tx, hold_table

# What dns_record has in place of a sending domain's id
NOBODY = 0  # answers to an authority's challenges
SERVER = -1  # the install itself: its name and its sources
SERVER_SUBJECT = "(server)"  # its checks; no domain is called so


class Target(NamedTuple):
    """A zone, and how it is written to. The secret is sealed under the label ``dns:<zone>``."""

    id: int
    tenant_id: int
    zone: str
    kind: str
    server: str
    key_name: str
    algorithm: str
    sealed_secret: bytes | None  # of a provider: a JSON object of secrets by name
    created_ms: int
    provider: str = ""  # package.Class of octoDNS
    settings: str = ""  # of the provider, a JSON object


class OwnRecord(NamedTuple):
    """A record that we put into the DNS."""

    domain_id: int
    name: str
    type: str
    value: str
    created_ms: int


class Past(NamedTuple):
    """A change of state of a check."""

    id: int
    subject: str
    name: str
    before: str
    state: str
    found: str
    meaning: str
    at_ms: int


_TARGET = ", ".join(Target._fields)
_PAST = ", ".join(Past._fields)
_STANDING = "name, state, found, expected, meaning, next_step, servers, since_ms, seen_ms, doubt"


def add_target(tx: Tx, target: Target) -> bool:
    """False when the zone has one already."""
    marks = ", ".join("?" * len(target))
    return bool(tx.run(f"INSERT INTO dns_target ({_TARGET}) VALUES ({marks}) ON CONFLICT DO NOTHING", tuple(target)))


def targets(tx: Tx) -> list[Target]:
    """All of them."""
    return [Target(*row) for row in tx.rows(f"SELECT {_TARGET} FROM dns_target ORDER BY zone")]


def remove_target(tx: Tx, zone: str) -> bool:
    """Write there no more; what is there stays."""
    return bool(tx.run("DELETE FROM dns_target WHERE zone = ?", (zone,)))


def own_records(tx: Tx, domain_id: int) -> list[OwnRecord]:
    """What we put there for a domain."""
    rows = tx.rows(
        "SELECT domain_id, name, type, value, created_ms FROM dns_record WHERE domain_id = ? ORDER BY name, type, value",
        (domain_id,),
    )
    return [OwnRecord(*row) for row in rows]


def put_records(tx: Tx, records: list[OwnRecord]) -> None:
    """These are ours from now on."""
    for one in records:
        tx.run(
            "INSERT INTO dns_record (domain_id, name, type, value, created_ms) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            tuple(one),
        )


def forget_record(tx: Tx, domain_id: int, name: str, kind: str, value: str) -> None:
    """It is not there any more, or not ours."""
    tx.run(
        "DELETE FROM dns_record WHERE domain_id = ? AND name = ? AND type = ? AND value = ?",
        (domain_id, name, kind, value),
    )


def standing(tx: Tx, subject: str) -> dict[str, Kept]:
    """How each check of a domain stands, by name."""
    rows = tx.rows(f"SELECT {_STANDING} FROM domain_check WHERE subject = ? ORDER BY name", (subject,))
    return {
        name: Kept(
            Check(name, state, found, expected, meaning, next_step, tuple(json.loads(servers))),
            since_ms,
            seen_ms,
            doubt,
        )
        for name, state, found, expected, meaning, next_step, servers, since_ms, seen_ms, doubt in rows
    }


def hold_standing(tx: Tx) -> None:
    """Whoever enters checks goes by those that stand, alone until the commit."""
    hold_table(tx, "domain_check")


def put_standing(tx: Tx, subject: str, kept: dict[str, Kept]) -> None:
    """All checks of a domain; those that are not among them are no longer made."""
    tx.run("DELETE FROM domain_check WHERE subject = ?", (subject,))
    for name, one in kept.items():
        check = one.check
        tx.run(
            "INSERT INTO domain_check (subject, name, state, found, expected, meaning, next_step, servers, since_ms,"
            " seen_ms, doubt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                subject,
                name,
                check.state,
                check.found,
                check.expected,
                check.meaning,
                check.next_step,
                json.dumps(check.servers),
                one.since_ms,
                one.seen_ms,
                one.doubt,
            ),
        )


def add_past(tx: Tx, past: Past) -> None:
    """A state has changed."""
    tx.run(f"INSERT INTO domain_check_past ({_PAST}) VALUES ({', '.join('?' * len(past))})", tuple(past))


def past(tx: Tx, subject: str, limit: int) -> list[Past]:
    """The latest changes of a domain, newest first."""
    rows = tx.rows(
        f"SELECT {_PAST} FROM domain_check_past WHERE subject = ? ORDER BY id DESC LIMIT ?", (subject, limit)
    )
    return [Past(*row) for row in rows]


def forget_domain(tx: Tx, domain_id: int, subject: str) -> None:
    """Nothing of a domain is watched any more."""
    tx.run("DELETE FROM dns_record WHERE domain_id = ?", (domain_id,))
    tx.run("DELETE FROM domain_check WHERE subject = ?", (subject,))
    tx.run("DELETE FROM domain_check_past WHERE subject = ?", (subject,))
