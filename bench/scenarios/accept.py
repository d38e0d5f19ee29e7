"""Rows of an uploaded list into the queue a second, from the first byte to 202. Mailfleet alone."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from bench import server
from bench.network import Network, network
from bench.rounds import Plan, Sample, interleave, series, summary
from bench.scenarios.campaign import recipients
from bench.server import mailfleet

NAME = "accept"
ROWS = 100_000


def later() -> str:
    """A day on which to send, so that nothing is delivered meanwhile."""
    return (datetime.now(UTC) + timedelta(days=30)).isoformat(timespec="seconds")


def ours(net: Network, rows: list[str]) -> Sample:
    """A fresh Mailfleet and one upload."""
    with mailfleet(net) as running:
        running.start_campaign(recipients(1), send_at=later())
        started_s = time.monotonic()
        running.start_campaign(rows, send_at=later())
        return {"rate": len(rows) / (time.monotonic() - started_s)}


def run(plan: Plan) -> dict[str, Any]:
    """One hundred thousand rows."""
    rows = recipients(plan.scaled(ROWS))
    with network() as net:
        samples = interleave(NAME, plan.rounds, {server.NAME: lambda: ours(net, rows)})[server.NAME]
    return {server.NAME: summary(series(samples, "rate"), "rows/s", durability=server.DURABILITY, messages=len(rows))}
