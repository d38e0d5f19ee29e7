"""Single messages by HTTP, ``POST /v1/messages``: accepted and delivered a second. Mailfleet alone."""

from __future__ import annotations

from typing import Any

from bench import server
from bench.handover import post
from bench.network import Network, network
from bench.rounds import Pace, Plan, Sample, interleave, series, summary
from bench.scenarios.campaign import told
from bench.server import mailfleet

NAME = "api"
CONNECTIONS = 32


def ours(net: Network, pace: Pace) -> Sample:
    """A fresh Mailfleet, warmed up, and one batch."""
    with mailfleet(net) as running:
        relay, (url, token) = running.relay(), (running.connection[name] for name in ("http", "token"))
        return pace.batch(NAME, "delivered", lambda count: post(relay, net, count, CONNECTIONS, url, token))


def run(plan: Plan) -> dict[str, Any]:
    """``mailfleet`` is what was delivered, ``accepted`` what was answered 202."""
    pace = Pace(plan)
    with network() as net:
        samples = interleave(NAME, plan.rounds, {server.NAME: lambda: ours(net, pace)})[server.NAME]
    return {
        server.NAME: told(samples, "delivered", server.DURABILITY, connections=CONNECTIONS),
        "accepted": summary(series(samples, "accepted")),
    }
