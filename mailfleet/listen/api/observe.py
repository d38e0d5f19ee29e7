"""``/v1/deliveries``, ``/v1/trace``, ``/v1/events`` and ``/v1/queue``: what happened, and what is waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from mailfleet.base.errors import BusyError, NotFoundError
from mailfleet.engine.requests import Actor
from mailfleet.engine.services import ObserveService
from mailfleet.engine.views import DeliveryPage, EventPage, QueueView, Trace
from mailfleet.listen.api.paging import After, Limit, RecipientFilter, StateFilter
from mailfleet.listen.http_auth import Engine, Reader
from mailfleet.listen.http_tolls import HttpTolls

router = APIRouter(prefix="/v1", tags=["Finding out"])
MAX_FOLLOWERS = 100
FOLLOW_POLL_S = 0.25
FOLLOW_HEARTBEAT_S = 5.0
MAX_CURSOR = 2**63 - 1
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page; or, with `follow`, one event a line for as long as the client stays.",
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/EventPage"}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}


class TraceList(BaseModel):
    """Stories, newest first."""

    items: list[Trace]


@router.get("/deliveries", summary="List deliveries")
async def list_deliveries(
    actor: Reader,
    engine: Engine,
    campaign: Annotated[str | None, Query(max_length=100, description="Only of this campaign.")] = None,
    state: StateFilter = None,
    recipient: RecipientFilter = None,
    after: After = None,
    limit: Limit = 50,
) -> DeliveryPage:
    """Deliveries that match every condition given."""
    return await engine.observe.deliveries(
        actor, campaign=campaign, state=state, recipient=recipient, after=after, limit=limit
    )


@router.get("/deliveries/{delivery}", summary="See the whole story of a delivery")
async def get_delivery(delivery: str, actor: Reader, engine: Engine) -> Trace:
    """The delivery, and every event of it with the remote's own words."""
    for trace in await engine.observe.trace(actor, delivery):
        if trace.delivery.delivery.casefold() == delivery.casefold():
            return trace
    raise NotFoundError(f"there is no delivery {delivery[:100]}", where="delivery", mend="list them: /v1/deliveries")


@router.get("/trace", summary="Find out what happened to mail")
async def trace(
    actor: Reader,
    engine: Engine,
    what: Annotated[
        str, Query(min_length=1, max_length=1000, description="An address, delivery id, Message-ID or queue id.")
    ],
) -> TraceList:
    """Empty when nothing is known of it."""
    return TraceList(items=await engine.observe.trace(actor, what.strip()))


@router.get("/events", summary="Read events", response_model=EventPage, responses=_EVENTS)
async def events(
    request: Request,
    actor: Reader,
    engine: Engine,
    after: Annotated[int, Query(ge=0, le=MAX_CURSOR, description="Events with an id above this.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most events in the answer.")] = 100,
    kind: Annotated[list[str], Query(max_length=50, description="Only these kinds; may be repeated.")] = [],  # noqa: B006
    campaign: Annotated[str | None, Query(max_length=100, description="Only of this campaign.")] = None,
    delivery: Annotated[str | None, Query(max_length=100, description="Only of this delivery.")] = None,
    tail: Annotated[bool, Query(description="Begin with the newest `limit` events, whatever `after` says.")] = False,
    follow: Annotated[
        bool, Query(description="Stay, and get each event as it happens, one JSON object a line.")
    ] = False,
) -> Response:
    """Events in ascending order. For the next page pass `next` as `after`, until it is null: with `kind` a page looks at 20,000
    events at the most (with `tail` at the newest 5,000), so it may have few items or none.

    With `follow` the answer is `application/x-ndjson` and does not end; a blank line now and then says that it still lives.
    """
    feed = EventFeed(engine.observe, actor, frozenset(kind), campaign, delivery)
    followers: Followers = request.app.state.followers
    if follow:
        followers.check()
    first = await feed.read(-1 if tail else after, limit)
    if not follow:
        return Response(first.model_dump_json(), media_type="application/json")
    lines = followers.counted(feed.follow(first, 0 if tail else after))
    return StreamingResponse(lines, media_type="application/x-ndjson")


class Followers:
    """Those who follow events: each asks the database four times a second, so there is a bound."""

    def __init__(self, tolls: HttpTolls) -> None:
        self._tolls = tolls
        self.open = 0

    def check(self) -> None:
        """Raises ``BusyError`` when there are ``MAX_FOLLOWERS``."""
        if self.open >= MAX_FOLLOWERS:
            self._tolls.refused("followers")
            raise BusyError(f"{MAX_FOLLOWERS} clients follow events already", retry_after_s=10)

    async def counted(self, lines: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
        """The lines of one follower, who counts while it stays."""
        self.open += 1
        try:
            async for line in lines:
                yield line
        finally:
            self.open -= 1
            await lines.aclose()


class EventFeed:
    """One reader's view of the events."""

    def __init__(
        self, observe: ObserveService, actor: Actor, kinds: frozenset[str], campaign: str | None, delivery: str | None
    ) -> None:
        self._observe = observe
        self._actor = actor
        self._kinds = kinds
        self._campaign = campaign
        self._delivery = delivery

    async def read(self, after: int, limit: int) -> EventPage:
        """One page; a negative ``after`` means the newest."""
        return await self._observe.events(
            self._actor, after=after, limit=limit, kinds=self._kinds, campaign=self._campaign, delivery=self._delivery
        )

    async def follow(self, page: EventPage, cursor: int) -> AsyncGenerator[bytes, None]:
        """Lines of NDJSON, ``page`` first; a blank line after ``FOLLOW_HEARTBEAT_S`` of silence. Ends when the client goes."""
        silent_s = 0.0
        yield b"\n"  # so that the client has the header fields at once
        while True:
            for event in page.items:
                cursor = event.id
                silent_s = 0.0
                yield event.model_dump_json().encode() + b"\n"
            cursor = max(cursor, int(page.next or 0))  # beyond what was looked at and is of no interest too
            if not page.items:
                await asyncio.sleep(FOLLOW_POLL_S)
                silent_s += FOLLOW_POLL_S
                if silent_s >= FOLLOW_HEARTBEAT_S:
                    silent_s = 0.0
                    yield b"\n"
            page = await self.read(cursor, 1000)


@router.get("/queue", summary="See the backlog")
async def queue(actor: Reader, engine: Engine) -> QueueView:
    """What waits, by provider and site, with age and reasons."""
    return await engine.observe.queue(actor)
