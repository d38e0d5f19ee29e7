"""``bench/results/latest.json``: what was measured, on what, with which settings; older figures are kept, with their date."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import haraka, postfix, postgres, server
from bench.messages import MESSAGE_BYTES
from bench.network import DOMAINS
from bench.processes import WORK_FOLDER, program, work_folder

RESULTS = Path(__file__).parent / "results" / "latest.json"
TRIAL = RESULTS.with_name("trial.json.tmp")


def earlier(trial: bool = False) -> dict[str, Any]:
    """The results so far, none at first. A trial goes on from an earlier trial."""
    path = TRIAL if trial and TRIAL.exists() else RESULTS
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def merge(results: dict[str, Any], load_at_start: list[float], trial: bool) -> dict[str, Any]:
    """Put new results over the earlier ones, each with its date and commit, and write the file; a trial's go beside it."""
    before = earlier(trial).get("results", {})
    today = datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")
    for name, found in results.items():
        found |= {"measured": today, "commit": commit(), "load_average_at_start": load_at_start}
        prior = before.get(name, {})
        prior = prior.get("mailfleet", prior).get("median")
        ours = found.get("mailfleet", {})
        if prior and "rounds" in ours:  # measured now, not taken from another scenario
            ours = ours["median"]
            found.setdefault("ratio", {})["prior"] = round(ours / prior, 3)
    record = {"machine": machine(), "versions": versions(), "settings": settings(), "results": before | results}
    RESULTS.parent.mkdir(exist_ok=True)
    (TRIAL if trial else RESULTS).write_text(json.dumps(record, indent=2) + "\n")
    return record


def settings() -> dict[str, Any]:
    """How each system is set up."""
    return {
        "all": {
            "message_bytes": MESSAGE_BYTES,
            "domains": DOMAINS,
            "signature": "RSA-2048, rsa-sha256, relaxed/relaxed, verified with dkimpy in every batch",
            "sink": "smtp-sink of Postfix on loopback, without TLS",
            "load generator": "bench/load.py for every system: sessions stay open, MAIL RCPT DATA in one write",
        },
        server.NAME: server.told(),
        postfix.NAME: postfix.told(),
        haraka.NAME: haraka.told(),
        "postgresql": postgres.SETTINGS,
    }


def machine() -> dict[str, Any]:
    """What it ran on, how fast its disk syncs, and how busy it was already."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cores": os.cpu_count(),
        "cpu": model,
        "memory_gb": round(int(memory[1]) / 1e6, 1) if memory else None,
        "kernel": platform.release(),
        "file_system": _output(["stat", "-f", "-c", "%T", WORK_FOLDER]),
        "fdatasync_ms": sync_ms(),
    }


def sync_ms(times: int = 100) -> float:
    """How long the disk takes to make 4 KB durable: a median. Where it is near nothing, no durable figure means much."""
    taken = []
    with work_folder("sync") as folder, (folder / "probe").open("wb", buffering=0) as probe:
        for _ in range(times):
            probe.write(b"x" * 4096)
            started_s = time.perf_counter()
            os.fdatasync(probe.fileno())
            taken.append(time.perf_counter() - started_s)
    return round(statistics.median(taken) * 1000, 3)


def versions() -> dict[str, str]:
    """Of everything that takes part."""
    packages = {name: version(name) for name in ("mailfleet", "apsw", "cryptography", "uvloop", "dkimpy")}
    return {
        **packages,
        "commit": commit(),
        "python": platform.python_version(),
        "postfix": _output([program("postconf", "scripts/install-mail-peers"), "-h", "-d", "mail_version"]),
        "opendkim": _output(["dpkg-query", "-W", "-f", "${Version}", "opendkim"]),
        "haraka": haraka.version_of("Haraka"),
        "haraka-plugin-dkim": haraka.version_of("haraka-plugin-dkim"),
        "node": _output([str(haraka.node()), "--version"]),
        "postgresql": _output([str(postgres.programs() / "postgres"), "--version"]),
        "openssl": _output([program("openssl", "scripts/install-bench-peers"), "version"]),
    }


def commit() -> str:
    """What was measured; ``+`` when files were changed since."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    changed = _output([*git, "status", "--porcelain", "--", "mailfleet", "bench", ":!bench/results"])
    return _output([*git, "rev-parse", "--short", "HEAD"]) + ("+" if changed else "")


def load_average() -> list[float]:
    """Of the last 1, 5 and 15 minutes: near 0 before a run that is to be quoted."""
    return [round(one, 2) for one in os.getloadavg()]


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
