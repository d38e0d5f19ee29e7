"""The simulated providers as data: ``data/providers.toml``, with the shares a person may change in ``DATA/sandbox/rates.toml``."""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from mailfleet.base.errors import ConfigError
from mailfleet.sandbox.manners import Manner

EVERY_OTHER_DOMAIN = "*"


@dataclass(frozen=True, slots=True)
class Words:
    """One reply as a provider words it. ``code`` 0 and no ``enhanced`` for text that is no reply by itself (``ehlo``)."""

    code: int
    enhanced: str
    lines: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Words:
        """``550 5.1.1 No such user`` or ``354 go ahead``."""
        if not text[:3].isdigit():
            return cls(0, "", tuple(text.split("\n")))
        code, rest = int(text[:3]), text[4:]
        first, _, after = rest.partition(" ")
        klass, _, digits = first.partition(".")
        if klass == text[0] and digits.replace(".", "").isdigit():
            return cls(code, first, tuple(after.split("\n")))
        return cls(code, "", tuple(rest.split("\n")))

    def encode(self, **values: object) -> bytes:
        """The wire form with the placeholders filled in; the enhanced status stands on every line (RFC 2034 4)."""
        mark = f"{self.enhanced} " if self.enhanced else ""
        last = len(self.lines) - 1
        return "".join(
            f"{self.code}{' ' if index == last else '-'}{mark}{line.format(**values)}\r\n"
            for index, line in enumerate(self.lines)
        ).encode()


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """One provider. ``mx`` maps each MX host list (in order of preference) to the domains that it serves."""

    name: str
    address: int
    mx: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    starttls: bool
    extensions: frozenset[str]
    max_message_bytes: int
    max_recipients: int
    max_connections: int
    messages_per_connection: int
    connections_per_minute: int
    late: frozenset[Manner]
    rates: Mapping[Manner, float]
    words: Mapping[str, Words]

    @property
    def host(self) -> str:
        """The name that the provider calls itself."""
        return self.mx[0][0][0]


def load(
    data_dir: Path | None = None, rates: Mapping[str, Mapping[str, float]] | None = None
) -> tuple[ProviderSpec, ...]:
    """The providers, with shares from ``rates`` or else from ``DATA/sandbox/rates.toml`` put over the shipped ones.

    Both have the shape ``{provider: {manner: share}}``; the provider ``*`` means all of them, and ``{"*": {}}`` switches every
    share off. A provider named there has exactly the shares given. Raises ``ConfigError``.
    """
    shipped = tomllib.loads(resources.files("mailfleet.sandbox").joinpath("data/providers.toml").read_text("utf-8"))
    specs = tuple(_spec(name, table) for name, table in shipped.items())
    where = "rates"
    if rates is None and data_dir is not None:
        path = data_dir / "sandbox" / "rates.toml"
        where = str(path)
        if path.exists():
            try:
                rates = tomllib.loads(path.read_text("utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise ConfigError(f"not valid TOML: {error}", where=where, mend="see docs/guides/sandbox.md") from None
    return _with_rates(specs, rates or {}, where)


def _spec(name: str, table: dict[str, Any]) -> ProviderSpec:
    hosted = table.get("workspace", {"hosts": [], "domains": []})
    groups = [(tuple(table["hosts"]), tuple(table["domains"])), (tuple(hosted["hosts"]), tuple(hosted["domains"]))]
    return ProviderSpec(
        name=name,
        address=table["address"],
        mx=tuple(group for group in groups if group[0]),
        starttls=table["starttls"],
        extensions=frozenset(table["extensions"]),
        max_message_bytes=table["max_message_bytes"],
        max_recipients=table["max_recipients"],
        max_connections=table["max_connections"],
        messages_per_connection=table["messages_per_connection"],
        connections_per_minute=table["connections_per_minute"],
        late=frozenset(Manner(word) for word in table["late"]),
        rates=_rates(table["rates"], name),
        words={key: Words.parse(text) for key, text in table["words"].items()},
    )


def _with_rates(
    specs: tuple[ProviderSpec, ...], rates: Mapping[str, Mapping[str, float]], where: str
) -> tuple[ProviderSpec, ...]:
    known = {spec.name for spec in specs} | {"*"}
    for name in rates:
        if name not in known:
            raise ConfigError(f"there is no provider {name!r}", where=where, mend=f"one of {', '.join(sorted(known))}")
    changed = []
    for spec in specs:
        chosen = rates.get(spec.name, rates.get("*"))
        changed.append(spec if chosen is None else replace(spec, rates=_rates(chosen, f"{where}: {spec.name}")))
    return tuple(changed)


def _rates(table: Mapping[str, float], where: str) -> dict[Manner, float]:
    """Checked shares in the order of ``Manner``, zeros left out."""
    known = [manner.value for manner in Manner if manner is not Manner.OK]
    for word, share in table.items() if isinstance(table, Mapping) else [(str(table), 0.0)]:
        if word not in known:
            raise ConfigError(f"there is no manner {word!r}", where=where, mend=f"one of {', '.join(known)}")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ConfigError(f"the share of {word!r} must be from 0 to 1", where=where, mend=f"you gave {share!r}")
    if sum(table.values()) > 1:
        raise ConfigError("the shares add up to more than 1", where=where, mend="lower some of them")
    return {manner: table[manner] for manner in Manner if table.get(manner)}


def provider_addresses(specs: tuple[ProviderSpec, ...], address_base: str) -> dict[str, str]:
    """Provider name -> loopback address. Raises ``ConfigError`` when any of them would not be loopback."""
    try:
        base = ipaddress.IPv4Address(address_base)
        addresses = {spec.name: base + spec.address for spec in specs}
    except (ipaddress.AddressValueError, ValueError):
        raise ConfigError(
            f"{address_base!r} is not an IPv4 address with room above it",
            where="sandbox.address_base",
            mend="for example 127.0.10.0",
        ) from None
    for address in (base, *addresses.values()):
        if not address.is_loopback:
            raise ConfigError(
                f"{address} is not a loopback address, and the sandbox listens nowhere else",
                where="sandbox.address_base",
                mend="for example 127.0.10.0",
            )
    return {name: str(address) for name, address in addresses.items()}
