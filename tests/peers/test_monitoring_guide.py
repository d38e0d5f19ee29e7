"""The files of the guide to monitoring: promtool takes them, and each alert fires when what it is about happens, and only then."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mailfleet.config.metrics import CATALOGUE, NAMES_BEGIN_WITH
from tests.peers.prometheus import guide_file, promtool

# Alert: (series of a server in trouble, series of one that is well), values in promtool's notation, one a minute.
SERIES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "MailfleetDown": ({'up{job="mailfleet"}': "0x60"}, {'up{job="mailfleet"}': "1x60"}),
    "MailfleetRoleDown": ({'mailfleet_role_up{role="jobs"}': "0x60"}, {'mailfleet_role_up{role="jobs"}': "1x60"}),
    "MailfleetRoleRestarts": (
        {'mailfleet_role_starts_total{role="jobs"}': "1+1x60"},
        {'mailfleet_role_starts_total{role="jobs"}': "1x30 2x30"},
    ),
    "MailfleetDiskFills": (
        {"mailfleet_free_disk_bytes": "20e9-2e8x60"},
        {"mailfleet_free_disk_bytes": "20e9-1e6x60"},
    ),
    "MailfleetHouseFull": (
        {'mailfleet_submission_refusals_total{role="front",reason="max_connections"}': "0+30x60"},
        {
            'mailfleet_submission_refusals_total{role="front",reason="max_connections"}': "0+1x60",
            'mailfleet_submission_refusals_total{role="front",reason="login"}': "0+30x60",
            'mailfleet_http_requests_total{role="front",route="/v1/messages",status="202"}': "0+900x60",
        },
    ),
    "MailfleetNothingSettles": (
        {
            'mailfleet_leased_deliveries{provider="gmail"}': "50x60",
            'mailfleet_deliveries_total{outcome="delivered",provider="gmail"}': "7x60",
        },
        {
            'mailfleet_leased_deliveries{provider="gmail"}': "50x60",
            'mailfleet_deliveries_total{outcome="delivered",provider="gmail"}': "7+1x60",
        },
    ),
    "MailfleetBounces": (
        {
            'mailfleet_deliveries_total{outcome="delivered",provider="gmail"}': "0+90x60",
            'mailfleet_deliveries_total{outcome="bounced",provider="gmail"}': "0+10x60",
        },
        {
            'mailfleet_deliveries_total{outcome="delivered",provider="gmail"}': "0+990x60",
            'mailfleet_deliveries_total{outcome="bounced",provider="gmail"}': "0+10x60",
            'mailfleet_deliveries_total{outcome="bounced",provider="small"}': "0+1x60",
        },
    ),
    "MailfleetPutOff": (
        {
            'mailfleet_deliveries_total{outcome="delivered",provider="gmail"}': "0+10x60",
            'mailfleet_deliveries_total{outcome="deferred",provider="gmail"}': "0+90x60",
        },
        {
            'mailfleet_deliveries_total{outcome="delivered",provider="gmail"}': "0+90x60",
            'mailfleet_deliveries_total{outcome="deferred",provider="gmail"}': "0+10x60",
        },
    ),
}


def rules(folder: Path) -> str:
    """The rules as a file."""
    (folder / "mailfleet-rules.yml").write_text(guide_file("mailfleet-rules.yml"))
    return str(folder / "mailfleet-rules.yml")


def test_promtool_takes_the_rules(tmp_path: Path) -> None:
    assert "8 rules found" in promtool("check", "rules", rules(tmp_path))


def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    rules(tmp_path)
    (tmp_path / "mailfleet-token").write_text("secret")
    (tmp_path / "prometheus.yml").write_text(guide_file("prometheus.yml"))
    assert "1 rule files found" in promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_every_rule_has_its_trouble() -> None:
    assert set(re.findall(r"alert: (\w+)", guide_file("mailfleet-rules.yml"))) == set(SERIES)


def test_rules_ask_for_metrics_that_there_are() -> None:
    known = {NAMES_BEGIN_WITH + name for name in CATALOGUE} | {NAMES_BEGIN_WITH + "role_up"}
    asked = set(re.findall(r"\bmailfleet_[a-z_]+", guide_file("mailfleet-rules.yml")))
    assert asked - known == set()


@pytest.mark.parametrize("alert", SERIES)
def test_an_alert_fires_in_trouble_and_only_then(alert: str, tmp_path: Path) -> None:
    groups = []
    for series, fires in zip(SERIES[alert], (True, False), strict=True):
        groups.append(
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                        "eval_time": "59m",
                        "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                    }
                ],
            }
        )
    test = tmp_path / "test.yml"  # JSON is YAML
    test.write_text(json.dumps({"rule_files": [rules(tmp_path)], "evaluation_interval": "1m", "tests": groups}))
    assert "SUCCESS" in promtool("test", "rules", str(test))
