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
from bench.scenarios.campaign import recipients
from bench.server import Mailfleet, mailfleet
from bench.verify import verify_kept

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


def mixed(ordinary: list[str], others: list[str]) -> list[str]:
    """Both lists in one, the others spread evenly over the ordinary ones, as in a real list."""
    step = max(1, len(ordinary) // len(others))
    found: list[str] = []
    for at in range(0, len(ordinary), step):
        found += ordinary[at : at + step] + others[at // step : at // step + 1]
    return found + others[-(-len(ordinary) // step) :]


def timed_ordinary(fleet: Mailfleet, net: Network, letter: str, count: int) -> Sample:
    """One campaign; the rate of the ordinary sites, from accepted to their last message."""
    others = [f"user{number}@{letter}{number % SITES}.test" for number in range(SITES * EACH)]
    before = net.sink.count
    name = fleet.start_campaign(mixed(recipients(count), others))
    accepted_s = time.monotonic()
    net.sink.wait(before + count, fleet.alive)
    verified = verify_kept(net.kept, fleet.keys, fleet.log)
    fleet.wait(name)  # what is left to the slow sites is not to stand beside the next batch
    span = net.sink.span(before, before + count)
    return {
        "rate": count / (span.last_s - min(accepted_s, span.first_s)),
        "messages": count,
        "verified": verified,
    }


def ours(net: Network, pace: Pace, letter: str) -> Sample:
    """A fresh Mailfleet, whose 200 other sites are of one kind."""
    with mailfleet(net) as fleet:
        return pace.batch(NAME, "rate", partial(timed_ordinary, fleet, net, letter))


def run(plan: Plan) -> dict[str, Any]:
    """Slow and fast neighbours in each round."""
    pace = Pace(plan)
    with network() as net, sites(net):
        # The twins first: they find the size of a batch
        jobs = {"fast_neighbours": lambda: ours(net, pace, "f"), server.NAME: lambda: ours(net, pace, "s")}
        samples = interleave(NAME, plan.rounds, jobs)
    slow, fast = (series(samples[name], "rate") for name in (server.NAME, "fast_neighbours"))
    messages = samples[server.NAME][-1]["messages"]
    more = {"sites": SITES, "delay_s": DELAY_S, "messages": messages, "to_slow_sites": SITES * EACH}
    return {
        server.NAME: summary(slow, durability=server.DURABILITY, **more),
        "fast_neighbours": summary(fast),
        "ratio": {"fast_neighbours": ratio(slow, fast)},
    }
