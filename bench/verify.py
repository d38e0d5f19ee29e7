"""Do messages arrive with signatures that hold? Asked of dkimpy, which is nobody's own, once in every measurement."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dkim

from bench.messages import CHECKS
from bench.processes import BenchError


def verify_kept(
    kept: Path, records: Mapping[str, str], log: Callable[[], str], expected: int = CHECKS
) -> dict[str, Any]:
    """Wait for ``expected`` messages, verify every signature of each, forget them. ``records`` are the keys in DNS by name.

    Raises ``BenchError`` when one is missing, is not signed, or has a signature that does not verify.
    """
    until_s = time.monotonic() + 60
    while len(files := [path for path in kept.iterdir() if _whole(path)]) < expected:
        if time.monotonic() > until_s:
            raise BenchError(f"{len(files)} of {expected} messages arrived for verification; log:\n{log()}")
        time.sleep(0.05)
    signatures, sizes, algorithms = set(), [], set()
    for path in files:
        # smtp-sink writes the envelope on top, as header fields, and a Received field of its own
        data = path.read_bytes().partition(b"\nReceived: from ")[2]
        data = b"Received: from " + data
        path.unlink()
        found = dkim.DKIM(data, logger=None)
        count = sum(name.lower() == b"dkim-signature" for name, _ in found.headers)
        for index in range(count):
            if not dkim.DKIM(data).verify(index, dnsfunc=lambda name, timeout=5: _record(records, name)):
                raise BenchError(f"a signature does not verify; the message begins:\n{data[:1500].decode('latin-1')}")
            algorithms |= {tag for tag in (b"rsa-sha256", b"ed25519-sha256") if b"a=" + tag in data}
        if not count:
            raise BenchError(f"a message arrived without signature; it begins:\n{data[:1500].decode('latin-1')}")
        signatures.add(count)
        sizes.append(len(data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")))
    return {
        "verified": len(files),
        "signatures_each": max(signatures),
        "algorithms": sorted(tag.decode() for tag in algorithms),
        "arrived_bytes": int(statistics.median(sizes)),
    }


def _whole(path: Path) -> bool:
    """smtp-sink writes a file as the message comes; it ends with an empty line."""
    return path.read_bytes().endswith(b"\n\n")


def _record(records: Mapping[str, str], name: bytes) -> bytes:
    return records.get(name.decode().rstrip("."), "").encode()
