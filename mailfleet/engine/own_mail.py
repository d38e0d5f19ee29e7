"""Mail of our own making: who it is from, and queueing it like any message, in the transaction that decides on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailfleet.base.ids import IdGenerator
from mailfleet.config.retry import Retry
from mailfleet.engine.envelope import Envelope
from mailfleet.engine.intake import Consignment
from mailfleet.mail.address import Address, is_within
from mailfleet.store import contents, queue, sending, sites, tenants
from mailfleet.store.contents import Content
from mailfleet.store.database import Tx
from mailfleet.store.suppressions import Suppression

STREAM = "transactional"


def sender_of(tx: Tx, given: str, local_part: str) -> Address | None:
    """Whom it is from: ``given``, if a sending domain of the default tenant signs for it; else the oldest of these domains.

    None where there is no such domain.
    """
    own = sending.of_tenant(tx, tenants.DEFAULT_TENANT)
    if given:
        address = Address.parse(given)
        return address if any(is_within(address.domain, one.name) for one in own) else None
    oldest = min(own, key=lambda one: one.id, default=None)
    return Address.parse(f"{local_part}@{oldest.name}") if oldest is not None else None


def post(
    tx: Tx,
    content: Content,
    to: Sequence[Address],
    envelope: Envelope,
    *,
    ids: IdGenerator,
    retry: Retry,
    now_ms: int,
    time_scale: float,
    unwanted: Mapping[str, Suppression] | None = None,
) -> list[int]:
    """Queue it in the transactional stream of the content's tenant; the ids of its deliveries, in the order of ``to``.

    ``unwanted``: suppressions by the keys of addresses; theirs are suppressed from birth. ``Tx.wake`` is left to who calls.
    """
    stream = tenants.stream(tx, content.tenant_id, STREAM)
    assert stream is not None, "every tenant has a transactional stream"
    flow_id, *delivery_ids = ids.take(1 + len(to))
    contents.put(tx, content, now_ms=now_ms)
    goods = Consignment.of(
        stream,
        retry,
        flow_id=tenants.flow_of_stream(tx, stream, flow_id),
        content_id=content.id,
        now_ms=now_ms,
        time_scale=time_scale,
    )
    places = sites.domains(tx, [one.domain for one in to])
    text, reasons = envelope.dump(), unwanted or {}
    made = [
        goods.delivery(delivery_id, one, places[one.domain], envelope=text, why=reasons.get(one.key))
        for delivery_id, one in zip(delivery_ids, to, strict=True)
    ]
    queue.insert(tx, made, now_ms=now_ms)
    return delivery_ids
