"""Whose turn it is: how the room of a lane is shared among flows of one priority. Pure; who asks decides what room there is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence


def shares(room: int, weights: Sequence[int], turn: int) -> list[int]:
    """Split ``room`` places among flows by weight; never more than ``room`` in sum.

    Every flow gets its whole-number part; the places that rounding leaves go round from ``turn`` on, so that over many
    turns even the lightest flow among many is served. Weights below 1 count as 1.
    """
    if not weights or room <= 0:
        return [0] * len(weights)
    floored = [max(1, weight) for weight in weights]
    total = sum(floored)
    parts = [room * weight // total for weight in floored]
    for step in range(room - sum(parts)):
        parts[(turn + step) % len(parts)] += 1
    return parts


def shares_by_tenant(room: int, flows: Sequence[tuple[int, int]], turn: int) -> list[int]:
    """Split ``room`` among flows, each ``(tenant_id, weight)``: tenants evenly first, then each tenant's flows by weight.

    So a tenant gains nothing by starting more campaigns.
    """
    by_tenant: dict[int, list[int]] = defaultdict(list)
    for index, (tenant_id, _) in enumerate(flows):
        by_tenant[tenant_id].append(index)
    parts = [0] * len(flows)
    for part, indexes in zip(shares(room, [1] * len(by_tenant), turn), by_tenant.values(), strict=True):
        for index, own in zip(indexes, shares(part, [flows[index][1] for index in indexes], turn), strict=True):
            parts[index] = own
    return parts
