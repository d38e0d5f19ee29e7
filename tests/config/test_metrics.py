"""The catalogue of metrics keeps Prometheus' rules of naming."""

from __future__ import annotations

import re
from pathlib import Path

from mailfleet.config.metrics import CATALOGUE

FEW_VALUED = {
    "outcome",
    "policy",
    "provider",
    "result",
    "stream",
    "entrance",
    "method",
    "route",
    "status",
    "reason",
    "tried",
    "code",
}


def test_names_say_kind_and_unit() -> None:
    for name, metric in CATALOGUE.items():
        assert re.fullmatch(r"[a-z][a-z_]+", name), name
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert bool(metric.bounds) == (metric.kind == "histogram"), name
        assert list(metric.bounds) == sorted(set(metric.bounds)), name
        assert metric.help.endswith("."), name


def test_labels_have_few_values() -> None:
    assert {label for metric in CATALOGUE.values() for label in metric.labels} <= FEW_VALUED


def test_every_metric_is_fed() -> None:
    """A metric that nothing counts is an empty promise."""
    package = Path(__file__).parents[2] / "mailfleet"
    sources = "\n".join(
        path.read_text("utf-8") for path in package.rglob("*.py") if path != package / "config" / "metrics.py"
    )
    unfed = {name for name in CATALOGUE if f'"{name}"' not in sources}
    assert unfed == set(), "count them or take them out"
