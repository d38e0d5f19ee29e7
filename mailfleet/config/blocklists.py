"""Reads block lists: those that ship with Mailfleet (``data/blocklists.toml``) and a user's own file of the same form over them."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mailfleet.base.errors import ConfigError
from mailfleet.config.data_file import read_data
from mailfleet.config.shaping import seconds
from mailfleet.policy.blocklists import FREE_ADDRESS, TEST_ADDRESS, BlockList, Meaning, distrust, meaning

SHIPPED = Path(__file__).with_name("data") / "blocklists.toml"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    label: str = ""
    zone: str = Field("", pattern=r"^[A-Za-z0-9._-]*$")
    kind: Literal["ip", "domain"] = "ip"
    action: Literal["rest", "drain", "watch"] = "watch"
    ipv6: bool = False
    codes: dict[str, str] = {}
    errors: dict[str, str] = {}
    listed: str = TEST_ADDRESS
    free: str = FREE_ADDRESS
    every: Annotated[int, BeforeValidator(seconds), Field(ge=60)] = 3600
    page: str = ""
    delist: str = ""
    private: bool = False
    off: bool = False


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    list: tuple[_Entry, ...]


def load_blocklists(*own: Path, shipped: bool = True) -> dict[str, BlockList]:
    """Lists by name; a later file replaces an entry as a whole, or switches it ``off``. Raises ``ConfigError``."""
    found: dict[str, BlockList] = {}
    for path in ((SHIPPED,) if shipped else ()) + own:
        file = read_data(path, _File)
        for one in file.list:
            if one.off:
                found.pop(one.name, None)
                continue
            made = _list(one)
            wrong = faults(made)
            if wrong:
                raise ConfigError(wrong, where=f"{path}: list {one.name}", mend="correct it")
            found[one.name] = made
    return found


def faults(one: BlockList) -> str:
    """Why a list could never say anything sensible; empty when it can."""
    for code in (*one.codes, *one.errors):
        try:
            inside = ipaddress.ip_address(code) in ipaddress.ip_network("127.0.0.0/8")
        except ValueError:
            inside = False
        if not inside:
            return f"{code} is no answer of a block list: those are in 127.0.0.0/8"
    both = set(one.codes) & set(one.errors)
    if both:
        return f"{', '.join(sorted(both))} cannot be a listing and an error"
    if not one.zone:
        return "zone is missing"
    if one.kind == "domain" and one.listed == TEST_ADDRESS:
        return "listed and free are missing: a domain that it lists for tests, and one that it does not"
    if one.codes and distrust(one, meaning(one, [next(iter(one.codes))]), Meaning("clear")):
        return "its own first code does not count as a listing"
    return ""


def _list(one: _Entry) -> BlockList:
    return BlockList(
        one.name,
        one.label or one.name,
        one.zone.lower(),
        one.kind,
        one.action,
        one.ipv6,
        one.codes,
        one.errors,
        one.listed,
        one.free,
        one.every,
        one.page,
        one.delist,
        one.private,
    )
