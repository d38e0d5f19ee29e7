"""What a lane keeps to."""

from __future__ import annotations

from dataclasses import dataclass

from mailfleet.policy.rates import Rate
from mailfleet.policy.transport import TlsDemand


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """What the lane keeps to."""

    connections: int
    messages_per_connection: int
    idle_connection_s: float
    tls: TlsDemand = ""
    commands_behind_message: bool = True
    rates: tuple[Rate, ...] = ()
    provider_connections: int = 0  # to all sites of the provider; 0: no limit
    provider_rates: tuple[Rate, ...] = ()
