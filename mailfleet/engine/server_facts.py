"""What the plan of the install itself is made from: its name, every source, and where it shows its key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.policy.caa import Issuer
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
    """What the settings say. ``tlsa``: keys are named at all."""

    defaults: SourceDefaults
    authority: Issuer
    ports: tuple[TlsPort, ...]
    tlsa: bool = True

    @property
    def hostname(self) -> str:
        """The server's name, for the DNS."""
        return self.defaults.hostname.lower()


def senders(tx: Tx, defaults: SourceDefaults) -> list[Sender]:
    """Every source that was not retired, once for each address; without one where no public one is known."""
    found = []
    for one in egress.all_egresses(tx):
        if one.kind != "source" or one.state == "retired":
            continue
        name = defaults.name(one.ehlo_name)
        found += [Sender(one.name, text, name) for text in defaults.public(one) or [""]]
    return found
