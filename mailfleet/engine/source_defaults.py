"""What sources have that name nothing themselves, and so from where mail of a source comes and what it says in EHLO."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from mailfleet.policy.egress import ehlo_name
from mailfleet.store.egress import Egress


class SourceDefaults(NamedTuple):
    """Of the settings: ``ehlo_name``, or else the server's ``hostname``, and ``addresses``.

    ``private``: addresses that no public DNS knows count all the same, in test networks.
    """

    hostname: str
    ehlo_name: str = ""
    addresses: tuple[str, ...] = ()
    private: bool = False

    def counts(self, address: str) -> bool:
        """Whether the DNS can say anything of it."""
        return self.private or ipaddress.ip_address(address).is_global

    def public(self, source: Egress) -> list[str]:
        """The addresses from which its mail comes, for all the world; empty where they are not known here."""
        given = (source.address,) if source.address else self.addresses
        return [text for text in (str(ipaddress.ip_address(one)) for one in given) if self.counts(text)]

    def by_name(self, source: Egress) -> bool:
        """Whether where its mail comes from is known by its name only: a private address, or a family that the system chooses."""
        public = self.public(source)
        return not public or (not source.address and len({":" in text for text in public}) < 2)

    def name(self, own: str = "") -> str:
        """What is said in EHLO, for the DNS: it leads to where mail comes from. ``own``: that the source names itself."""
        return ehlo_name(own, self.ehlo_name, self.hostname).lower().rstrip(".")
