"""A campaign while its source warms up (with a cap that is not reached) and shaping is on, against the same with both off."""

from __future__ import annotations

from typing import Any

from bench import server
from bench.network import Network, network
from bench.rounds import Pace, Plan, Sample, interleave, ratio, series
from bench.scenarios.campaign import recipients, timed, told
from bench.server import mailfleet

NAME = "warming"
OFF = {"MAILFLEET_DELIVERY__SHAPING": "false", "MAILFLEET_REPUTATION__BRAKES": "false"}
STAGE = 24  # tens of millions a day: every claim reserves and every settlement counts, and nothing waits for it


def _with(net: Network, pace: Pace) -> Sample:
    with mailfleet(net) as running:
        running.post("/v1/warmups", {"source": "default", "plan": "standard", "provider": "other", "stage": STAGE})
        return pace.batch(NAME, "at_sink", lambda count: timed(running, net, recipients(count)))


def _without(net: Network, pace: Pace) -> Sample:
    with mailfleet(net, **OFF) as running:
        return pace.batch(NAME, "at_sink", lambda count: timed(running, net, recipients(count)))


def run(plan: Plan) -> dict[str, Any]:
    """In the same rounds."""
    pace = Pace(plan)
    with network() as net:
        samples = interleave(
            NAME, plan.rounds, {server.NAME: lambda: _with(net, pace), "without": lambda: _without(net, pace)}
        )
    mine, others = samples[server.NAME], samples["without"]
    return {
        server.NAME: told(mine, "rate", server.DURABILITY),
        "without": told(others, "rate", server.DURABILITY),
        "ratio": {"without": ratio(series(mine, "rate"), series(others, "rate"))},
    }
