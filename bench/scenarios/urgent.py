"""Transactional mail in the middle of a bulk run to the same domains: how long from 202 to delivered.

One message every 50 ms by HTTP while 200,000 are queued, and the same on an idle server. The time of delivery is that of the
``delivered`` event, which is written when the remote's 250 has been read.
"""

from __future__ import annotations

import statistics
import time
from datetime import datetime
from typing import Any

from bench import server
from bench.load_http import message
from bench.network import DOMAINS, Network, network
from bench.processes import BenchError
from bench.rounds import Plan, Sample, interleave, series, summary
from bench.scenarios.campaign import recipients
from bench.server import Mailfleet, mailfleet

NAME = "urgent"
BULK = 200_000
EVERY_S = 0.05


def send_steadily(running: Mailfleet, count: int) -> dict[str, float]:
    """Send ``count`` messages at a steady pace. Delivery -> when its 202 came, in milliseconds of the epoch."""
    accepted_ms: dict[str, float] = {}
    due_s = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, due_s - time.monotonic()))
        due_s += EVERY_S
        body = message(f"urgent{number}@d{number % DOMAINS}.test", str(number))
        answer = running.http.post("/v1/messages", content=body, headers={"Content-Type": "application/json"})
        if answer.status_code != 202:
            raise BenchError(f"Mailfleet answered {answer.status_code}: {answer.text[:500]}")
        accepted_ms[answer.json()["deliveries"][0]["delivery"]] = time.time() * 1000
    return accepted_ms


def latencies_ms(running: Mailfleet, accepted_ms: dict[str, float]) -> list[float]:
    """Milliseconds from each 202 to its delivery, once all are delivered."""
    until_s = time.monotonic() + 120
    return [_delivered_ms(running, delivery, until_s) - at_ms for delivery, at_ms in accepted_ms.items()]


def _delivered_ms(running: Mailfleet, delivery: str, until_s: float) -> float:
    while time.monotonic() < until_s:
        for event in running.get(f"/v1/deliveries/{delivery}")["events"]:
            if event["kind"] == "delivered":
                return datetime.fromisoformat(event["at"]).timestamp() * 1000
        time.sleep(0.1)
    raise BenchError(f"{delivery} was not delivered in time\n{running.log()}")


def ours(net: Network, bulk: int, count: int) -> Sample:
    """The middle and the slowest hundredth, beside ``bulk`` queued messages, or none."""
    with mailfleet(net) as running:
        latencies_ms(running, send_steadily(running, 20))
        name = running.start_campaign(recipients(bulk)) if bulk else ""
        accepted_ms = send_steadily(running, count)
        if bulk and (progress := running.get(f"/v1/campaigns/{name}"))["state"] == "finished":
            raise BenchError(f"the bulk run was over before the urgent mail was: {progress}")
        found = latencies_ms(running, accepted_ms)
    return {
        "p50": statistics.median(found),
        "p99": statistics.quantiles(found, n=100, method="inclusive")[98],
        "max": max(found),
    }


def run(plan: Plan) -> dict[str, Any]:
    """Both in each round. The events' times are whole milliseconds, so a delivery that overtakes its 202 is about 0."""
    count = max(40, round(plan.seconds * 1.5 / EVERY_S))
    with network() as net:
        bulk = plan.scaled(BULK)
        jobs = {server.NAME: lambda: ours(net, bulk, count), "idle": lambda: ours(net, 0, count // 2)}
        samples = interleave(NAME, plan.rounds, jobs)
    busy, idle = samples[server.NAME], samples["idle"]
    return {
        server.NAME: summary(series(busy, "p50"), "ms, p50", durability=server.DURABILITY, messages=count, bulk=bulk),
        "mailfleet_p99": summary(series(busy, "p99"), "ms, p99"),
        "idle": summary(series(idle, "p50"), "ms, p50"),
        "idle_p99": summary(series(idle, "p99"), "ms, p99"),
    }
