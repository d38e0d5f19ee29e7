"""One module per scenario. ``SCENARIOS`` has them in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.rounds import Plan
from bench.scenarios import (
    accept,
    api,
    campaign,
    depth,
    durability,
    fanout,
    postgres,
    relay,
    signing_limit,
    sizing,
    slow_sites,
    urgent,
    warming,
)

# durability comes last: it reads what the others found
SCENARIOS: dict[str, Callable[[Plan], dict[str, Any]]] = {
    "signing_limit": signing_limit.run,
    "campaign": campaign.run,
    "relay": relay.run,
    "api": api.run,
    "accept": accept.run,
    "urgent": urgent.run,
    "slow_sites": slow_sites.run,
    "depth": depth.run,
    "fanout": fanout.run,
    "postgres": postgres.run,
    "warming": warming.run,
    "sizing": sizing.run,
    "durability": durability.run,
}
