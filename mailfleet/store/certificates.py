"""Certificates with their keys (sealed), accounts with authorities, and the questions that these will come and ask."""

from __future__ import annotations

from typing import NamedTuple

from mailfleet.store.database import Tx
from mailfleet.store.statements import for_update


class Certificate(NamedTuple):
    """Of one host. Keys are sealed under the label ``tls:<host>``. ``chain`` is empty until there is one."""

    host: str
    issuer: str
    chain: str
    sealed_key: bytes | None
    sealed_next: bytes | None
    next_since_ms: int
    not_before_ms: int
    not_after_ms: int
    changed_ms: int
    failures: int
    problem: str
    next_try_ms: int
    next_ask_ms: int = 0


class Account(NamedTuple):
    """With an authority. The key is sealed under the label ``acme:<directory>``."""

    directory: str
    uri: str
    sealed_key: bytes
    created_ms: int


class Challenge(NamedTuple):
    """A question, and our answer to it."""

    kind: str
    host: str
    token: str
    answer: str
    created_ms: int


_CERTIFICATE = ", ".join(Certificate._fields)
_ACCOUNT = ", ".join(Account._fields)
_CHALLENGE = ", ".join(Challenge._fields)


def every(tx: Tx) -> list[Certificate]:
    """All of them, by host."""
    return [Certificate(*row) for row in tx.rows(f"SELECT {_CERTIFICATE} FROM certificate ORDER BY host")]


def of_host(tx: Tx, host: str) -> Certificate | None:
    """The one of a host."""
    row = tx.row(f"SELECT {_CERTIFICATE} FROM certificate WHERE host = ?", (host,))
    return Certificate(*row) if row else None


_HELD = for_update(f"SELECT {_CERTIFICATE} FROM certificate WHERE host = ?")


def held(tx: Tx, host: str) -> Certificate | None:
    """The one of a host, which nobody else changes before the commit."""
    row = tx.row(_HELD, (host,))
    return Certificate(*row) if row else None


def version(tx: Tx) -> tuple[int, int]:
    """Another one when anything that listeners show has changed, also by a clock that was set back."""
    row = tx.row("SELECT count(*), coalesce(sum(changed_ms), 0) FROM certificate WHERE chain <> ''")
    return (int(row[0]), int(row[1])) if row else (0, 0)


def put(tx: Tx, certificate: Certificate) -> None:
    """In place of what the host had."""
    changes = ", ".join(f"{name} = excluded.{name}" for name in Certificate._fields[1:])
    marks = ", ".join("?" * len(certificate))
    tx.run(
        f"INSERT INTO certificate ({_CERTIFICATE}) VALUES ({marks}) ON CONFLICT (host) DO UPDATE SET {changes}",
        tuple(certificate),
    )


def plan(tx: Tx, certificate: Certificate, renew_ms: int) -> bool:
    """Renew a certificate at that time; False where it has changed meanwhile, or something is the matter with it."""
    return bool(
        tx.run(
            "UPDATE certificate SET next_try_ms = ?"
            " WHERE host = ? AND chain = ? AND next_try_ms = ? AND failures = 0 AND problem = ''",
            (renew_ms, certificate.host, certificate.chain, certificate.next_try_ms),
        )
    )


def ask_at(tx: Tx, certificate: Certificate, ask_ms: int) -> None:
    """Ask its authority about a certificate at that time, if it is the same one yet."""
    tx.run(
        "UPDATE certificate SET next_ask_ms = ? WHERE host = ? AND chain = ?",
        (ask_ms, certificate.host, certificate.chain),
    )


def remove(tx: Tx, host: str) -> bool:
    """False where there is none."""
    return bool(tx.run("DELETE FROM certificate WHERE host = ?", (host,)))


def account(tx: Tx, directory: str) -> Account | None:
    """Ours with an authority."""
    row = tx.row(f"SELECT {_ACCOUNT} FROM acme_account WHERE directory = ?", (directory,))
    return Account(*row) if row else None


def put_account(tx: Tx, account: Account) -> None:
    """In place of the one before."""
    forget_account(tx, account.directory)
    tx.run(f"INSERT INTO acme_account ({_ACCOUNT}) VALUES (?, ?, ?, ?)", tuple(account))


def forget_account(tx: Tx, directory: str) -> None:
    """It is of no use any more."""
    tx.run("DELETE FROM acme_account WHERE directory = ?", (directory,))


def put_challenge(tx: Tx, challenge: Challenge) -> None:
    """To be answered from now on, by every entrance."""
    tx.run(
        f"INSERT INTO acme_challenge ({_CHALLENGE}) VALUES (?, ?, ?, ?, ?) ON CONFLICT (kind, host, token)"
        " DO UPDATE SET answer = excluded.answer, created_ms = excluded.created_ms",
        tuple(challenge),
    )


def forget_challenges(tx: Tx, host: str) -> None:
    """The order of a host is over."""
    tx.run("DELETE FROM acme_challenge WHERE host = ?", (host,))


def by_token(tx: Tx, token: str) -> Challenge | None:
    """What is answered over HTTP."""
    row = tx.row(f"SELECT {_CHALLENGE} FROM acme_challenge WHERE kind = 'http-01' AND token = ?", (token,))
    return Challenge(*row) if row else None


def by_host(tx: Tx, host: str) -> Challenge | None:
    """What is answered over TLS, the newest."""
    row = tx.row(
        f"SELECT {_CHALLENGE} FROM acme_challenge WHERE kind = 'tls-alpn-01' AND host = ? ORDER BY created_ms DESC LIMIT 1",
        (host,),
    )
    return Challenge(*row) if row else None
