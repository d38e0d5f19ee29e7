"""A campaign to 10,000 domains, each with a mail host of its own, against the same number of messages to 50."""

from __future__ import annotations

from typing import Any

from bench import server
from bench.network import DOMAINS, Network, network
from bench.rounds import Plan, Sample, interleave, ratio, series, summary
from bench.scenarios.campaign import recipients, timed, told
from bench.server import mailfleet

NAME = "fanout"
WIDE = 10_000
EACH = 2
WARM_UP = 500


def ours(net: Network, count: int, domains: int) -> Sample:
    """A fresh Mailfleet, so that none of the many domains is known yet."""
    with mailfleet(net) as running:
        timed(running, net, recipients(WARM_UP))
        return timed(running, net, recipients(count, domains, "d" if domains == DOMAINS else "w"))


def run(plan: Plan) -> dict[str, Any]:
    """Wide and narrow in each round."""
    wide = plan.scaled(WIDE)
    with network() as net:
        jobs = {
            server.NAME: lambda: ours(net, EACH * wide, wide),
            "fifty_domains": lambda: ours(net, EACH * wide, DOMAINS),
        }
        samples = interleave(NAME, plan.rounds, jobs)
    mine, others = samples[server.NAME], samples["fifty_domains"]
    return {
        server.NAME: told(mine, "rate", server.DURABILITY, domains=wide),
        "fifty_domains": summary(series(others, "rate")),
        "ratio": {"fifty_domains": ratio(series(mine, "rate"), series(others, "rate"))},
    }
