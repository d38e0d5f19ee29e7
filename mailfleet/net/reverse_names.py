"""What addresses are called in the DNS, where the name leads back to the address (RFC 8601 3: iprev): whoever has the address
chose the name, and only then the name's owner agrees."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection

from mailfleet.net.dns_query import DnsQuerier, DnsTemporary

MAX_NAMES = 3  # of an address, that are looked at


class ReverseNames:
    """For one process; ``querier`` remembers what it was told."""

    def __init__(self, querier: DnsQuerier) -> None:
        self._querier = querier

    async def of(self, addresses: Collection[str], within_s: float) -> dict[str, str]:
        """Names in lower case by address; those without one, or for which it took too long, are not there."""
        tasks = {asyncio.create_task(self._name(one)): one for one in dict.fromkeys(addresses)}
        if not tasks:
            return {}
        try:
            done, _ = await asyncio.wait(tasks, timeout=within_s)
        finally:
            for task in tasks:
                task.cancel()
        return {tasks[task]: task.result() for task in done if task.result()}

    async def _name(self, address: str) -> str:
        ip = ipaddress.ip_address(address)
        try:
            for name in (await self._querier.ask(ip.reverse_pointer, "PTR")).records[:MAX_NAMES]:
                back = (await self._querier.ask(name, "A" if ip.version == 4 else "AAAA")).records
                if any(ipaddress.ip_address(one) == ip for one in back):
                    return name.removesuffix(".")
        except DnsTemporary:
            pass
        return ""
