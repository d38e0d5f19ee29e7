"""Which keys the DNS names for the server (TLSA), on every authoritative server: what decides when a key may be exchanged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from mailfleet.net.authoritative import Authoritative
from mailfleet.policy.server_plan import tlsa_name, tlsa_value

Named = Literal["nothing", "this", "another", "unknown"]


class KeyRecords:
    """For one process. ``ports``: where TLS is shown under ``hostname``."""

    def __init__(self, authoritative: Authoritative, hostname: str, ports: Sequence[int]) -> None:
        self._dns, self._hostname, self._ports = authoritative, hostname.lower(), ports

    async def named(self, host: str, digest: str) -> Named:
        """Whether every server names a key wherever any key of the host is named.

        ``another``: some server does not. ``nothing``: no key is named, so any will do. ``unknown``: a zone is not answered for.
        """
        if host != self._hostname:
            return "nothing"
        found = await asyncio.gather(*(self._dns.ask(tlsa_name(port, host), "TLSA") for port in self._ports))
        named: Named = "nothing"
        for asked in found:
            if not asked.answers:
                return "unknown"
            # Usages 0 and 2 are of authorities, whose records outlive the key of a host (RFC 6698 2.1.1)
            if any(text.startswith(("1 ", "3 ")) for text in asked.records):
                if any(tlsa_value(digest) not in said.records for said in asked.answers):
                    return "another"
                named = "this"
        return named
