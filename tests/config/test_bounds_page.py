"""The page of bounds and the program do not drift apart: settings, constants and metrics that it names are there, and it names
every metric of a bound and every setting that is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from mailfleet.config.metrics import CATALOGUE, NAMES_BEGIN_WITH
from mailfleet.config.settings import Settings
from mailfleet.listen.http_tolls import BOUNDS
from mailfleet.listen.submission_tolls import REASONS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "bounds.md").read_text("utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| what is bounded")]
# Refusals that no bound of size or time makes.
JUDGEMENTS = {"sender", "recipient", "message", "failed", "stopping", "busy", "login_busy", "cannot_accept"}
# Metrics of what has no bound to reach: what was done, and how long it took.
NO_BOUND = {
    "accepted_recipients_total",
    "attempt_seconds",
    "delivery_age_seconds",
    "http_request_seconds",
    "http_requests_open",
    "lanes",
    "leased_deliveries",
    "long_reads_total",
    "oldest_delivery_seconds",
    "queued_deliveries",
    "smtp_connections_total",
    "submission_connections_total",
    "submission_messages_total",
    "unreadable_values_total",
}


def settings_of(model: BaseModel, above: str = "") -> Iterator[str]:
    """Every setting by its dotted name."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from settings_of(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def test_settings_on_the_page_are_there() -> None:
    sections = "|".join(name for name, info in Settings.model_fields.items() if isinstance(info.default, BaseModel))
    named = set(re.findall(rf"`((?:{sections})\.[a-z0-9_.]+)`", PAGE))
    assert named - set(settings_of(Settings())) == set()


def test_every_setting_that_is_a_bound_is_on_the_page() -> None:
    bounds = {name for name in settings_of(Settings()) if re.search(r"\.(?:\w*max_|min_|keep_|\w+_timeout_s$)", name)}
    bounds -= {"retry.bulk.max_delay_s", "retry.transactional.max_delay_s"}  # a pace, not an end
    assert {name for name in bounds if f"`{name}`" not in PAGE} == set()


def test_constants_on_the_page_are_where_it_says() -> None:
    checked = 0
    for row in ROWS:
        for cell in row.split(" | "):
            constants = re.findall(r"`(_?[A-Z][A-Z_]+)`", cell)
            sources = "".join(
                (ROOT / path).read_text("utf-8") for path in re.findall(r"`(mailfleet/[\w/]+\.py)`", cell)
            )
            if constants and sources:
                for name in constants:
                    assert re.search(rf"^(?:\w+, )?{name}(?:, \w+)? = ", sources, re.M), f"{name}: {cell}"
                    checked += 1
    assert checked > 40


def test_metrics_on_the_page_are_exported_and_those_of_bounds_are_on_it() -> None:
    named = {name.removeprefix(NAMES_BEGIN_WITH) for name in re.findall(r"`(mailfleet_[a-z_]+)", PAGE)}
    assert named - CATALOGUE.keys() == {"role_up"}
    assert CATALOGUE.keys() - named == NO_BOUND


def test_every_reason_of_a_refusal_is_explained() -> None:
    named = set(re.findall(r"reason(?:=\"| `)([a-z_]+)", PAGE))
    assert named == (set(REASONS) - JUDGEMENTS) | set(BOUNDS)
