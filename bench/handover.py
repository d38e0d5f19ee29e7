"""One batch of messages through one system: handed over by SMTP, counted at the sink, verified."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.messages import CHECKS
from bench.network import DOMAINS, Network
from bench.processes import BenchError
from bench.verify import verify_kept


@dataclass(frozen=True)
class Relay:
    """A running system that takes mail by SMTP, signs it and delivers it."""

    name: str
    port: int
    sessions: int
    keys: Mapping[str, str]  # DNS name of a key -> its record
    alive: Callable[[], None]  # raises BenchError when it has died
    log: Callable[[], str]
    username: str = ""
    password: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def hand_over(relay: Relay, network: Network, count: int) -> dict[str, Any]:
    """Send ``count`` messages by SMTP; a second: ``delivered`` from the first to the last at the sink, ``accepted`` as replied to."""
    job = {
        "port": relay.port,
        "sessions": relay.sessions,
        "run": uuid.uuid4().hex[:8],
        "username": relay.username,
        "password": relay.password,
    }
    try:
        return _batch("bench.load", job, network, count, relay)
    except BenchError as error:
        raise BenchError(f"{relay.name}: {error}\n{relay.log()}") from None


def post(relay: Relay, network: Network, count: int, connections: int, url: str, token: str) -> dict[str, Any]:
    """The same by HTTP, to Mailfleet at ``url``; ``relay`` says whether it lives and with which keys it signs."""
    job = {"port": int(url.rpartition(":")[2]), "connections": connections, "token": token}
    return _batch("bench.load_http", job, network, count, relay)


def _batch(module: str, job: dict[str, Any], network: Network, count: int, relay: Relay) -> dict[str, Any]:
    before = network.sink.count
    job |= {"host": "127.0.0.1", "count": count, "checks": CHECKS, "domains": DOMAINS}
    load = subprocess.Popen([sys.executable, "-m", module, json.dumps(job)], stdout=subprocess.PIPE)

    def alive() -> None:
        relay.alive()
        if load.poll():
            said = json.loads(load.communicate()[0] or "{}")
            raise BenchError(
                f"it took {said.get('accepted')} of {count + CHECKS} messages and said: {said.get('refusal')}"
            )

    try:
        network.sink.wait(before + count, alive)
        said = json.loads(load.communicate(timeout=30)[0])
        verified = verify_kept(network.kept, relay.keys, relay.log)
    finally:
        if load.poll() is None:
            load.kill()
            load.wait()
    span = network.sink.span(before, before + count)
    taken_s = said["last_s"] - said["first_s"]
    return {
        "delivered": span.rate,
        "accepted": (said["accepted"] - 1) / taken_s,
        "messages": count,
        "generator_cores": said["cpu_s"] / taken_s,
        "verified": verified,
    }
