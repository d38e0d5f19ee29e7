"""DANE for mail (RFC 7672): what a mail host's TLSA records demand, where DNSSEC proves them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import NamedTuple

from mailfleet.base.clock import Clock
from mailfleet.mail import tlsa
from mailfleet.mail.tlsa import Tlsa
from mailfleet.net.secure_dns import SecureDns
from mailfleet.net.tls_client import chain_of


class DaneDemand(NamedTuple):
    """``records`` that must be proven; none: TLS without proof. ``problem``: the host must not be used at present, and why.

    ``texts``: all TLSA records that were found, usable or not.
    """

    records: tuple[Tlsa, ...] = ()
    problem: str = ""
    texts: tuple[str, ...] = ()


class Dane:
    """For one process."""

    def __init__(self, dns: SecureDns, clock: Clock) -> None:
        self._dns, self._clock = dns, clock

    async def of(self, host: str, port: int) -> DaneDemand | None:
        """What a host demands; None where DANE says nothing of it (RFC 7672 2.2)."""
        if host.startswith("["):
            return None
        addresses = await self._dns.ask(host, "A")
        if addresses.proof == "insecure" or (addresses.proof == "secure" and not addresses.records):
            addresses = await self._dns.ask(host, "AAAA")
        if addresses.proof != "secure":  # RFC 7672 2.2.2: then its TLSA records need not be asked for
            return None
        found = await self._dns.ask(f"_{port}._tcp.{host}", "TLSA")
        if found.proof == "failed":
            return DaneDemand(
                problem=f"the TLSA records of {host} cannot be looked up: without them nobody can say who it is"
            )
        if found.proof == "insecure" or not found.records:
            return None
        records = tuple(one for one in map(tlsa.parse, found.records) if one is not None and one.usable)
        return DaneDemand(records, texts=found.records)

    def problem(self, demand: DaneDemand, host: str, tls: ssl.SSLObject) -> str:
        """Why the host did not prove itself; empty where it did."""
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        return tlsa.proven(demand.records, chain_of(tls), host, now)
