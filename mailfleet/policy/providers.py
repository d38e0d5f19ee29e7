"""Which mailbox provider a set of MX hosts belongs to, and the limits to start with towards it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mailfleet.policy.rates import Rate
from mailfleet.policy.transport import TlsDemand

MAX_KNOWN = 20_000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one source sends to one site at first; what the remote answers tightens it.

    ``provider_connections`` (0: no limit) and ``provider_rates``: of one source to all sites of the provider together.
    ``tls``: what is demanded. ``retry_after_s``: the shortest wait after any deferral.
    """

    connections: int = 10
    messages_per_connection: int = 100
    rates: tuple[Rate, ...] = ()
    tls: TlsDemand = ""
    commands_behind_message: bool = True
    retry_after_s: int = 0
    provider_connections: int = 0
    provider_rates: tuple[Rate, ...] = ()


@dataclass(frozen=True, slots=True)
class Provider:
    """A mailbox provider, or a filter that stands before many domains.

    ``mx_suffixes`` are domain names: a host belongs when it is one of them or below it. ``mx_matches`` and ``mx_rejects``
    are sets of MX hosts that are, and are not, this provider's: tests hold them.
    """

    name: str
    label: str
    mx_suffixes: tuple[str, ...]
    mx_matches: tuple[tuple[str, ...], ...] = ()
    mx_rejects: tuple[tuple[str, ...], ...] = ()


class Layer(NamedTuple):
    """Limits that one entry of one file sets: ``values`` by field of ``Limits``. Empty ``provider`` and ``source``: for all."""

    origin: str  # file and entry, as people find it
    provider: str
    source: str
    values: dict[str, object]


class LimitLine(NamedTuple):
    """A limit as it holds, and where it comes from. ``binds``: nothing else is tighter or later."""

    name: str
    value: object
    origin: str
    binds: bool


class ProviderTable:
    """All known providers. Raises ``ValueError`` when a name or a suffix is there twice.

    ``layers`` are in order: a later one of the same reach goes before an earlier one, one for a provider before one for all, and
    one for a source before one for none.
    """

    def __init__(self, providers: Sequence[Provider], layers: Sequence[Layer]) -> None:
        self.providers = {provider.name: provider for provider in providers}
        if len(self.providers) != len(providers):
            raise ValueError("two providers have one name")
        self.layers = tuple(layers)
        self._known: dict[tuple[str, str], Limits] = {}
        self._by_suffix: dict[str, str] = {}
        for provider in providers:
            for suffix in provider.mx_suffixes:
                if suffix in self._by_suffix:
                    raise ValueError(f"{suffix} belongs to {self._by_suffix[suffix]} and {provider.name}")
                self._by_suffix[suffix] = provider.name

    def provider_of(self, mx_hosts: Sequence[str]) -> str | None:
        """The provider that all of ``mx_hosts`` belong to, None when there is none or they differ.

        All must match: a domain with one host of a provider and one of its own is not hosted by that provider. Letter case and a
        trailing dot do not matter.
        """
        found = {self._host(host) for host in mx_hosts}
        return found.pop() if len(found) == 1 else None

    def limits_for(self, provider: str | None, source: str = "") -> Limits:
        """The limits of a source at a provider; the default's for None and for a provider that is not known."""
        key = provider or "", source
        found = self._known.get(key)
        if found is None:
            values: dict[str, Any] = {}
            for layer in self._reaching(*key):
                values |= layer.values
            found = self._known[key] = Limits(**values)
            if len(self._known) > MAX_KNOWN:
                self._known.clear()
        return found

    def explain(self, provider: str | None, source: str = "") -> list[LimitLine]:
        """Every limit that some layer sets, the weakest first of each; the last of each binds."""
        found: list[LimitLine] = []
        layers = self._reaching(provider or "", source)
        for field in Limits.__dataclass_fields__:
            some = [LimitLine(field, one.values[field], one.origin, False) for one in layers if field in one.values]
            found += [*some[:-1], *(one._replace(binds=True) for one in some[-1:])]
        return found

    def idle(self) -> list[Layer]:
        """Layers that change nothing: every value is what it would be without them. The first layer is what all stand on."""
        found = []
        for place, layer in enumerate(self.layers[1:], start=1):
            without = ProviderTable((), (*self.layers[:place], *self.layers[place + 1 :]))
            if without.limits_for(layer.provider, layer.source) == self.limits_for(layer.provider, layer.source):
                found.append(layer)
        return found

    def _reaching(self, provider: str, source: str) -> list[Layer]:
        reach = [("", ""), (provider, ""), ("", source), (provider, source)]
        return [
            layer for place in dict.fromkeys(reach) for layer in self.layers if (layer.provider, layer.source) == place
        ]

    def _host(self, host: str) -> str | None:
        name = host.lower().removesuffix(".")
        while name:
            found = self._by_suffix.get(name)
            if found is not None:
                return found
            name = name.partition(".")[2]
        return None
