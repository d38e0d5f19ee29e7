"""What is shown to everybody over HTTPS, by host: MTA-STS policies, logos, security.txt."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from mailfleet.base.clock import Clock
from mailfleet.mail.mta_sts import WELL_KNOWN, Mode, StsPolicy
from mailfleet.store import sending
from mailfleet.store.database import Database, Tx
from mailfleet.store.sending import SendingDomain

STS_PREFIX = "mta-sts."
TESTING_AGE_S = 86_400  # short while it may still be wrong
ENFORCE_AGE_S = 7 * 86_400  # RFC 8461 3.2 wants weeks; Gmail and Outlook count from one
SECURITY_TXT = "/.well-known/security.txt"
SECURITY_DAYS = 180  # RFC 9116 2.5.5: less than a year
DAY_S = 86_400


class Shown(NamedTuple):
    """A small file. ``max_age_s``: how long it may be kept by who got it."""

    media_type: str
    body: bytes
    max_age_s: int = 300


def hosts_of(domain: SendingDomain) -> list[str]:
    """Hosts of a sending domain that we answer under."""
    hosts = [STS_PREFIX + domain.name] if domain.mta_sts else []
    return [*hosts, domain.public_host] if domain.public_host else hosts


def policy_of(domain: SendingDomain) -> StsPolicy | None:
    """Its own policy; None where it never had one."""
    if not domain.mta_sts:
        return None
    mode: Mode = "enforce" if domain.mta_sts == "enforce" else "testing" if domain.mta_sts == "testing" else "none"
    # RFC 8461 8.3: who takes a policy back says so for as long as the one before may be kept
    return StsPolicy(mode, tuple(domain.mta_sts_mx.split()), ENFORCE_AGE_S if mode == "enforce" else TESTING_AGE_S)


def logo_path(domain: SendingDomain) -> str:
    """Where its logo is; another path for another logo, since receivers keep it."""
    return f"/bimi/{domain.bimi_logo}.svg"


class Sites:
    """For one process. ``security_contact``: an address for security.txt, empty for none."""

    def __init__(self, database: Database, clock: Clock, *, hostname: str, security_contact: str) -> None:
        self._database, self._clock = database, clock
        self._hostname, self._contact = hostname.lower(), security_contact

    async def knows(self, host: str) -> bool:
        """Whether a host is one of a sending domain."""
        return await self._database.read(lambda tx: _domain(tx, host)) is not None

    async def find(self, host: str, path: str) -> Shown | None:
        """What stands there."""
        if path == SECURITY_TXT:
            return self._security(host) if self._contact else None

        def look(tx: Tx) -> Shown | None:
            domain = _domain(tx, host)
            if domain is None:
                return None
            policy = policy_of(domain)
            if path == WELL_KNOWN and host.startswith(STS_PREFIX) and policy is not None:
                return Shown("text/plain; charset=utf-8", str(policy).encode())
            if host == domain.public_host and domain.bimi_logo and path == logo_path(domain):
                return Shown("image/svg+xml", sending.logo(tx, domain.id).encode(), DAY_S)
            return None

        return await self._database.read(look)

    def _security(self, host: str) -> Shown:
        """RFC 9116; its end moves on by days, so that it does not change with every request."""
        today = self._clock.now_ms() // 1000 // DAY_S
        end = datetime.fromtimestamp((today + SECURITY_DAYS) * DAY_S, UTC)
        lines = [
            f"Contact: {self._contact}",
            f"Expires: {end:%Y-%m-%dT%H:%M:%SZ}",
            f"Canonical: https://{host}{SECURITY_TXT}",
            "Preferred-Languages: en",
        ]
        return Shown("text/plain; charset=utf-8", ("\n".join(lines) + "\n").encode())


def _domain(tx: Tx, host: str) -> SendingDomain | None:
    if not host:
        return None
    found = sending.by_public_host(tx, host)
    if found is None and host.startswith(STS_PREFIX):
        found = sending.by_name(tx, host.removeprefix(STS_PREFIX))
        if found is not None and not found.mta_sts:
            return None
    return found
