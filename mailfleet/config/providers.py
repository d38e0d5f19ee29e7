"""Reads the mailbox providers that ship with Mailfleet (``data/providers.toml``) into a ``policy.providers.ProviderTable``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mailfleet.base.errors import ConfigError
from mailfleet.policy.providers import Limits, Provider, ProviderTable
from mailfleet.policy.rates import parse

SHIPPED = Path(__file__).with_name("data") / "providers.toml"


class _LimitsEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    connections: int | None = Field(None, ge=1)
    messages_per_connection: int | None = Field(None, ge=1)
    rate: str | None = None
    tls: Literal["required", "opportunistic"] = "opportunistic"


class _ProviderEntry(_LimitsEntry):
    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    label: str = Field(min_length=1)
    mx_suffixes: tuple[str, ...] = Field(min_length=1)
    mx_matches: tuple[tuple[str, ...], ...] = Field(min_length=1)
    mx_rejects: tuple[tuple[str, ...], ...] = ()


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    default: _LimitsEntry
    provider: tuple[_ProviderEntry, ...]


def load_providers(path: Path = SHIPPED) -> ProviderTable:
    """The table of a file. What a provider leaves out is the default's. Raises ``ConfigError`` naming file and entry."""
    try:
        file = _File.model_validate(tomllib.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), mend="restore the shipped file") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{path}: {'.'.join(str(part) for part in first['loc'])}"
        raise ConfigError(first["msg"], where=where, mend="correct it") from None
    default = _limits(file.default, Limits(10, 100))
    try:
        return ProviderTable(
            [
                Provider(one.name, one.label, one.mx_suffixes, _limits(one, default), one.mx_matches, one.mx_rejects)
                for one in file.provider
            ],
            default,
        )
    except ValueError as error:
        raise ConfigError(str(error), where=str(path), mend="remove one of them") from None


def _limits(entry: _LimitsEntry, default: Limits) -> Limits:
    return Limits(
        entry.connections or default.connections,
        entry.messages_per_connection or default.messages_per_connection,
        default.rates if entry.rate is None else parse(entry.rate),
        entry.tls == "required",
    )
