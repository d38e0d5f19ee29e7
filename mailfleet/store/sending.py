"""Sending domains and their DKIM keys (sealed)."""

from __future__ import annotations

from typing import NamedTuple

from mailfleet.store.database import Tx


class SendingDomain(NamedTuple):
    """The domain in ``From``."""

    id: int
    tenant_id: int
    name: str
    return_path_host: str
    created_ms: int


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


_DOMAIN = "id, tenant_id, name, return_path_host, created_ms"
_KEY = "id, domain_id, selector, algorithm, sealed_key, public_record, active, created_ms"


def add(tx: Tx, domain: SendingDomain, keys: list[DkimKey]) -> bool:
    """Store a domain with its keys; false when it is there already."""
    if not tx.run(f"INSERT INTO sending_domain ({_DOMAIN}) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", domain):
        return False
    tx.many(f"INSERT INTO dkim_key ({_KEY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", keys)
    return True


def by_name(tx: Tx, name: str) -> SendingDomain | None:
    """A domain by its A-label name."""
    row = tx.row(f"SELECT {_DOMAIN} FROM sending_domain WHERE name = ?", (name,))
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


def remove(tx: Tx, domain_id: int) -> None:
    """Remove a domain and its keys."""
    tx.run("DELETE FROM dkim_key WHERE domain_id = ?", (domain_id,))
    tx.run("DELETE FROM sending_domain WHERE id = ?", (domain_id,))
