"""What happened and what is waiting: events, deliveries, traces, the backlog, readiness. Reads only."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from mailfleet import __version__
from mailfleet.base import ids
from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import InputError, NotFoundError
from mailfleet.engine.accept import Screen
from mailfleet.engine.backlog import Backlog
from mailfleet.engine.render import message_id_of
from mailfleet.engine.requests import Actor
from mailfleet.engine.shared import LongReads
from mailfleet.engine.views import DeliveryPage, DeliveryView, EventPage, EventView, Health, QueueView, Trace
from mailfleet.mail.address import Address
from mailfleet.policy.lifecycle import DeliveryState, FlowState, effective_state
from mailfleet.store import campaigns, contents, deliveries, events
from mailfleet.store.database import Database, Tx
from mailfleet.store.deliveries import DeliveryRow

MAX_STORIES = 20
MAX_STORY_EVENTS = 500
MAX_EVENTS_LOOKED_AT, MAX_TAIL_LOOKED_AT = 20_000, 5_000
MAX_DELIVERIES_LOOKED_AT = 10_000
_STEP = 1000
HEALTH_FRESH_S = 1.0


class Observer:
    """Answers questions for one process."""

    def __init__(
        self,
        database: Database,
        reads: LongReads,
        screen: Screen,
        backlog: Backlog,
        clock: Clock,
        *,
        sandbox: bool,
        time_scale: float,
    ) -> None:
        self._database, self._reads, self._screen = database, reads, screen
        self._backlog, self._clock = backlog, clock
        self._sandbox, self._time_scale = sandbox, time_scale
        self._tried: tuple[float, str] = (-HEALTH_FRESH_S, "")

    async def events(
        self,
        actor: Actor,
        *,
        after: int,
        limit: int,
        kinds: frozenset[str],
        campaign: str | None,
        delivery: str | None,
    ) -> EventPage:
        """Events above ``after``, ascending; a negative ``after`` asks for the newest ``limit``.

        With ``kinds`` a page looks at ``MAX_EVENTS_LOOKED_AT`` events at the most, or at the newest ``MAX_TAIL_LOOKED_AT``: it may
        have few items or none, and ``next`` says where to go on.
        """
        campaign_id = ids.from_public("cmp", campaign) if campaign else 0
        delivery_id = ids.from_public("dlv", delivery) if delivery else 0
        if kinds and not delivery_id:
            return await self._database.read(
                lambda tx: _events_of_kinds(tx, actor.tenant_id, after, limit, kinds, campaign_id)
            )
        cursor = after if after >= 0 else -limit
        found = await self._database.read(
            lambda tx: events.after(
                tx,
                actor.tenant_id,
                cursor=cursor,
                limit=limit,
                kinds=kinds,
                campaign_id=campaign_id,
                delivery_id=delivery_id,
            )
        )
        return EventPage(items=[_event(one) for one in found], next=str(found[-1].id) if found else None)

    async def deliveries(
        self,
        actor: Actor,
        *,
        campaign: str | None,
        state: str | None,
        recipient: str | None,
        after: str | None,
        limit: int,
    ) -> DeliveryPage:
        """Deliveries that match every condition given: oldest first within a campaign, else newest first.

        By state alone a page looks at ``MAX_DELIVERIES_LOOKED_AT`` at the most, so it may have few items or none; ``next`` says
        where to go on. By state within a campaign it may walk over all of the campaign, which is done in turn.
        """
        wanted = _state(state)
        key = Address.parse(recipient).key if recipient else None
        cursor = ids.from_public("dlv", after) if after else None

        def find(tx: Tx) -> list[DeliveryView]:
            bounds = None
            if campaign is not None:
                found = campaigns.get(tx, ids.from_public("cmp", campaign))
                if found is None or found.tenant_id != actor.tenant_id:
                    raise NotFoundError(
                        "there is no such campaign", where=campaign, mend="see: mailfleet campaign list"
                    )
                bounds = (found.id, found.first_delivery_id, found.last_delivery_id)
            rows = deliveries.page(
                tx,
                actor.tenant_id,
                campaign=bounds,
                state=wanted,
                address_key=key,
                before=cursor,
                after=cursor,
                limit=limit,
            )
            return _views(tx, rows)

        if wanted is not None and campaign is None and key is None:
            return await self._database.read(lambda tx: _deliveries_in(tx, actor.tenant_id, wanted, cursor, limit))
        read = self._reads.read if wanted is not None and key is None else self._database.read
        views = await read(find)
        return DeliveryPage(items=views, next=views[-1].delivery if len(views) == limit else None)

    async def trace(self, actor: Actor, what: str) -> list[Trace]:
        """Stories of an address, delivery id, Message-ID or queue id, newest first."""
        what = what.strip()

        def find(tx: Tx) -> list[Trace]:
            rows = _rows_of(tx, actor.tenant_id, what)
            return [
                Trace(
                    delivery=view,
                    events=[
                        _event(one)
                        for one in events.after(
                            tx, actor.tenant_id, cursor=0, limit=MAX_STORY_EVENTS, delivery_id=row.id
                        )
                    ],
                )
                for row, view in zip(rows, _views(tx, rows), strict=True)
            ]

        return await self._database.read(find)

    async def queue(self, actor: Actor) -> QueueView:
        """The backlog by site, longest first."""
        return await self._backlog.view(actor.tenant_id)

    async def health(self) -> Health:
        """Whether new mail would be taken now: there is room, and the database can commit. Tried once a second at the most."""
        reason, now_s = self._screen.has_room(), self._clock.monotonic_s()
        if not reason:
            if now_s - self._tried[0] >= HEALTH_FRESH_S:
                self._tried = (now_s, await self._database.trouble())
            reason = self._tried[1]
        return Health(
            ok=not reason, reason=reason, sandbox=self._sandbox, time_scale=self._time_scale, version=__version__
        )


def _events_of_kinds(
    tx: Tx, tenant_id: int, after: int, limit: int, kinds: frozenset[str], campaign_id: int
) -> EventPage:
    """A page whose cost does not depend on how rare the kinds are."""
    if after < 0:
        newest = events.after(
            tx, tenant_id, cursor=-MAX_TAIL_LOOKED_AT, limit=MAX_TAIL_LOOKED_AT, campaign_id=campaign_id
        )
        found = [one for one in newest if one.kind in kinds][-limit:]
        return EventPage(items=[_event(one) for one in found], next=str(newest[-1].id) if newest else None)
    found, cursor = [], after
    for _ in range(MAX_EVENTS_LOOKED_AT // _STEP):
        step = events.after(tx, tenant_id, cursor=cursor, limit=_STEP, campaign_id=campaign_id)
        for one in step:
            cursor = one.id
            if one.kind in kinds:
                found.append(one)
                if len(found) == limit:
                    break
        if len(step) < _STEP or len(found) == limit:
            break
    return EventPage(items=[_event(one) for one in found], next=str(cursor) if cursor > after else None)


def _deliveries_in(tx: Tx, tenant_id: int, wanted: DeliveryState, cursor: int | None, limit: int) -> DeliveryPage:
    """A page of deliveries that are shown in a state, whose cost does not depend on how rare the state is."""
    found: list[DeliveryRow] = []
    ended = False
    for _ in range(MAX_DELIVERIES_LOOKED_AT // _STEP):
        step = deliveries.page(tx, tenant_id, before=cursor, limit=_STEP)
        for row in step:
            cursor = row.id
            if effective_state(DeliveryState(row.state), FlowState(row.flow_state)) is wanted:
                found.append(row)
                if len(found) == limit:
                    break
        ended = len(step) < _STEP and len(found) < limit
        if ended or len(found) == limit:
            break
    more = not ended and cursor is not None
    return DeliveryPage(items=_views(tx, found), next=ids.public("dlv", cursor) if more and cursor else None)


def _event(stored: events.StoredEvent) -> EventView:
    return EventView(
        id=stored.id,
        at=rfc3339(stored.at_ms),
        kind=stored.kind,
        delivery=ids.public("dlv", stored.delivery_id) if stored.delivery_id else None,
        campaign=ids.public("cmp", stored.campaign_id) if stored.campaign_id else None,
        recipient=stored.address,
        data=orjson.loads(stored.data) if stored.data else {},
    )


def _state(word: str | None) -> DeliveryState | None:
    if not word:
        return None
    try:
        return DeliveryState[word.upper()]
    except KeyError:
        known = ", ".join(state.word for state in DeliveryState)
        raise InputError(f"{word!r} is not a state", where="state", mend=f"use one of: {known}") from None


def _rows_of(tx: Tx, tenant_id: int, what: str) -> Sequence[DeliveryRow]:
    if what.startswith("<") and what.endswith(">"):
        return _by_message_id(tx, tenant_id, what)
    head = what[:4].lower()
    if head == "dlv_" and "@" not in what:
        row = deliveries.one(tx, tenant_id, ids.from_public("dlv", what))
        return [row] if row else []
    if head == "cnt_" and "@" not in what:
        return deliveries.of_content(tx, tenant_id, ids.from_public("cnt", what), MAX_STORIES)
    try:
        key = Address.parse(what).key
    except InputError:
        raise InputError(
            f"{what!r} is not an address, delivery id, queue id or Message-ID",
            where="what",
            mend="for example ann@example.org, dlv_..., cnt_... or <...@...>",
        ) from None
    found = deliveries.page(tx, tenant_id, address_key=key, limit=MAX_STORIES)
    return found or _by_message_id(tx, tenant_id, f"<{what}>")


def _by_message_id(tx: Tx, tenant_id: int, message_id: str) -> Sequence[DeliveryRow]:
    """Single messages are stored under theirs; campaign copies carry their delivery id in it."""
    content_id = contents.by_message_id(tx, tenant_id, message_id)
    if content_id:
        return deliveries.of_content(tx, tenant_id, content_id, MAX_STORIES)
    try:
        row = deliveries.one(tx, tenant_id, ids.from_public("dlv", message_id[1:-1].partition("@")[0]))
    except InputError:  # somebody else's Message-ID
        return []
    return [row] if row and row.campaign_id else []


def _views(tx: Tx, rows: Sequence[DeliveryRow]) -> list[DeliveryView]:
    infos: dict[int, contents.ContentInfo | None] = {}
    for row in rows:
        if row.content_id not in infos:
            infos[row.content_id] = contents.info(tx, row.content_id)
    return [_view(row, infos[row.content_id]) for row in rows]


def _view(row: DeliveryRow, info: contents.ContentInfo | None) -> DeliveryView:
    state = effective_state(DeliveryState(row.state), FlowState(row.flow_state))
    waiting = state in (DeliveryState.QUEUED, DeliveryState.PAUSED)
    message_id = (info.message_id or message_id_of(row.id, info.from_domain)) if info else ""
    return DeliveryView(
        delivery=ids.public("dlv", row.id),
        message_id=message_id,
        recipient=row.address,
        campaign=ids.public("cmp", row.campaign_id) if row.campaign_id else None,
        stream=row.stream,
        state=state.word,
        attempts=row.attempts,
        created_at=rfc3339(ids.made_at_ms(row.id)),
        due_at=rfc3339(row.due_ms) if waiting else None,
        expires_at=rfc3339(row.expires_ms),
        provider=row.provider or None,
        site=row.site_key,
        bounce_class=row.bounce_class or None,
        tags=list(info.tags) if info else [],
        metadata=info.metadata if info else {},
        reason=row.reason or "",
    )
