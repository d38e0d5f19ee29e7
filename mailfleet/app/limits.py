"""What a way out keeps to, put together from the providers' limits, its own, and the settings."""

from __future__ import annotations

import orjson

from mailfleet.config.settings import Delivery
from mailfleet.engine.limits import LaneLimits
from mailfleet.policy.providers import ProviderTable
from mailfleet.policy.rates import parse
from mailfleet.store.egress import Egress


def limits_of(delivery: Delivery, providers: ProviderTable, row: Egress, provider: str) -> LaneLimits:
    """What is kept to towards a site: the provider's limits under the settings' bounds; the way out's own go before both."""
    own = orjson.loads(row.limits) if row.limits else {}
    known = providers.limits_for(provider or None, row.name)
    connections, messages = known.connections, known.messages_per_connection
    rates = known.rates
    if row.kind == "relay":
        connections, messages, rates = delivery.connections_per_site, delivery.messages_per_connection, ()
    return LaneLimits(
        min(delivery.connections_per_site, int(own.get("connections", connections))),
        min(delivery.messages_per_connection, int(own.get("messages_per_connection", messages))),
        delivery.idle_connection_s,
        known.tls,
        delivery.commands_behind_message and known.commands_behind_message,
        parse(own["rate"]) if own.get("rate") else rates,
        0 if row.kind == "relay" else known.provider_connections,
        () if row.kind == "relay" else known.provider_rates,
    )
