"""What a message costs Mailfleet's own processes, by its size and with TLS: for reckoning how many cores an hour needs.

Processor time of all roles rather than a rate, because the mail hosts, which share the cores here, are elsewhere in real life.
Fifty sites, PIPELINING, one signature. TLS is a new connection each hundred messages, with a P-256 certificate.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

from bench import server
from bench.messages import html_of
from bench.names import FAST
from bench.network import DOMAINS, Network, network
from bench.processes import greets, running, tail, wait_until
from bench.rounds import Plan, Sample, interleave, series, summary
from bench.server import Mailfleet, mailfleet

NAME = "sizing"
SIZES = (2_000, 10_000, 50_000, 200_000)
BATCH_BYTES = 60_000_000
LEAST, MOST = 600, 10_000


def processor_s(running_fleet: Mailfleet) -> float:
    """What all roles have used so far, user and system."""
    ticks = 0
    for path in (running_fleet.data / "run").glob("*.pid"):
        with open(f"/proc/{path.read_text().strip()}/stat") as stat:
            ticks += sum(map(int, stat.read().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def timed(fleet: Mailfleet, size: int, count: int) -> float:
    """Processor microseconds a message of one campaign, from accepted to finished."""
    rows = [f"user{number}@f{number % DOMAINS}.test" for number in range(count)]
    name = fleet.start_campaign(rows, html=html_of(size))
    before_s = processor_s(fleet)
    fleet.wait(name)
    return (processor_s(fleet) - before_s) / count * 1e6


def ours(net: Network, plan: Plan, tls: bool) -> Sample:
    """A fresh Mailfleet and a campaign of each size."""
    log = net.folder / f"sizing-{tls}.log"
    command = [sys.executable, "-m", "bench.slow_sink", FAST, str(net.port), "0", *([str(net.folder)] if tls else [])]
    with running(command, log) as process, mailfleet(net) as fleet:
        wait_until(partial(greets, net.port, FAST), process, "the sites", partial(tail, log))
        timed(fleet, 10_000, 500)
        counts = {size: plan.scaled(min(MOST, max(LEAST, BATCH_BYTES // size))) for size in SIZES}
        return {str(size): timed(fleet, size, count) for size, count in counts.items()}


def run(plan: Plan) -> dict[str, Any]:
    """Both ways in each round."""
    with network() as net:
        jobs = {name: partial(ours, net, plan, name == "tls") for name in ("plain", "tls")}
        samples = interleave(NAME, plan.rounds, jobs)
    found: dict[str, Any] = {}
    for name, some in samples.items():
        for size in SIZES:
            figure = summary(series(some, str(size)), "processor us/message", durability=server.DURABILITY)
            figure["messages_an_hour_and_core"] = round(3.6e9 / figure["median"], -3)
            found[f"{name} {size // 1000} KB"] = figure
    return found
