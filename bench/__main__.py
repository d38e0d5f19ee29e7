"""``make bench`` or ``make bench ONLY=campaign,relay``: measure, print a table, write ``bench/results/latest.json``.

Ratios are medians of ratios within interleaved rounds of this machine at this hour; quote them, not the rates.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from typing import Any

import httpx

from bench.processes import BenchError
from bench.record import RESULTS, TRIAL, load_average, merge
from bench.rounds import Plan, say
from bench.scenarios import SCENARIOS
from bench.table import show

# What programs, files and connections do to a measurement; anything else is a bug and ends the run.
FAILURES = (BenchError, httpx.HTTPError, OSError, subprocess.SubprocessError)


def main() -> int:
    """Run what was asked for. A scenario that fails is told and the others go on; the exit status is 1 then."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default=",".join(SCENARIOS), help=f"some of {','.join(SCENARIOS)}")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (3)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=Plan.seconds,
        help="a batch aims at this (%(default)s); less is a trial",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="size of accept, urgent, depth and fanout; 0.01 for a trial (1)"
    )
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := set(names) - SCENARIOS.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    plan = Plan(arguments.rounds, arguments.seconds, arguments.scale)
    load = load_average()
    done, failed = [], {}
    record: dict[str, Any] = {}
    for name in SCENARIOS:
        if name not in names:
            continue
        try:
            record = merge({name: SCENARIOS[name](plan)}, load, plan.trial)
            done.append(name)
        except FAILURES as error:
            failed[name] = f"{type(error).__name__}: {error}"
            say(f"{name} failed: {failed[name]}")
    if done:
        show(record, done)
        print(f"Written to {TRIAL if plan.trial else RESULTS}.")
    for name, words in failed.items():
        print(f"\n{name} FAILED: {words}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
