"""The catalogue of metrics keeps Prometheus' rules of naming."""

from __future__ import annotations

import re

from mailfleet.config.metrics import CATALOGUE

FEW_VALUED = {
    "outcome",
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
