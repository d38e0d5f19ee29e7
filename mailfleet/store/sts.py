"""MTA-STS policies of recipient domains, kept for as long as they hold."""

from __future__ import annotations

import json
from typing import NamedTuple

from mailfleet.mail.mta_sts import StsPolicy
from mailfleet.store.database import Tx


class KeptPolicy(NamedTuple):
    """A policy as it was fetched, and until when it holds (RFC 8461 3.2)."""

    domain: str
    id: str
    policy: StsPolicy
    fetched_ms: int
    expires_ms: int


def get(tx: Tx, domain: str) -> KeptPolicy | None:
    """What is kept of a domain, whether it still holds or not."""
    row = tx.row("SELECT policy_id, mode, mx, fetched_ms, expires_ms FROM sts_policy WHERE domain = ?", (domain,))
    if row is None:
        return None
    number, mode, mx, fetched_ms, expires_ms = row
    policy = StsPolicy(mode, tuple(json.loads(mx)), (expires_ms - fetched_ms) // 1000)
    return KeptPolicy(domain, number, policy, fetched_ms, expires_ms)


def put(tx: Tx, kept: KeptPolicy) -> None:
    """In place of what was kept."""
    tx.run(
        "INSERT INTO sts_policy (domain, policy_id, mode, mx, fetched_ms, expires_ms) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (domain) DO UPDATE SET policy_id = excluded.policy_id, mode = excluded.mode, mx = excluded.mx,"
        " fetched_ms = excluded.fetched_ms, expires_ms = excluded.expires_ms",
        (
            kept.domain,
            kept.id,
            kept.policy.mode,
            json.dumps(kept.policy.mx),
            kept.fetched_ms,
            kept.expires_ms,
        ),
    )


def forget(tx: Tx, before_ms: int) -> None:
    """Drop what has not held for long."""
    tx.run("DELETE FROM sts_policy WHERE expires_ms < ?", (before_ms,))
