"""What the plan of the install itself is made from: its name, every source, and where it shows its key."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import NamedTuple

from mailfleet.policy.caa import Issuer
from mailfleet.policy.egress import ehlo_name
from mailfleet.policy.server_plan import Sender
from mailfleet.store import egress
from mailfleet.store.database import Tx


class TlsPort(NamedTuple):
    """Where TLS is shown under the server's name: ``number``, as others know it.

    It is looked at by ``address`` (empty: those of the name) and ``connect``. ``implicit``: TLS from the first byte on.
    """

    number: int
    address: str
    connect: int
    implicit: bool = False


@dataclass(frozen=True, slots=True)
class Install:
    """What the settings say. ``ehlo_name`` and ``addresses`` are of sources that name none themselves.

    ``private``: addresses that no public DNS knows count all the same, in test networks. ``tlsa``: keys are named at all.
    """

    hostname: str
    ehlo_name: str
    addresses: tuple[str, ...]
    private: bool
    authority: Issuer
    ports: tuple[TlsPort, ...]
    tlsa: bool = True


def senders(tx: Tx, install: Install) -> list[Sender]:
    """Every source that was not retired, once for each address; without one where no public one is known."""
    found = []
    for one in egress.all_egresses(tx):
        if one.kind != "source" or one.state == "retired":
            continue
        name = ehlo_name(one.ehlo_name, install.ehlo_name, install.hostname).lower().rstrip(".")
        given = (one.address,) if one.address else install.addresses
        addresses = [str(ipaddress.ip_address(text)) for text in given]
        public = [text for text in addresses if counts(text, install)]
        found += [Sender(one.name, text, name) for text in public or [""]]
    return found


def counts(address: str, install: Install) -> bool:
    """Whether the DNS can say anything of it."""
    return install.private or ipaddress.ip_address(address).is_global
