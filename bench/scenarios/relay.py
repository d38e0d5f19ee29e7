"""SMTP in, signed, SMTP out, each message whole: the same bytes by the same load generator through all three."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bench import server
from bench.handover import hand_over
from bench.network import Network, network
from bench.rounds import Pace, Plan, Sample, interleave, ratio, series, summary
from bench.scenarios import signing_limit
from bench.scenarios.campaign import RIVALS, rival, told
from bench.server import mailfleet

NAME = "relay"


def ours(net: Network, pace: Pace, job: str = NAME, **env: str) -> Sample:
    """A fresh Mailfleet, warmed up, and one batch through its submission port."""
    with mailfleet(net, **env) as running:
        return pace.batch(job, "delivered", partial(hand_over, running.relay(), net))


def run(plan: Plan) -> dict[str, Any]:
    """Measure all in the same rounds."""
    pace = Pace(plan)
    with network() as net:
        jobs: dict[str, Callable[[], Sample]] = {
            signing_limit.NAME: signing_limit.sample,
            server.NAME: partial(ours, net, pace),
            **{name: partial(rival, name, net, pace) for name in RIVALS},
        }
        samples = interleave(NAME, plan.rounds, jobs)
    mine = series(samples[server.NAME], "delivered")
    found: dict[str, Any] = {
        server.NAME: told(samples[server.NAME], "delivered", server.DURABILITY),
        signing_limit.NAME: summary(series(samples[signing_limit.NAME], "rate"), "signatures/s"),
    }
    ratios = {signing_limit.NAME: ratio(mine, series(samples[signing_limit.NAME], "rate"))}
    for name, (_, durability) in RIVALS.items():
        found[name] = told(samples[name], "delivered", durability)
        ratios[name] = ratio(mine, series(samples[name], "delivered"))
    for name in (server.NAME, *RIVALS):
        found[name]["accepted_median"] = summary(series(samples[name], "accepted"))["median"]
    return found | {"ratio": ratios}
