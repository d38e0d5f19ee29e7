"""What all mail has in common on its way in: the content from a request, and the rows of its deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from mailfleet.base.errors import InputError
from mailfleet.config.retry import Retry
from mailfleet.engine.requests import CampaignRequest, MessageRequest
from mailfleet.mail.address import Address
from mailfleet.mail.content import ContentSource
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.policy.retry import expires_at_ms
from mailfleet.store.queue import NewDelivery
from mailfleet.store.suppressions import Suppression
from mailfleet.store.tenants import Stream


def content_source(
    request: MessageRequest | CampaignRequest, *, templated: bool, to: tuple[str, ...] = (), cc: tuple[str, ...] = ()
) -> ContentSource:
    """The content that a request describes; ``to`` and ``cc`` are those of a message that all its recipients share."""
    return ContentSource(
        sender=request.sender,
        subject=request.subject,
        html=request.html,
        text=request.text,
        reply_to=request.reply_to,
        headers=tuple(request.headers),
        attachments=tuple(request.attachments),
        templated=templated,
        to=to,
        cc=cc,
    )


def stored_fields(fields: Mapping[str, object]) -> str:
    """A recipient's fields as they are stored. Raises ``InputError`` for what JSON has no place for."""
    try:
        return orjson.dumps(fields).decode()
    except TypeError as error:  # a number beyond 64 bits, mostly
        raise InputError(f"the value cannot be kept: {error}", where="fields", mend="write it as text") from None


@dataclass(frozen=True, slots=True)
class Consignment:
    """Deliveries that come in together: what is the same in all their rows. ``due_ms`` is now, or ``send_at``."""

    tenant_id: int
    stream: Stream
    flow_id: int
    campaign_id: int
    content_id: int
    due_ms: int
    expires_ms: int

    @classmethod
    def of(
        cls,
        stream: Stream,
        retry: Retry,
        *,
        flow_id: int,
        content_id: int,
        now_ms: int,
        time_scale: float,
        campaign_id: int = 0,
        send_at_ms: int | None = None,
    ) -> Consignment:
        """Age and expiry count from ``send_at`` where that is later than now."""
        due_ms = max(now_ms, send_at_ms or 0)
        schedule = retry.schedule(stream.kind)
        expires_ms = expires_at_ms(schedule, accepted_ms=due_ms, scale=time_scale)
        return cls(stream.tenant_id, stream, flow_id, campaign_id, content_id, due_ms, expires_ms)

    def delivery(
        self,
        delivery_id: int,
        address: Address,
        place: tuple[int, int],
        *,
        fields: str | None = None,
        envelope: str | None = None,
        why: Suppression | None = None,
        rank: int = 0,
    ) -> NewDelivery:
        """The row of one delivery. ``place`` is (domain_id, site_id); with ``why`` it is suppressed from birth.

        ``rank``, below 1000, puts it behind others of the same instant: claims take what has been due longest.
        """
        return NewDelivery(
            id=delivery_id,
            tenant_id=self.tenant_id,
            flow_id=self.flow_id,
            campaign_id=self.campaign_id,
            content_id=self.content_id,
            priority=self.stream.priority,
            domain_id=place[0],
            site_id=place[1],
            state=DeliveryState.SUPPRESSED if why else DeliveryState.QUEUED,
            due_ms=self.due_ms + rank,
            expires_ms=self.expires_ms,
            accepted_ms=self.due_ms,
            address=str(address),
            address_key=address.key,
            fields=fields,
            envelope=envelope,
            reason=f"{why.reason}: {why.evidence}" if why else None,
        )
