"""Who may come in: API tokens, SMTP credentials, and the answers kept for idempotency keys."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from mailfleet.store.database import Row, Tx


class Token(NamedTuple):
    """An API token; only the hash of its secret is kept."""

    id: int
    tenant_id: int
    name: str
    secret_hash: bytes
    scopes: tuple[str, ...]
    created_ms: int


class Credential(NamedTuple):
    """An SMTP login; ``allowed_domains`` empty means every sending domain of the tenant."""

    id: int
    tenant_id: int
    username: str
    secret_hash: bytes
    stream: str
    allowed_domains: tuple[str, ...]
    created_ms: int


_TOKEN = "id, tenant_id, name, secret_hash, scopes, created_ms"  # noqa: S105
_CREDENTIAL = "id, tenant_id, username, secret_hash, stream, allowed_domains, created_ms"


def _token(row: Row) -> Token:
    token_id, tenant_id, name, secret_hash, scopes, created_ms = row
    return Token(token_id, tenant_id, name, secret_hash, tuple(orjson.loads(scopes)), created_ms)


def _credential(row: Row) -> Credential:
    credential_id, tenant_id, username, secret_hash, stream, allowed, created_ms = row
    return Credential(credential_id, tenant_id, username, secret_hash, stream, tuple(orjson.loads(allowed)), created_ms)


def add_token(tx: Tx, token: Token) -> None:
    """Store a token."""
    tx.run(
        f"INSERT INTO token ({_TOKEN}) VALUES (?, ?, ?, ?, ?, ?)",
        (*token[:4], orjson.dumps(token.scopes).decode(), token.created_ms),
    )


def token_by_hash(tx: Tx, secret_hash: bytes) -> Token | None:
    """The token with this secret."""
    row = tx.row(f"SELECT {_TOKEN} FROM token WHERE secret_hash = ?", (secret_hash,))
    return _token(row) if row else None


def tokens(tx: Tx, tenant_id: int) -> list[Token]:
    """Every token of a tenant."""
    return [_token(row) for row in tx.rows(f"SELECT {_TOKEN} FROM token WHERE tenant_id = ? ORDER BY id", (tenant_id,))]


def remove_token(tx: Tx, tenant_id: int, token_id: int) -> bool:
    """Revoke; false when there was none."""
    return tx.run("DELETE FROM token WHERE tenant_id = ? AND id = ?", (tenant_id, token_id)) > 0


def add_credential(tx: Tx, credential: Credential) -> bool:
    """Store a login; false when the user name is taken."""
    return (
        tx.run(
            f"INSERT INTO credential ({_CREDENTIAL}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (*credential[:5], orjson.dumps(credential.allowed_domains).decode(), credential.created_ms),
        )
        > 0
    )


def credential_by_username(tx: Tx, username: str) -> Credential | None:
    """The login with this user name."""
    row = tx.row(f"SELECT {_CREDENTIAL} FROM credential WHERE username = ?", (username,))
    return _credential(row) if row else None


def credentials(tx: Tx, tenant_id: int) -> list[Credential]:
    """Every login of a tenant."""
    rows = tx.rows(f"SELECT {_CREDENTIAL} FROM credential WHERE tenant_id = ? ORDER BY id", (tenant_id,))
    return [_credential(row) for row in rows]


def remove_credential(tx: Tx, tenant_id: int, credential_id: int) -> bool:
    """Remove; false when there was none."""
    return tx.run("DELETE FROM credential WHERE tenant_id = ? AND id = ?", (tenant_id, credential_id)) > 0


def remember(tx: Tx, tenant_id: int, key: str, request_hash: bytes, response: str, now_ms: int) -> None:
    """Keep the answer given under an idempotency key, in the transaction that did the work."""
    tx.run(
        "INSERT INTO idempotency (tenant_id, key, request_hash, response, created_ms) VALUES (?, ?, ?, ?, ?)",
        (tenant_id, key, request_hash, response, now_ms),
    )


def remembered(tx: Tx, tenant_id: int, key: str) -> tuple[bytes, str] | None:
    """``(request_hash, response)`` of an earlier request with this key."""
    row = tx.row("SELECT request_hash, response FROM idempotency WHERE tenant_id = ? AND key = ?", (tenant_id, key))
    return (bytes(row[0]), str(row[1])) if row else None


def forget_answers(tx: Tx, before_ms: int) -> int:
    """Drop answers older than ``before_ms``."""
    return tx.run("DELETE FROM idempotency WHERE created_ms < ?", (before_ms,))
