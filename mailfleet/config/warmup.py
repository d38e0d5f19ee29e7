"""Reads warm-up plans: those that ship with Mailfleet (``data/warmup_plans.toml``) and a user's own tables of the same form."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mailfleet.base.errors import ConfigError
from mailfleet.config.data_file import read_data
from mailfleet.policy.warmup import Plan

SHIPPED = Path(__file__).with_name("data") / "warmup_plans.toml"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    caps: tuple[int, ...] = Field(min_length=1, max_length=400)
    enough: int = Field(ge=1)
    adaptive: bool = True
    days_per_stage: int = Field(1, ge=1, le=30)

    @model_validator(mode="after")
    def _grows(self) -> _Entry:
        if any(cap < 1 for cap in self.caps) or any(b < a for a, b in zip(self.caps, self.caps[1:], strict=False)):
            raise ValueError("caps must be at least 1 and never fall: the policy itself steps back when it must")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: tuple[_Entry, ...] = Field(min_length=1)


def load_plans(*own: Path) -> dict[str, Plan]:
    """Plans by name, a later file's over an earlier one's. Raises ``ConfigError`` naming file and entry."""
    plans: dict[str, Plan] = {}
    for path in (SHIPPED, *own):
        file = read_data(path, _File)
        seen: set[str] = set()
        for one in file.plan:
            if one.name in seen:
                raise ConfigError(f"two plans are called {one.name}", where=str(path), mend="rename one of them")
            seen.add(one.name)
            plans[one.name] = Plan(one.name, one.caps, one.enough, one.adaptive, one.days_per_stage)
    return plans
