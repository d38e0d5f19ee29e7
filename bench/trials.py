"""Which settings are best for the rivals: ``python -m bench.trials``. What came out stands in docs/performance.md.

Every variation changes the settings in use by what it names; all are measured in interleaved rounds and told as ratios to them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import haraka, postfix
from bench.handover import Relay, hand_over
from bench.haraka import haraka_dkim
from bench.network import Network, network
from bench.postfix import postfix_opendkim
from bench.rounds import Sample, interleave, ratio, series, summary

Start = Callable[..., AbstractContextManager[Relay]]
IN_USE = "in use"


def variations_of_postfix(net: Network) -> dict[str, dict[str, Any]]:
    """What was thought of for Postfix."""
    one_way = {
        "relayhost": f"[127.0.0.1]:{net.port}",
        "transport_maps": f"inline:{{ check.test=smtp:[127.0.0.2]:{net.port} }}",
    }
    as_installed = {
        "default_process_limit": "100",
        "in_flow_delay": "1s",
        "initial_destination_concurrency": "5",
        "smtp_destination_concurrency_limit": "20",
        "qmgr_message_active_limit": "20000",
        "qmgr_message_recipient_limit": "20000",
    }
    return {
        IN_USE: {},
        "limits as installed": as_installed,
        "one destination, no look-ups": one_way,
        "10 sessions in": {"sessions": "10"},
        "50 sessions in": {"sessions": "50"},
        "10 connections out": {"smtp_destination_concurrency_limit": "10", "initial_destination_concurrency": "10"},
        "100 connections out": {"smtp_destination_concurrency_limit": "100", "initial_destination_concurrency": "100"},
        "connections always cached": {"smtp_connection_cache_destinations": f"[127.0.0.1]:{net.port}"},
    }


def variations_of_haraka(_: Network) -> dict[str, dict[str, Any]]:
    """What was thought of for Haraka."""
    return {
        IN_USE: {},
        "20 sessions in": {"sessions": 20},
        "100 sessions in": {"sessions": 100},
        "one process": {"nodes": 1},
        "twice as many processes": {"nodes": 4},
        "100 deliveries at once": {"concurrency_max": 100},
        "4 threads for files": {"threads": 4},
        "16 threads for files": {"threads": 16},
    }


SYSTEMS: dict[str, tuple[Start, Callable[[Network], dict[str, dict[str, Any]]]]] = {
    postfix.NAME: (postfix_opendkim, variations_of_postfix),
    haraka.NAME: (haraka_dkim, variations_of_haraka),
}


def batch(start: Start, net: Network, count: int, variation: dict[str, Any]) -> Sample:
    """One batch on a fresh system that has been warmed up."""
    with start(net, **variation) as relay:
        hand_over(relay, net, 200)
        return hand_over(relay, net, count)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.trials", description=__doc__)
    parser.add_argument("--only", choices=SYSTEMS, help="this system")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (3)")
    parser.add_argument("--count", type=int, default=1500, help="messages of a batch (1500)")
    asked = parser.parse_args()
    table = Table("system", "variation", "median /s", "min", "max", "to what is in use")
    with network() as net:
        for name in [asked.only] if asked.only else SYSTEMS:
            start, variations = SYSTEMS[name]
            jobs = {one: partial(batch, start, net, asked.count, change) for one, change in variations(net).items()}
            samples = interleave(name, asked.rounds, jobs)
            base = series(samples[IN_USE], "delivered")
            for one, found in samples.items():
                figures = summary(values := series(found, "delivered"))
                row = [f"{figures[key]:,.0f}" for key in ("median", "min", "max")]
                table.add_row(name, one, *row, f"{ratio(values, base):.2f}")
    Console(file=sys.stdout).print(table)


if __name__ == "__main__":
    main()
