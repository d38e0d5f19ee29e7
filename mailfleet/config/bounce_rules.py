"""Reads the bounce rules that ship with Mailfleet (``data/bounce_rules.toml``) into ``policy.rules.Rule`` values."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mailfleet.base.errors import ConfigError
from mailfleet.policy.outcome import Action, Fault
from mailfleet.policy.phrases import Phrase
from mailfleet.policy.rules import Rule, parse_status_pattern

SHIPPED = Path(__file__).with_name("data") / "bounce_rules.toml"


class _RuleEntry(BaseModel):
    """One ``[[rule]]`` as it stands in the file; ``text`` are phrases as ``policy.phrases`` describes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    bounce_class: str = Field(alias="class")
    provider: str | None = None
    codes: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    text: tuple[str, ...] = ()
    action: Literal["defer", "bounce"] | None = None
    fault: Fault | None = None
    suppress: bool | None = None
    retry_after_s: int | None = Field(None, ge=60, le=86_400)
    matches: tuple[str, ...] = Field(min_length=1)
    rejects: tuple[str, ...] = Field(min_length=1)

    def rule(self) -> Rule:
        for code in self.codes:
            if not code.isdigit() or not 1 <= len(code) <= 3 or code[0] not in "45":
                raise ValueError(f"{code!r} is not the start of a 4yz or 5yz code")
        for phrase in self.text:
            Phrase(phrase)
        return Rule(
            name=self.name,
            bounce_class=self.bounce_class,
            provider=self.provider,
            codes=self.codes,
            statuses=tuple(parse_status_pattern(one) for one in self.status),
            phrases=self.text,
            action=Action(self.action) if self.action else None,
            fault=self.fault,
            suppress=self.suppress,
            retry_after_s=self.retry_after_s,
            matches=self.matches,
            rejects=self.rejects,
        )


def load_rules(path: Path = SHIPPED) -> tuple[Rule, ...]:
    """The rules of a file, in its order. Raises ``ConfigError`` naming the file and the rule."""
    try:
        entries = tomllib.loads(path.read_text("utf-8")).get("rule", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), mend="restore the shipped file") from None
    rules: list[Rule] = []
    seen: set[str] = set()
    for number, entry in enumerate(entries, 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        where = f"{path}: rule {number} ({name or 'no name'})"
        try:
            rule = _RuleEntry.model_validate(entry).rule()
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{field}: {first['msg']}", where=where, mend="correct it") from None
        except ValueError as error:
            raise ConfigError(str(error), where=where, mend="correct it") from None
        if rule.name in seen:
            raise ConfigError("an earlier rule has the same name", where=where, mend="rename one of them")
        seen.add(rule.name)
        rules.append(rule)
    return tuple(rules)
