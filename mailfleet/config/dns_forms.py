"""Reads how the forms of DNS providers want records (``data/dns_providers.toml``)."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mailfleet.config.data_file import read_data
from mailfleet.policy.dns_forms import LABELS, Form

SHIPPED = Path(__file__).with_name("data") / "dns_providers.toml"
Kind = Literal["A", "AAAA", "CNAME", "MX", "TXT", "CAA", "TLSA"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    label: str = Field(min_length=1)
    host: Literal["relative", "absolute"] = "relative"
    apex: str = "@"
    dot: bool = False
    txt: Literal["plain", "split"] = "plain"
    ttl_min: int = Field(ge=1, le=86400)
    apart: tuple[Kind, ...] = ()
    missing: tuple[Kind, ...] = ()
    unsure: tuple[Kind, ...] = ()
    labels: dict[str, str] = {}
    note: str = ""
    page: str = Field(pattern=r"^https://")
    seen: date | None = None

    @field_validator("labels")
    @classmethod
    def _known(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            kind, dot, field = name.rpartition(".")
            if field not in LABELS or (dot and kind not in get_args(Kind)):
                raise ValueError(f"{name!r} is no field: {', '.join(LABELS)}, alone or behind a type and a dot")
        return value


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: tuple[_Entry, ...]


def load_dns_forms(path: Path = SHIPPED) -> dict[str, Form]:
    """Forms by name. Raises ``ConfigError``."""
    file = read_data(path, _File)
    return {one.name: _form(one) for one in file.provider}


def _form(one: _Entry) -> Form:
    return Form(
        one.name, one.label, one.host, one.apex, one.dot, one.txt, one.ttl_min, one.page,
        one.seen.isoformat() if one.seen else "", frozenset(one.apart), frozenset(one.missing), frozenset(one.unsure),
        one.labels, one.note,
    )  # fmt: skip
