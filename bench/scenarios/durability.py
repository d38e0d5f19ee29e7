"""What each system has on disk before it says yes, beside what it moved: a rate without that promise compares with nothing."""

from __future__ import annotations

from typing import Any

from bench import haraka, postfix, server
from bench.postgres import DURABILITY
from bench.record import earlier
from bench.rounds import Plan

NAME = "durability"
# system -> its promise, the scenario and the entry that measured it
PROMISES = {
    server.NAME: (server.DURABILITY, "relay", server.NAME),
    "mailfleet_campaign": (server.DURABILITY, "campaign", server.NAME),
    "mailfleet_on_postgresql": (DURABILITY, "postgres", "mailfleet_relay"),
    postfix.NAME: (postfix.DURABILITY, "relay", postfix.NAME),
    haraka.NAME: (haraka.DURABILITY, "relay", haraka.NAME),
}


def run(plan: Plan) -> dict[str, Any]:
    """Nothing is measured here: the figures are those of the last run of each scenario."""
    results = earlier(plan.trial).get("results", {})
    found = {}
    for system, (promise, scenario, entry) in PROMISES.items():
        measured = results.get(scenario, {}).get(entry)
        found[system] = {"durability": promise, "from": scenario}
        if measured:
            found[system] |= {key: measured[key] for key in ("median", "min", "max", "unit") if key in measured}
    return found
