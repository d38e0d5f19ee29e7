"""``make bench`` or ``make bench ONLY=campaign``: measure, print a table, write ``bench/results/latest.json``.

Every figure is a median of interleaved runs of this machine at this hour; quote the ratios, not the rates.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.network import dns_server, smtp_sink
from bench.server import mailfleet

RESULTS = Path(__file__).parent / "results" / "latest.json"
DOMAINS = 50
MESSAGE_BYTES = 10_000


def signing_limit() -> float:
    """RSA-2048 signatures a second on all cores: what no signing sender can exceed."""
    command = ["openssl", "speed", "-multi", str(os.cpu_count()), "-seconds", "3", "rsa2048"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    match = re.search(r"^rsa\s+2048 bits\s+\S+\s+\S+\s+([\d.]+)", found, re.MULTILINE)
    assert match, found
    return float(match[1])


def campaign(count: int) -> dict[str, float]:
    """One campaign of ``count`` signed 10 KB messages to 50 domains, from upload to the last settled outcome."""
    recipients = [f"user{number}@d{number % DOMAINS}.test" for number in range(count)]
    with dns_server() as dns, smtp_sink() as sink, mailfleet(dns, sink) as server:
        started_s = time.monotonic()
        name = server.start_campaign(recipients, MESSAGE_BYTES)
        accepted_s = time.monotonic()
        found = server.wait(name)
        ended_s = time.monotonic()
    assert found["delivered"] == count, found
    return {"accept": count / (accepted_s - started_s), "campaign": count / (ended_s - accepted_s)}


def measure(runs: int, count: int) -> dict[str, list[float]]:
    """Interleaved: the limit and the campaign see the same weather."""
    samples: dict[str, list[float]] = {"signing_limit": [], "campaign": [], "accept": []}
    for _ in range(runs):
        samples["signing_limit"].append(signing_limit())
        for name, value in campaign(count).items():
            samples[name].append(value)
    return samples


def summary(samples: list[float]) -> dict[str, float]:
    """Median, minimum and maximum, a second."""
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples)}


def machine() -> dict[str, Any]:
    """What it ran on."""
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    return {"cores": os.cpu_count(), "cpu": model, "python": platform.python_version(), "kernel": platform.release()}


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=["campaign"], help="run this one")
    parser.add_argument("--runs", type=int, default=3, help="interleaved runs (3)")
    parser.add_argument("--count", type=int, default=10_000, help="messages of a campaign (10000)")
    arguments = parser.parse_args()
    samples = measure(arguments.runs, arguments.count)
    results: dict[str, Any] = {name: summary(values) for name, values in samples.items()}
    pairs = zip(samples["campaign"], samples["signing_limit"], strict=True)
    results["campaign"]["ratio"] = {"signing_limit": statistics.median(rate / limit for rate, limit in pairs)}
    results["campaign"]["durability"] = "SQLite WAL, synchronous=FULL: accepted and settled only after fsync"
    previous = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if "results" in previous:
        results["campaign"]["ratio"]["prior"] = (
            results["campaign"]["median"] / previous["results"]["campaign"]["median"]
        )
    versions = {name: version(name) for name in ("mailfleet", "apsw", "cryptography", "uvloop")}
    RESULTS.parent.mkdir(exist_ok=True)
    record = {"machine": machine(), "versions": versions, "messages": arguments.count, "results": results}
    RESULTS.write_text(json.dumps(record, indent=2) + "\n")
    show(results)
    return 0


def show(results: dict[str, Any]) -> None:
    """The table."""
    table = Table("figure", "median /s", "min", "max", "ratios")
    for name, found in results.items():
        ratios = ", ".join(f"{value:.2f} of {other}" for other, value in found.get("ratio", {}).items())
        table.add_row(name, *(f"{found[key]:,.0f}" for key in ("median", "min", "max")), ratios)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
