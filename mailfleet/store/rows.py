"""Rows of the queue as they go in and come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mailfleet.policy.lifecycle import DeliveryState


class NewDelivery(NamedTuple):
    """A row to insert, columns in this order."""

    id: int
    tenant_id: int
    flow_id: int
    campaign_id: int
    content_id: int
    priority: int
    domain_id: int
    site_id: int
    state: int
    due_ms: int
    expires_ms: int
    accepted_ms: int  # or send_at, where that is later: age and expiry count from here
    address: str
    address_key: str
    fields: str | None
    envelope: str | None
    bounce_class: str | None = None
    reason: str | None = None


class Backlog(NamedTuple):
    """Queued deliveries that compete as one: the earliest is due at ``due_ms``. ``way``: see ``policy.egress``."""

    site_id: int
    priority: int
    flow_id: int
    way: int
    due_ms: int


class Claimed(NamedTuple):
    """A delivery under lease, with all that an attempt needs."""

    id: int
    tenant_id: int
    flow_id: int
    campaign_id: int
    content_id: int
    domain_id: int
    site_id: int
    attempts: int
    accepted_ms: int
    expires_ms: int
    address: str
    address_key: str
    fields: str | None
    envelope: str | None
    egress_id: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an attempt came to. ``due_ms`` only for a deferral. ``event`` is the JSON text of the event's data.

    ``way``: what the next attempt is asked for (``policy.egress``). ``provider``: that of the site it was tried at.
    ``reached``: the remote said something. ``day``: of warm-up, when the attempt was over.
    """

    claimed: Claimed
    state: DeliveryState
    attempts: int
    due_ms: int
    bounce_class: str
    reason: str
    event: str
    way: int = 1
    provider: str = ""
    reached: bool = False
    day: int = 0
