"""Reference pages of settings and metrics, made from the schema and the catalogue so that they cannot tell anything else."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mailfleet.base.gauges import MAX_SERIES, OVERFLOW
from mailfleet.config.metrics import CATALOGUE, NAMES_BEGIN_WITH
from mailfleet.config.settings import Settings

_HEAD = """\
# mailfleet.toml: every setting with its default. Remove the # in front of what you change.
# Environment variables win over this file: {prefix}DATA, {prefix}SERVER__HOSTNAME and so on.
# Made by `mailfleet settings example`; the same as a page: docs/reference/settings.md.
"""

_PAGE_HEAD = """\
# Settings

Made by `mailfleet settings reference` from `mailfleet/config/settings.py`; do not edit this page.

Weakest first: the defaults below, `mailfleet.toml` (the file given to `--config`, else `./mailfleet.toml`, else
`DATA/mailfleet.toml`), environment variables, flags of `mailfleet serve`. A key that is not listed here is refused, so a
misspelt setting cannot be overlooked. `mailfleet settings check` says whether a file is usable without starting anything.

In the environment a setting is called `MAILFLEET_SECTION__KEY`, for example `MAILFLEET_DELIVERY__REMOTE_PORT=2600`; a list is
written as JSON. `docs/reference/mailfleet.example.toml` is this page as a file to start from.
"""


def example_toml() -> str:
    """A valid TOML file: sections live, keys commented out with their default, each preceded by its description."""
    prefix = str(Settings.model_config.get("env_prefix", ""))
    lines = [_HEAD.format(prefix=prefix)]
    for name, info in Settings.model_fields.items():
        if not _is_section(info):
            lines += [*_comment(info), f"# {name} = {_toml(_default(info))}", ""]
    for path, section in _sections(Settings()):
        lines += [f"[{path}]", *_wrapped(_summary(type(section)), "# ")]
        for name, info, value in _keys(section):
            # A key without a default of its own must be there whenever its section is.
            mark = "" if info.is_required() else "# "
            lines += ["", *_comment(info), f"{mark}{name} = {_toml(value)}"]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def reference_markdown() -> str:
    """One heading for each section, one table row for each key."""
    lines = [_PAGE_HEAD, "## Top level", "", *_table_head()]
    for name, info in Settings.model_fields.items():
        if not _is_section(info):
            lines.append(_table_row(name, info, _default(info)))
    for path, section in _sections(Settings()):
        lines += ["", f"## `[{path}]`", "", _summary(type(section)), ""]
        keys = list(_keys(section))
        if keys:
            lines += [*_table_head(), *(_table_row(name, info, value) for name, info, value in keys)]
        else:
            lines[-1:] = []
    return "\n".join(lines) + "\n"


_METRICS_HEAD = """\
# Metrics

Made by `python -m mailfleet.cli.reference metrics` from `mailfleet/config/metrics.py`; do not edit this page.

What `GET /metrics` answers ([how to read it](../guides/monitoring.md)). Every line carries the label `role` (`front`, `jobs`,
`deliver-0` ...), except where "node" is said: those are told once. A provider is a name from
`mailfleet/config/data/providers.toml`, or `none` for sites that belong to none. A line appears when there is something to
tell; a metric has at most {most} lines a role, what would be more is counted together as `{overflow}`.

| metric | kind | labels | meaning |
|---|---|---|---|
| `{begin}build_info` | info, node | version | The program that answers. |
| `{begin}role_up` | gauge | | 1 while the role gives signs of life, else 0. |
"""


def metrics_markdown() -> str:
    """One table row for each metric."""
    rows = "".join(
        f"| `{NAMES_BEGIN_WITH}{name}` | {metric.kind}{', node' if metric.node else ''}"
        f" | {', '.join(metric.labels)} | {metric.help} |\n"
        for name, metric in CATALOGUE.items()
    )
    return _METRICS_HEAD.format(most=MAX_SERIES, overflow=OVERFLOW, begin=NAMES_BEGIN_WITH) + rows


def _sections(model: BaseModel, above: str = "") -> Iterator[tuple[str, BaseModel]]:
    """Every section with its dotted name, parents first."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            path = f"{above}{name}"
            yield path, value
            yield from _sections(value, f"{path}.")


def _keys(section: BaseModel) -> Iterator[tuple[str, FieldInfo, Any]]:
    """The keys of a section that are not sections themselves, with the value that holds there by default."""
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if not isinstance(value, BaseModel):
            yield info.alias or name, info, value


def _is_section(info: FieldInfo) -> bool:
    return isinstance(info.default, BaseModel)


def _default(info: FieldInfo) -> Any:
    return info.get_default(call_default_factory=True, validated_data={})


def _summary(kind: type[BaseModel]) -> str:
    return " ".join((kind.__doc__ or "").split()).replace("``", "`")


def _comment(info: FieldInfo) -> list[str]:
    limits = _limits(info)
    return _wrapped(f"{info.description}{f' ({limits})' if limits else ''}", "# ")


def _wrapped(text: str, lead: str) -> list[str]:
    return textwrap.wrap(text, 110, initial_indent=lead, subsequent_indent=lead, break_on_hyphens=False)


def _limits(info: FieldInfo) -> str:
    """What the value may be, in words, from the field's constraints."""
    words = []
    for rule in info.metadata:
        for name, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
            bound = getattr(rule, name, None)
            if bound is not None:
                words.append(f"{word} {bound}")
        pattern = getattr(rule, "pattern", None)
        if pattern is not None:
            words.append("one of " + ", ".join(str(pattern).strip("^$()").split("|")))
    return ", ".join(words)


_KINDS: tuple[tuple[Any, str], ...] = (
    (bool, "true or false"),
    (int, "integer"),
    (float, "number"),
    (str, "text"),
    (Path, "path"),
    (list[str], "list of text"),
)


def _kind(info: FieldInfo) -> str:
    return next((word for kind, word in _KINDS if kind == info.annotation), str(info.annotation))


def _toml(value: Any) -> str:
    """A default as TOML writes it: JSON's scalars and arrays are TOML's too."""
    if isinstance(value, Path):
        return json.dumps(str(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _table_head() -> list[str]:
    return ["| key | kind | default | meaning |", "|---|---|---|---|"]


def _table_row(name: str, info: FieldInfo, value: Any) -> str:
    limits = _limits(info)
    kind = _kind(info) + (f", {limits}" if limits else "")
    meaning = str(info.description).replace("|", "\\|")
    return f"| `{name}` | {kind} | `{_toml(value)}` | {meaning} |"
