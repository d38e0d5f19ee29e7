"""Reads mailbox providers and the limits towards them: those that ship with Mailfleet, and a user's own file over them.

A user's file has the same form. Its ``[default]`` and ``[[provider]]`` entries set what they name and leave the rest; a provider
that is not known yet needs ``label``, ``mx_suffixes`` and a sample. ``[[source]]`` entries are for one source, at one provider or all.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from mailfleet.base.errors import ConfigError
from mailfleet.config.data_file import read_data
from mailfleet.config.shaping import seconds
from mailfleet.policy.providers import Layer, Provider, ProviderTable
from mailfleet.policy.rates import parse

SHIPPED = Path(__file__).with_name("data") / "providers.toml"


def _rate(text: str) -> str:
    parse(text)
    return text


class _LimitsEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    connections: int | None = Field(None, ge=1)
    messages_per_connection: int | None = Field(None, ge=1)
    rate: Annotated[str, AfterValidator(_rate)] | None = None
    tls: Literal["verified", "required", "opportunistic"] | None = None
    commands_behind_message: bool | None = None
    provider_connections: int | None = Field(None, ge=1)
    provider_rate: Annotated[str, AfterValidator(_rate)] | None = None
    retry_after: Annotated[int, BeforeValidator(seconds), Field(ge=0, le=86_400)] | None = None

    def values(self) -> dict[str, object]:
        """What it sets, by field of ``Limits``."""
        found = {
            "connections": self.connections,
            "messages_per_connection": self.messages_per_connection,
            "rates": None if self.rate is None else parse(self.rate),
            "tls": None if self.tls is None else "" if self.tls == "opportunistic" else self.tls,
            "commands_behind_message": self.commands_behind_message,
            "retry_after_s": self.retry_after,
            "provider_connections": self.provider_connections,
            "provider_rates": None if self.provider_rate is None else parse(self.provider_rate),
        }
        return {name: value for name, value in found.items() if value is not None}


class _ProviderEntry(_LimitsEntry):
    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    label: str | None = Field(None, min_length=1)
    mx_suffixes: tuple[str, ...] = ()
    mx_matches: tuple[tuple[str, ...], ...] = ()
    mx_rejects: tuple[tuple[str, ...], ...] = ()


class _SourceEntry(_LimitsEntry):
    name: str
    provider: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    default: _LimitsEntry = _LimitsEntry()
    provider: tuple[_ProviderEntry, ...] = ()
    source: tuple[_SourceEntry, ...] = ()


def load_providers(*own: Path) -> ProviderTable:
    """The table of the shipped file with ``own`` over it, in order. Raises ``ConfigError`` naming file and entry."""
    providers: dict[str, Provider] = {}
    layers: list[Layer] = []
    for path in (SHIPPED, *own):
        file, shown = _read(path), path.name
        names = [one.name for one in file.provider]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(f"two providers are called {twice}", where=str(path), mend="make one entry of them")
        layers.append(Layer(f"{shown}: default", "", "", file.default.values()))
        for one in file.provider:
            providers[one.name] = _provider(one, providers.get(one.name), path)
            layers.append(Layer(f"{shown}: provider {one.name}", one.name, "", one.values()))
        for source in file.source:
            if source.provider and source.provider not in providers:
                raise ConfigError(
                    f"there is no provider {source.provider!r}",
                    where=f"{path}: source {source.name}",
                    mend="see mailfleet provider list",
                )
            at = f" at {source.provider}" if source.provider else ""
            layers.append(Layer(f"{shown}: source {source.name}{at}", source.provider, source.name, source.values()))
    try:
        return ProviderTable(list(providers.values()), [one for one in layers if one.values])
    except ValueError as error:
        raise ConfigError(str(error), where=str(own[-1] if own else SHIPPED), mend="remove one of them") from None


def faults(table: ProviderTable, own: Sequence[Path] = ()) -> list[str]:
    """What is in vain: samples that do not match, and entries of the user's files that change nothing."""
    found = []
    for one in table.providers.values():
        wrong = [hosts for hosts in one.mx_matches if table.provider_of(hosts) != one.name]
        wrong += [hosts for hosts in one.mx_rejects if table.provider_of(hosts) == one.name]
        found += [f"provider {one.name}: {', '.join(hosts)} is not recognised as its sample says" for hosts in wrong]
        if not one.mx_matches:
            found.append(f"provider {one.name}: mx_matches is missing, a set of MX hosts that are its own")
    names = {path.name for path in own}
    found += [
        f"{layer.origin}: it changes nothing" for layer in table.idle() if layer.origin.partition(":")[0] in names
    ]
    return found


def _read(path: Path) -> _File:
    return read_data(path, _File)


def _provider(one: _ProviderEntry, known: Provider | None, path: Path) -> Provider:
    """A new provider, or a known one with what the entry adds."""
    if known is None and not (one.label and one.mx_suffixes):
        raise ConfigError(
            f"there is no provider {one.name!r} to change, and for a new one label and mx_suffixes are missing",
            where=f"{path}: provider {one.name}",
            mend="correct the name (mailfleet provider list), or add both",
        )
    if known is None:
        return Provider(one.name, one.label or "", one.mx_suffixes, one.mx_matches, one.mx_rejects)
    return Provider(
        one.name,
        one.label or known.label,
        tuple(dict.fromkeys(known.mx_suffixes + one.mx_suffixes)),
        known.mx_matches + one.mx_matches,
        known.mx_rejects + one.mx_rejects,
    )
