"""One newsletter to many, against the same number of messages through Postfix with OpenDKIM and through Haraka.

Those two know no campaigns: each message is handed to them whole by SMTP, and counted from the first to the last at the sink.
Mailfleet's campaign counts from accepted (or from the first copy at the sink, if that is earlier) to finished, which is when the
last outcome is on disk. ``with_upload`` counts from the first byte of the upload.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bench import haraka, postfix, server
from bench.handover import hand_over
from bench.haraka import haraka_dkim
from bench.messages import CHECK_DOMAIN, CHECKS
from bench.network import DOMAINS, Network, network
from bench.postfix import postfix_opendkim
from bench.rounds import Pace, Plan, Sample, interleave, ratio, series, summary
from bench.scenarios import signing_limit
from bench.server import Mailfleet, mailfleet
from bench.verify import verify_kept

NAME = "campaign"
RIVALS = {
    postfix.NAME: (postfix_opendkim, postfix.DURABILITY),
    haraka.NAME: (haraka_dkim, haraka.DURABILITY),
}
NO_CAMPAIGNS = "has no campaigns: distinct messages handed over by SMTP, first to last delivery at the sink"


def recipients(count: int, domains: int = DOMAINS, letter: str = "d") -> list[str]:
    """``count`` addresses, in turn over the domains, and a few that are verified."""
    names = [f"user{number}@{letter}{number % domains}.test" for number in range(count)]
    return names + [f"check{number}@{CHECK_DOMAIN}" for number in range(CHECKS)]


def timed(running: Mailfleet, net: Network, rows: list[str]) -> Sample:
    """One campaign to ``rows``, the last of which are checks. ``rate`` is from accepted to finished."""
    count, before = len(rows), net.sink.count
    started_s = time.monotonic()
    name = running.start_campaign(rows)
    accepted_s = time.monotonic()
    running.wait(name)
    ended_s = time.monotonic()
    verified = verify_kept(net.kept, running.keys, running.log)
    net.sink.wait(before + count - CHECKS, running.alive)
    span = net.sink.span(before, before + count - CHECKS)
    return {
        "rate": count / (ended_s - min(accepted_s, span.first_s)),
        "with_upload": count / (ended_s - started_s),
        "at_sink": span.rate,
        "accept_rate": count / (accepted_s - started_s),
        "messages": count - CHECKS,
        "verified": verified,
    }


def ours(net: Network, pace: Pace, job: str = NAME, **env: str) -> Sample:
    """A fresh Mailfleet, warmed up, and one campaign."""
    with mailfleet(net, **env) as running:
        return pace.batch(job, "at_sink", lambda count: timed(running, net, recipients(count)))


def rival(name: str, net: Network, pace: Pace) -> Sample:
    """A fresh rival, warmed up, and one batch."""
    with RIVALS[name][0](net) as relay:
        return pace.batch(name, "delivered", partial(hand_over, relay, net))


def told(samples: list[Sample], key: str, durability: str, **more: Any) -> dict[str, Any]:
    """A system's figure for the record."""
    last = samples[-1]
    more |= {"messages": last["messages"], "verified": last["verified"]}
    if "generator_cores" in last:
        more["generator_cores"] = round(statistics.median(series(samples, "generator_cores")), 3)
    return summary(series(samples, key), durability=durability, **more)


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
    mine = samples[server.NAME]
    found: dict[str, Any] = {
        server.NAME: told(mine, "rate", server.DURABILITY),
        "mailfleet_with_upload": summary(series(mine, "with_upload")),
        "mailfleet_at_sink": summary(series(mine, "at_sink")),
        signing_limit.NAME: summary(series(samples[signing_limit.NAME], "rate"), "signatures/s"),
    }
    ratios = {signing_limit.NAME: ratio(series(mine, "rate"), series(samples[signing_limit.NAME], "rate"))}
    for name, (_, durability) in RIVALS.items():
        theirs = series(samples[name], "delivered")
        found[name] = told(samples[name], "delivered", durability, note=NO_CAMPAIGNS)
        ratios[name] = ratio(series(mine, "rate"), theirs)
        ratios[f"{name}_with_upload"] = ratio(series(mine, "with_upload"), theirs)
    return found | {"ratio": ratios}
