"""Whether what is stored fits together: for ``mailfleet db check``, and for tests. Reads only; a finding is not mended here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mailfleet.store import tally
from mailfleet.store.database import Tx
from mailfleet.store.schema import metadata_for


@dataclass(frozen=True, slots=True)
class Finding:
    """One question and its answer; ``wrong`` says what does not fit, a line each, and is empty where all is well."""

    check: str
    wrong: list[str] = field(default_factory=list)


def _integrity(tx: Tx) -> list[str]:
    if tx.engine == "sqlite":
        return [str(row[0]) for row in tx.rows("PRAGMA integrity_check(20)") if row[0] != "ok"]
    invalid = tx.rows("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid OR NOT indisready")
    return [f"the index {row[0]} is not valid" for row in invalid]


def _tallies(tx: Tx) -> list[str]:
    counted: Counter[tuple[int, int]] = Counter()
    by_state = "SELECT campaign_id, state, count(*) FROM delivery WHERE campaign_id <> 0 GROUP BY 1, 2"
    for campaign_id, state, n in tx.rows(by_state):
        counted[campaign_id, state] = n
    retried = (
        "SELECT campaign_id, count(*) FROM delivery WHERE state = 1 AND attempts > 0 AND campaign_id <> 0 GROUP BY 1"
    )
    for campaign_id, n in tx.rows(retried):
        counted[campaign_id, tally.DEFERRED] = n
    for campaign_id, state, n in tx.rows("SELECT campaign_id, state, CAST(sum(n) AS BIGINT) FROM tally GROUP BY 1, 2"):
        counted[campaign_id, state] -= n
    return [
        f"campaign {campaign_id}: {difference:+d} deliveries in state {state} beside its tally"
        for (campaign_id, state), difference in sorted(counted.items())
        if difference
    ]


def _reserved(tx: Tx) -> list[str]:
    rows = tx.rows(
        "SELECT w.egress_id, w.provider, w.reserved, (SELECT count(*) FROM delivery d JOIN site t ON t.id = d.site_id"
        " WHERE d.state = 2 AND d.egress_id = w.egress_id AND t.provider = w.provider) FROM warmup w WHERE w.state = 'warming'"
    )
    return [
        f"source {egress_id} with {provider or 'others'}: {reserved} reserved, {leased} under lease"
        for egress_id, provider, reserved, leased in rows
        if reserved != leased
    ]


def _where(what: str, sql: str) -> Callable[[Tx], list[str]]:
    """A check that names the first deliveries for which ``sql`` gives a row."""

    def run(tx: Tx) -> list[str]:
        return [f"delivery {row[0]}: {what}" for row in tx.rows(f"{sql} ORDER BY 1 LIMIT 20")]

    return run


_OPEN = "SELECT d.id FROM delivery d WHERE d.state IN (1, 2) AND"
CHECKS: dict[str, Callable[[Tx], list[str]]] = {
    "the file or the indexes are sound": _integrity,
    "tallies are what deliveries are": _tallies,
    "what warm-ups have reserved is under lease": _reserved,
    "what is to be sent has its content": _where(
        "its content is gone", f"{_OPEN} NOT EXISTS (SELECT 1 FROM content c WHERE c.id = d.content_id)"
    ),
    "what is to be sent has its flow": _where(
        "its flow is gone", f"{_OPEN} NOT EXISTS (SELECT 1 FROM flow f WHERE f.id = d.flow_id)"
    ),
    "what is to be sent has its domain": _where(
        "its domain is gone", f"{_OPEN} NOT EXISTS (SELECT 1 FROM mail_domain m WHERE m.id = d.domain_id)"
    ),
    "what is located has its site": _where(
        "its site is gone", f"{_OPEN} d.site_id <> 0 AND NOT EXISTS (SELECT 1 FROM site s WHERE s.id = d.site_id)"
    ),
    "what is leased has its lease": _where(
        "its lease is gone",
        "SELECT d.id FROM delivery d WHERE d.state = 2 AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.id = d.lease_id)",
    ),
    "only what is leased has a lease": _where(
        "its state and its lease do not fit", "SELECT id FROM delivery WHERE (state = 2) <> (lease_id <> 0)"
    ),
}


def check(tx: Tx) -> list[Finding]:
    """Every question with its answer, on one snapshot."""
    return [Finding(name, work(tx)) for name, work in CHECKS.items()]


def counts(tx: Tx) -> dict[str, int]:
    """Rows of every table."""
    return {name: int(tx.value(f"SELECT count(*) FROM {name}")) for name in sorted(metadata_for(tx.engine).tables)}
