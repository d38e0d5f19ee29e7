"""Sending domains and their DKIM keys (sealed)."""

from __future__ import annotations

from typing import NamedTuple

from mailfleet.store.database import Tx
from mailfleet.store.statements import for_update


class SendingDomain(NamedTuple):
    """The domain in ``From``."""

    id: int
    tenant_id: int
    name: str
    return_path_host: str
    created_ms: int
    dmarc_policy: str = "none"
    dmarc_reports_to: str = ""
    rotate_days: int = 0  # 0: keys are changed by hand only
    next_check_ms: int = 0
    mta_sts: str = ""  # its own policy: testing | enforce | none (taken back) | "" (never had one)
    mta_sts_mx: str = ""  # mail hosts that the policy names, a space between
    tls_reports_to: str = ""
    public_host: str = ""  # where its logo is shown
    bimi_logo: str = ""  # digest of the logo, which is kept apart
    bimi_evidence: str = ""  # address of a mark certificate
    dmarc_rollout: str = "by-hand"  # by-hand | auto: the policy follows what reports show


class DkimKey(NamedTuple):
    """One selector; the private key is sealed under the label ``dkim:<domain>:<selector>``."""

    id: int
    domain_id: int
    selector: str
    algorithm: str
    sealed_key: bytes
    public_record: str
    active: int
    created_ms: int
    stage: str = "active"  # next | active | old | leaked | revoked
    since_ms: int = 0


_DOMAIN = ", ".join(SendingDomain._fields)
_CAN_CHANGE = [name for name in SendingDomain._fields[5:] if name != "next_check_ms"]
_KEY = ", ".join(DkimKey._fields)


def add(tx: Tx, domain: SendingDomain, keys: list[DkimKey]) -> bool:
    """Store a domain with its keys; false when it is there already."""
    marks = ", ".join("?" * len(domain))
    if not tx.run(f"INSERT INTO sending_domain ({_DOMAIN}) VALUES ({marks}) ON CONFLICT DO NOTHING", domain):
        return False
    for key in keys:
        add_key(tx, key)
    return True


def add_key(tx: Tx, key: DkimKey) -> None:
    """One more key of a domain."""
    tx.run(f"INSERT INTO dkim_key ({_KEY}) VALUES ({', '.join('?' * len(key))})", tuple(key))


def set_stage(tx: Tx, key_id: int, stage: str, now_ms: int) -> None:
    """``active`` signs, and so does ``leaked`` until another does; ``next`` is being published; ``old`` is kept for mail under way,
    ``revoked`` until every process has noticed that it signs no more."""
    tx.run(
        "UPDATE dkim_key SET stage = ?, active = ?, since_ms = ? WHERE id = ?",
        (stage, int(stage in ("active", "leaked")), now_ms, key_id),
    )


def remove_key(tx: Tx, key_id: int) -> None:
    """Forget a key for good."""
    tx.run("DELETE FROM dkim_key WHERE id = ?", (key_id,))


def update(tx: Tx, domain: SendingDomain) -> None:
    """What can be set of a domain, by who holds it."""
    changes = ", ".join(f"{name} = ?" for name in _CAN_CHANGE)
    tx.run(
        f"UPDATE sending_domain SET {changes} WHERE id = ?",
        (*(getattr(domain, name) for name in _CAN_CHANGE), domain.id),
    )


def look_soon(tx: Tx, domain_id: int) -> None:
    """Something of it has changed: it is to be checked now, whatever a check that is under way comes to."""
    sooner = "CASE WHEN next_check_ms > 0 THEN 0 ELSE next_check_ms - 1 END"  # than whoever looks has seen
    tx.run(f"UPDATE sending_domain SET next_check_ms = {sooner} WHERE id = ?", (domain_id,))


def looked(tx: Tx, seen: SendingDomain, next_ms: int) -> None:
    """It was looked at as it was seen, and is to be checked again then; at once where somebody has asked for that meanwhile."""
    tx.run(
        "UPDATE sending_domain SET next_check_ms = ? WHERE id = ? AND next_check_ms = ?",
        (next_ms, seen.id, seen.next_check_ms),
    )


_HELD = for_update(f"SELECT {_DOMAIN} FROM sending_domain WHERE name = ?")


def held(tx: Tx, name: str) -> SendingDomain | None:
    """A domain that, with its keys, nobody else changes before the commit: for whoever decides by what they are now."""
    row = tx.row(_HELD, (name,))
    return SendingDomain(*row) if row else None


def due(tx: Tx, now_ms: int) -> list[SendingDomain]:
    """Domains that are to be checked now."""
    rows = tx.rows(f"SELECT {_DOMAIN} FROM sending_domain WHERE next_check_ms <= ? ORDER BY next_check_ms", (now_ms,))
    return [SendingDomain(*row) for row in rows]


def by_name(tx: Tx, name: str) -> SendingDomain | None:
    """A domain by its A-label name."""
    row = tx.row(f"SELECT {_DOMAIN} FROM sending_domain WHERE name = ?", (name,))
    return SendingDomain(*row) if row else None


def by_public_host(tx: Tx, host: str) -> SendingDomain | None:
    """The domain that shows something under a host of its own."""
    row = tx.row(f"SELECT {_DOMAIN} FROM sending_domain WHERE public_host = ? ORDER BY id LIMIT 1", (host,))
    return SendingDomain(*row) if row else None


def of_tenant(tx: Tx, tenant_id: int) -> list[SendingDomain]:
    """Every domain of a tenant."""
    rows = tx.rows(f"SELECT {_DOMAIN} FROM sending_domain WHERE tenant_id = ? ORDER BY name", (tenant_id,))
    return [SendingDomain(*row) for row in rows]


def all_domains(tx: Tx) -> list[SendingDomain]:
    """Every domain of every tenant."""
    return [SendingDomain(*row) for row in tx.rows(f"SELECT {_DOMAIN} FROM sending_domain ORDER BY name")]


def keys(tx: Tx, domain_id: int) -> list[DkimKey]:
    """The keys of a domain, oldest first."""
    rows = tx.rows(f"SELECT {_KEY} FROM dkim_key WHERE domain_id = ? ORDER BY id", (domain_id,))
    return [DkimKey(*row) for row in rows]


def logo(tx: Tx, domain_id: int) -> str:
    """The SVG that BIMI shows; empty where there is none."""
    row = tx.row("SELECT svg FROM domain_logo WHERE domain_id = ?", (domain_id,))
    return str(row[0]) if row else ""


def put_logo(tx: Tx, domain_id: int, svg: str) -> None:
    """In place of the one before; empty takes it away."""
    tx.run("DELETE FROM domain_logo WHERE domain_id = ?", (domain_id,))
    if svg:
        tx.run("INSERT INTO domain_logo (domain_id, svg) VALUES (?, ?)", (domain_id, svg))


def remove(tx: Tx, domain_id: int) -> None:
    """Remove a domain and its keys."""
    put_logo(tx, domain_id, "")
    tx.run("DELETE FROM dmarc_judgement WHERE domain_id = ?", (domain_id,))
    tx.run("DELETE FROM dkim_key WHERE domain_id = ?", (domain_id,))
    tx.run("DELETE FROM sending_domain WHERE id = ?", (domain_id,))
