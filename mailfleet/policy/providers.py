"""Which mailbox provider a set of MX hosts belongs to, and the limits to start with towards it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailfleet.policy.rates import Rate


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one source sends to one site at first; what the remote answers tightens it.

    ``tls_required``: never send to it in the clear.
    """

    connections: int
    messages_per_connection: int
    rates: tuple[Rate, ...] = ()
    tls_required: bool = False
    commands_behind_message: bool = True


@dataclass(frozen=True, slots=True)
class Provider:
    """A mailbox provider, or a filter that stands before many domains.

    ``mx_suffixes`` are domain names: a host belongs when it is one of them or below it. ``mx_matches`` and ``mx_rejects``
    are sets of MX hosts that are, and are not, this provider's: tests hold them.
    """

    name: str
    label: str
    mx_suffixes: tuple[str, ...]
    limits: Limits
    mx_matches: tuple[tuple[str, ...], ...] = ()
    mx_rejects: tuple[tuple[str, ...], ...] = ()


class ProviderTable:
    """All known providers. Raises ``ValueError`` when a name or a suffix is there twice."""

    def __init__(self, providers: Sequence[Provider], default: Limits) -> None:
        self.providers = {provider.name: provider for provider in providers}
        if len(self.providers) != len(providers):
            raise ValueError("two providers have one name")
        self._default = default
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

    def limits_for(self, provider: str | None) -> Limits:
        """The starting limits of a provider; the default's for None and for one that is not known."""
        known = self.providers.get(provider) if provider is not None else None
        return known.limits if known is not None else self._default

    def _host(self, host: str) -> str | None:
        name = host.lower().removesuffix(".")
        while name:
            found = self._by_suffix.get(name)
            if found is not None:
                return found
            name = name.partition(".")[2]
        return None
