"""200 sites that answer the message after 2 s, beside ordinary ones: how much the ordinary ones' rate suffers.

Compared with the same rows where those 200 sites answer at once, so that their share of the work is the same.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from bench import server
from bench.names import FAST, SLOW
from bench.network import Network, network
from bench.processes import greets, running, tail, wait_until
from bench.rounds import Pace, Plan, Sample, interleave, ratio, series, summary
from bench.scenarios.campaign import recipients, timed
from bench.server import mailfleet

NAME = "slow_sites"
SITES = 200
EACH = 10
DELAY_S = 2.0


@contextlib.contextmanager
def sites(net: Network) -> Iterator[None]:
    """The slow sites and their fast twins, each on an address of its own; the same program."""
    with contextlib.ExitStack() as stack:
        for address, delay_s in ((SLOW, DELAY_S), (FAST, 0.0)):
            log = net.folder / f"sites-{address}.log"
            command = [sys.executable, "-m", "bench.slow_sink", address, str(net.port), str(delay_s)]
            process = stack.enter_context(running(command, log))
            wait_until(partial(greets, net.port, address), process, "slow sites", partial(tail, log))
        yield


def ours(net: Network, pace: Pace, letter: str) -> Sample:
    """Rate of the ordinary sites, from accepted to their last message, beside 200 others of a kind."""
    with mailfleet(net) as fleet:
        warm = timed(fleet, net, recipients(pace.warm_up))
        ordinary = recipients(pace.size(NAME, warm["at_sink"]))
        others = [f"user{number}@{letter}{number % SITES}.test" for number in range(SITES * EACH)]
        step = max(1, len(ordinary) // len(others))
        mixed = [
            row
            for at, row in enumerate(ordinary)
            for row in ([row, others.pop()] if others and at % step == 0 else [row])
        ]
        before, count = net.sink.count, sum("@d" in row for row in ordinary)
        fleet.start_campaign(mixed + others)
        accepted_s = time.monotonic()
        net.sink.wait(before + count, fleet.alive)
        span = net.sink.span(before, before + count)
    for path in net.kept.iterdir():
        path.unlink()
    return {"rate": count / (span.last_s - min(accepted_s, span.first_s)), "messages": count}


def run(plan: Plan) -> dict[str, Any]:
    """Slow and fast neighbours in each round."""
    pace = Pace(plan)
    with network() as net, sites(net):
        jobs = {server.NAME: lambda: ours(net, pace, "s"), "fast_neighbours": lambda: ours(net, pace, "f")}
        samples = interleave(NAME, plan.rounds, jobs)
    slow, fast = (series(samples[name], "rate") for name in (server.NAME, "fast_neighbours"))
    more = {
        "sites": SITES,
        "delay_s": DELAY_S,
        "messages": samples[server.NAME][-1]["messages"],
        "to_slow_sites": SITES * EACH,
    }
    return {
        server.NAME: summary(slow, durability=server.DURABILITY, **more),
        "fast_neighbours": summary(fast),
        "ratio": {"fast_neighbours": ratio(slow, fast)},
    }
