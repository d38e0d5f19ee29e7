"""RSA-2048 signatures a second on all cores: what no sender that signs each message can exceed."""

from __future__ import annotations

import os
import re
import subprocess
from typing import Any

from bench.processes import BenchError, program
from bench.rounds import Plan, Sample, interleave, series, summary

NAME = "signing_limit"
SECONDS = 3


def sample() -> Sample:
    """One measurement of three seconds."""
    command = [program("openssl", "scripts/install-bench-peers"), "speed", "-multi", str(os.cpu_count())]
    done = subprocess.run([*command, "-seconds", str(SECONDS), "rsa2048"], capture_output=True, text=True, check=False)
    found = re.search(r"^rsa\s+2048 bits\s+\S+\s+\S+\s+([\d.]+)", done.stdout, re.MULTILINE)
    if not found:
        raise BenchError(f"openssl speed said:\n{done.stdout}{done.stderr}")
    return {"rate": float(found[1])}


def run(plan: Plan) -> dict[str, Any]:
    """By itself; the scenarios that compare with it measure it again in each of their rounds."""
    samples = interleave(NAME, plan.rounds, {"openssl": sample})
    return {"openssl": summary(series(samples["openssl"], "rate"), "signatures/s", command="openssl speed rsa2048")}
