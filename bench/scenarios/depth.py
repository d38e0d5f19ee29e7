"""A campaign while 1,000,000 messages wait for a later day, against 10,000: rate, memory of each role, size of the database."""

from __future__ import annotations

from typing import Any

from bench import server
from bench.network import network
from bench.rounds import Pace, Plan, interleave, ratio, say, series
from bench.scenarios.accept import later
from bench.scenarios.campaign import recipients, timed, told
from bench.server import mailfleet

NAME = "depth"
DEEP, SHALLOW = 1_000_000, 10_000


def run(plan: Plan) -> dict[str, Any]:
    """Two servers side by side, one busy at a time; the list of a million is uploaded once."""
    pace = Pace(plan)
    deep, shallow = plan.scaled(DEEP), plan.scaled(SHALLOW)
    with network() as net, mailfleet(net) as full, mailfleet(net) as light:
        light.start_campaign(recipients(shallow), send_at=later())
        say(f"{NAME}: uploading {deep:,} rows")
        full.start_campaign(recipients(deep), send_at=later())
        jobs = {
            "shallow": lambda: pace.batch(NAME, "at_sink", lambda count: timed(light, net, recipients(count))),
            server.NAME: lambda: pace.batch(NAME, "at_sink", lambda count: timed(full, net, recipients(count))),
        }
        samples = interleave(NAME, plan.rounds, jobs)
        memory = {name: {"memory_mb": fleet.memory_mb(), "database_mb": fleet.database_mb()} for name, fleet in
                  ((server.NAME, full), ("shallow", light))}  # fmt: skip
    mine, others = samples[server.NAME], samples["shallow"]
    return {
        server.NAME: told(mine, "rate", server.DURABILITY, queued=deep, **memory[server.NAME]),
        "shallow": told(others, "rate", server.DURABILITY, queued=shallow, **memory["shallow"]),
        "ratio": {"shallow": ratio(series(mine, "rate"), series(others, "rate"))},
    }
