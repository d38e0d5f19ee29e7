"""Reads models of providers for rehearsals: shipped ones (``data/models``), a user's own TOML file, or a Python file."""

from __future__ import annotations

import importlib.util
import random
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, create_model

from mailfleet.base.errors import ConfigError
from mailfleet.config.data_file import read_data
from mailfleet.rehearse.model import CohortModel, Manners, Model

SHIPPED = Path(__file__).with_name("data") / "models"

_TYPES: dict[str, type] = {"str": str, "int": int, "float": float}
_NEEDED = ("name", "share", "floor", "growth", "ceiling")
_FIELDS: dict[str, Any] = {
    one.name: (_TYPES[str(one.type)], ... if one.name in _NEEDED else one.default) for one in fields(Manners)
}
_Entry: Any = create_model("_Entry", __config__=ConfigDict(extra="forbid", frozen=True), **_FIELDS)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: tuple[_Entry, ...] = Field(min_length=1)


def shipped_models() -> list[str]:
    """Names of the models that ship with Mailfleet."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_model(name: str, seed: int) -> Model:
    """A model by the name of a shipped one or a file's path, with its chance from ``seed``. Raises ``ConfigError``."""
    path = SHIPPED / f"{name}.toml" if name in shipped_models() else Path(name)
    if path.suffix == ".py":
        return _from_python(path, seed)
    file = read_data(
        path,
        _File,
        unread=f"name a file, or one of {', '.join(shipped_models())}",
        wrong="see docs/reference/provider-models.md",
    )
    manners = [Manners(**one.model_dump()) for one in file.provider]
    names = [one.name for one in manners]
    wrong = [one.name for one in manners if min(one.share, one.floor, one.growth, one.ceiling, one.hour_share) <= 0]
    if wrong or len(set(names)) < len(names):
        what = (
            f"{wrong[0]}: share, floor, growth, ceiling and hour_share are above 0"
            if wrong
            else "a provider is there twice"
        )
        raise ConfigError(what, where=str(path), mend="see docs/reference/provider-models.md")
    return CohortModel(manners, random.Random(seed))  # noqa: S311 - chance in a play


def _from_python(path: Path, seed: int) -> Model:
    """The one class of a file that has ``offer`` and ``providers``; made with ``seed`` if it takes an argument of that name."""
    spec = importlib.util.spec_from_file_location("rehearsed_model", path)
    if spec is None or spec.loader is None or not path.exists():
        raise ConfigError("cannot be read", where=str(path), mend="name a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [
        one
        for one in vars(module).values()
        if isinstance(one, type) and one.__module__ == "rehearsed_model" and callable(getattr(one, "offer", None))
    ]
    if len(found) != 1:
        raise ConfigError(
            f"{len(found)} classes have a method offer",
            where=str(path),
            mend="write one class with offer(now, source, provider, attempted, engaged_share) and providers",
        )
    try:
        return cast(Model, found[0](seed=seed))
    except TypeError:
        return cast(Model, found[0]())
