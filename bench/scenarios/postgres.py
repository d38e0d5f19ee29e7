"""The campaign and the relay on PostgreSQL, against SQLite in the same rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench import server
from bench.network import Network, network
from bench.postgres import DURABILITY, postgresql, require_setting
from bench.rounds import Pace, Plan, Sample, interleave, ratio, series
from bench.scenarios import campaign, relay
from bench.scenarios.campaign import told

NAME = "postgres"


def on_postgres(ours: Callable[..., Sample], net: Network, pace: Pace, job: str) -> Sample:
    """A fresh cluster and a fresh Mailfleet on it."""
    with postgresql() as url:
        return ours(net, pace, job, MAILFLEET_DATABASE__URL=url)


def run(plan: Plan) -> dict[str, Any]:
    """``mailfleet`` is the campaign on PostgreSQL, ``mailfleet_relay`` the relay."""
    require_setting()
    pace = Pace(plan)
    with network() as net:
        jobs = {
            "campaign": lambda: on_postgres(campaign.ours, net, pace, "campaign on PostgreSQL"),
            "campaign_sqlite": lambda: campaign.ours(net, pace),
            "relay": lambda: on_postgres(relay.ours, net, pace, "relay on PostgreSQL"),
            "relay_sqlite": lambda: relay.ours(net, pace),
        }
        samples = interleave(NAME, plan.rounds, jobs)
    keys = {"campaign": "rate", "relay": "delivered"}
    found: dict[str, Any] = {"ratio": {}}
    for job, key in keys.items():
        mine, others = samples[job], samples[f"{job}_sqlite"]
        found[server.NAME if job == "campaign" else f"mailfleet_{job}"] = told(mine, key, DURABILITY)
        found[f"{job}_sqlite"] = told(others, key, server.DURABILITY)
        found["ratio"][f"{job}_sqlite"] = ratio(series(mine, key), series(others, key))
    return found
