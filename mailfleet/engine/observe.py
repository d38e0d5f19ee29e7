"""What happened and what is waiting: events, deliveries, traces, the backlog, readiness. Reads only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import orjson

from mailfleet import __version__
from mailfleet.base import ids
from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import InputError, NotFoundError
from mailfleet.engine.accept import Screen
from mailfleet.engine.render import message_id_of
from mailfleet.engine.requests import Actor
from mailfleet.engine.views import DeliveryPage, DeliveryView, EventPage, EventView, Health, QueueRow, QueueView, Trace
from mailfleet.mail.address import Address
from mailfleet.policy.lifecycle import DeliveryState, FlowState, effective_state
from mailfleet.store import campaigns, contents, deliveries, events
from mailfleet.store.database import Database, Tx
from mailfleet.store.deliveries import BacklogRow, DeliveryRow

MAX_STORIES = 20
MAX_STORY_EVENTS = 500
HEALTH_FRESH_S = 1.0


class Observer:
    """Answers questions for one process."""

    def __init__(self, database: Database, screen: Screen, clock: Clock, *, sandbox: bool, time_scale: float) -> None:
        self._database, self._screen, self._clock = database, screen, clock
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
        """Events above ``after``, ascending; a negative ``after`` asks for the newest ``limit``."""
        found = await self._database.read(
            lambda tx: events.after(
                tx,
                actor.tenant_id,
                cursor=after if after >= 0 else -limit,
                limit=limit,
                kinds=kinds,
                campaign_id=ids.from_public("cmp", campaign) if campaign else 0,
                delivery_id=ids.from_public("dlv", delivery) if delivery else 0,
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
        """Deliveries that match every condition given: oldest first within a campaign, else newest first."""
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

        views = await self._database.read(find)
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
        rows = await self._database.read(lambda tx: deliveries.backlog(tx, actor.tenant_id))
        now_ms = self._clock.now_ms()
        by_site: dict[tuple[str, str], list[BacklogRow]] = defaultdict(list)
        for row in rows:
            by_site[row.provider, row.site_key].append(row)
        sites = [_queue_row(provider, site, found, now_ms) for (provider, site), found in by_site.items()]
        sites.sort(key=lambda row: row.queued + row.leased, reverse=True)
        return QueueView(
            queued=sum(row.queued for row in sites),
            deferred=sum(row.deferred for row in sites),
            leased=sum(row.leased for row in sites),
            sites=sites,
        )

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


def _queue_row(provider: str, site: str, rows: Sequence[BacklogRow], now_ms: int) -> QueueRow:
    queued = [row for row in rows if row.state == DeliveryState.QUEUED]
    reasons: Counter[str] = Counter()
    for row in queued:
        if row.bounce_class:
            reasons[row.bounce_class] += row.n
    next_due_ms = min((row.next_due_ms for row in queued), default=None)
    return QueueRow(
        provider=provider,
        site=site,
        queued=sum(row.n for row in queued),
        deferred=sum(row.n for row in queued if row.deferred),
        leased=sum(row.n for row in rows if row.state == DeliveryState.LEASED),
        oldest_age_s=max(0.0, (now_ms - min(row.oldest_ms for row in rows)) / 1000),
        next_due_in_s=None if next_due_ms is None else max(0.0, (next_due_ms - now_ms) / 1000),
        reasons=dict(reasons),
    )
