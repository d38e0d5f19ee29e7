"""Reads the rules that lead from providers' words to brakes (``data/shaping.toml``) into ``policy.shaping.ShapingRule`` values."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mailfleet.base.errors import ConfigError
from mailfleet.policy.shaping import ShapingRule

SHIPPED = Path(__file__).with_name("data") / "shaping.toml"
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


def seconds(text: object) -> object:
    """``30min`` as seconds. Raises ``ValueError`` that says how to write it."""
    match = re.fullmatch(r"(\d{1,6})\s*(s|min|h|d)", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no length of time: write it as 90s, 30min, 2h or 1d")
    return int(match[1]) * _UNITS[match[2]]


_Seconds = Annotated[int, BeforeValidator(seconds), Field(gt=0)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    providers: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    bounce_rules: tuple[str, ...] = ()
    after: int = Field(1, ge=1, le=1000)
    within: _Seconds = 60
    of: float = Field(0, ge=0, le=100)
    action: Literal["slow", "rest", "reroute", "stop"]
    scope: Literal["lane", "provider", "source", "domain", "stream"]
    share: float = Field(ge=0, lt=100)
    duration: _Seconds = Field(alias="for")
    step: _Seconds
    reason: str = Field(min_length=1)
    matches: tuple[str, ...] = Field(min_length=1)
    rejects: tuple[str, ...] = Field(min_length=1)

    def rule(self) -> ShapingRule:
        return ShapingRule(
            self.name,
            self.action,
            self.scope,
            round(self.share * 10),
            self.duration,
            self.step,
            self.reason,
            self.providers,
            self.classes,
            self.bounce_rules,
            self.after,
            self.within,
            round(self.of * 10),
            self.matches,
            self.rejects,
        )


def load_shaping(path: Path = SHIPPED) -> tuple[ShapingRule, ...]:
    """The rules of a file, in its order. Raises ``ConfigError`` naming the file and the rule."""
    try:
        entries = tomllib.loads(path.read_text("utf-8")).get("rule", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), mend="correct it, or restore it") from None
    rules: dict[str, ShapingRule] = {}
    for number, entry in enumerate(entries, 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        where = f"{path}: rule {number} ({name or 'no name'})"
        try:
            rule = _Entry.model_validate(entry).rule()
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{field}: {first['msg']}", where=where, mend="correct it") from None
        if rule.name in rules:
            raise ConfigError("an earlier rule has the same name", where=where, mend="rename one of them")
        rules[rule.name] = rule
    return tuple(rules.values())
