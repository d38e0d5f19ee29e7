"""Brakes that people put on and lift, and warm-ups that people plan and look at."""

from __future__ import annotations

from collections.abc import Mapping

from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import ConflictError, InputError, NotFoundError
from mailfleet.base.ids import IdGenerator, from_public, public
from mailfleet.engine import braking
from mailfleet.engine.fleet_checks import OTHER, stream_row
from mailfleet.engine.fleet_views import (
    BrakePage,
    BrakeView,
    WarmupDayView,
    WarmupView,
)
from mailfleet.engine.requests import Actor
from mailfleet.engine.warming import room_of
from mailfleet.policy.brakes import Brake, Decision
from mailfleet.policy.warmup import DAY_MS, Plan, day_number, day_share
from mailfleet.store import brakes, egress, sites, tenants, warmups
from mailfleet.store.database import Database, Tx
from mailfleet.store.egress import Egress

ACTIONS = {"rest": 0, "slow": 250, "stop": 0}
MAX_FOR_S = 365 * 86_400
STEP_S = 3600


class Steering:
    """For one process. ``plans`` by name, ``providers`` all names that are known."""

    def __init__(
        self,
        database: Database,
        plans: Mapping[str, Plan],
        providers: frozenset[str],
        *,
        clock: Clock,
        ids: IdGenerator,
        time_scale: float,
    ) -> None:
        self._database, self._plans, self._providers = database, plans, providers
        self._clock, self._ids, self._time_scale = clock, ids, time_scale

    # Brakes

    async def brakes(self, actor: Actor, *, ended: bool, after: str | None, limit: int) -> BrakePage:
        """Those in force, or those that are over, newest first."""

        def find(tx: Tx) -> BrakePage:
            before_id = from_public("brk", after) if after else 0
            rows = brakes.ended(tx, before_id=before_id, limit=limit) if ended else brakes.in_force(tx)[::-1]
            more = public("brk", rows[-1].id) if ended and len(rows) == limit else None
            return BrakePage(items=[_brake_view(tx, one) for one in rows], next=more)

        return await self._database.read(find)

    async def put_brake(
        self,
        actor: Actor,
        *,
        action: str,
        reason: str,
        source: str = "",
        provider: str = "",
        stream: str = "",
        share: float | None = None,
        for_s: float = 0,
    ) -> BrakeView:
        """A person's brake; ``for_s`` 0 stays until it is lifted. Raises ``InputError`` and ``NotFoundError``."""
        if action not in ACTIONS:
            raise InputError(f"{action!r} is not known", where="action", mend=f"one of {', '.join(ACTIONS)}")
        if not (source or provider or stream):
            raise InputError(
                "it does not say what to hold back", where="source", mend="name a source, a provider or a stream"
            )
        permille = ACTIONS[action] if share is None else round(share * 10)
        if action == "slow" and not 0 < permille < 1000:
            raise InputError(
                "slow leaves more than nothing and less than all", where="share", mend="a percentage from 0.1 to 99.9"
            )

        def work(tx: Tx) -> BrakeView:
            decision = Decision(
                action,
                permille if action == "slow" else 0,
                round(min(for_s, MAX_FOR_S) * 1000),
                round(STEP_S * 1000 / self._time_scale),
                reason or "by hand",
                "",
                "",
                "person",
                _egress(tx, source).id if source else 0,
                self._provider(provider) if provider else "",
                0,
                stream_row(tx, actor, stream).id if stream else 0,
            )
            brakes.hold(tx)
            if any(one.scope == decision.scope and one.origin == "person" for one in brakes.in_force(tx)):
                raise ConflictError(
                    "a brake by hand is on for that already", mend="lift it first: mailfleet brake list"
                )
            (made,) = braking.apply(tx, [decision], self._ids, now_ms=self._clock.now_ms(), scale=self._time_scale)
            return _brake_view(tx, made)

        return await self._database.write(work)

    async def lift(self, actor: Actor, brake: str, reason: str) -> BrakeView:
        """End a brake at once. Raises ``NotFoundError`` and ``ConflictError``."""

        def work(tx: Tx) -> BrakeView:
            brakes.hold(tx)
            found = brakes.get(tx, from_public("brk", brake))
            if found is None:
                raise NotFoundError(f"there is no brake {brake}", where="brake", mend="see: mailfleet brake list")
            if found.ended_ms:
                raise ConflictError(f"{brake} has ended already: {found.ended_why}")
            why = f"lifted by {actor.name or 'a person'}" + (f": {reason}" if reason else "")
            return _brake_view(tx, braking.lift(tx, found, self._clock.now_ms(), why))

        return await self._database.write(work)

    # Warm-up

    async def warmups(self, actor: Actor, source: str = "") -> list[WarmupView]:
        """How far each source is with each provider."""
        now_ms = self._clock.now_ms()
        day, share = day_number(now_ms, self._time_scale), day_share(now_ms, self._time_scale)

        def find(tx: Tx) -> list[WarmupView]:
            only = _egress(tx, source).id if source else 0
            names = {one.id: one.name for one in egress.all_egresses(tx)}
            counted = {(one.egress_id, one.provider): one for one in warmups.today(tx, day)}
            found = []
            for one in warmups.every(tx):
                if only and one.egress_id != only:
                    continue
                today = counted.get(one.key) or warmups.Day(*one.key, day, 0, 0, 0, 0, 0, 0, 0, "", "")
                found.append(
                    WarmupView(
                        source=names[one.egress_id],
                        provider=one.provider or OTHER,
                        plan=one.plan,
                        state=one.state,
                        stage=one.stage,
                        cap=one.cap,
                        delivered=today.delivered,
                        deferred=today.deferred,
                        bounced=today.bounced,
                        complained=today.complained,
                        under_way=one.reserved,
                        room=room_of(one, today, share, now_ms) if one.state == "warming" else 0,
                        held_until=rfc3339(one.held_until_ms) if one.held_until_ms > now_ms else "",
                        reason=one.reason,
                    )
                )
            return found

        return await self._database.read(find)

    async def plan(
        self, actor: Actor, source: str, *, plan: str, provider: str = "", stage: int = 0
    ) -> list[WarmupView]:
        """Warm a source up with a provider, or with all of them. Raises ``InputError`` and ``NotFoundError``."""
        if plan not in self._plans:
            raise InputError(
                f"there is no plan {plan!r}", where="plan", mend=f"one of {', '.join(sorted(self._plans))}"
            )
        now_ms = self._clock.now_ms()
        which = [self._provider(provider)] if provider else ["", *sorted(self._providers)]

        def work(tx: Tx) -> None:
            row = _egress(tx, source)
            if row.kind == "relay":
                raise InputError(
                    "a relay has a reputation of its own: it is not warmed up here",
                    where="source",
                    mend="name a source",
                )
            for name in which:
                key = row.id, name
                cap, day = self._plans[plan].cap(stage), day_number(now_ms, self._time_scale)
                warmups.put(
                    tx,
                    warmups.Warmup(*key, plan, "warming", stage, cap, day, 0, 0, 0, 0, "planned by a person", now_ms),
                )
                warmups.recount(tx, key)

        await self._database.write(work)
        return [one for one in await self.warmups(actor, source) if not provider or one.provider == (which[0] or OTHER)]

    async def set_warmup(
        self, actor: Actor, source: str, state: str, *, provider: str = "", reason: str = ""
    ) -> list[WarmupView]:
        """Pause, resume or end (``warm``) the warm-ups of a source. Raises ``NotFoundError``."""
        if state not in ("warming", "paused", "warm"):
            raise InputError(f"{state!r} is not known", where="state", mend="one of warming, paused, warm")
        now_ms = self._clock.now_ms()

        def work(tx: Tx) -> None:
            row = _egress(tx, source)
            wanted = self._provider(provider) if provider else None
            some = [one for one in warmups.every(tx) if one.egress_id == row.id and wanted in (None, one.provider)]
            if not some:
                raise NotFoundError(
                    f"{source} does not warm up", where="source", mend=f"plan it: mailfleet warmup plan {source}"
                )
            for one in some:
                held = warmups.get(tx, one.key) or one
                warmups.put(
                    tx, held._replace(state=state, reason=reason or "by hand", held_until_ms=0, since_ms=now_ms)
                )
                if state == "warming":
                    warmups.recount(tx, one.key)

        await self._database.write(work)
        return await self.warmups(actor, source)

    async def history(self, actor: Actor, source: str) -> list[WarmupDayView]:
        """The days of a source that are over, newest first. Raises ``NotFoundError``."""
        rows = await self._database.read(lambda tx: warmups.history(tx, _egress(tx, source).id))
        day_ms = DAY_MS / self._time_scale
        return [
            WarmupDayView(
                day=rfc3339(round(one.day * day_ms)),
                provider=one.provider or OTHER,
                stage=one.stage,
                cap=one.cap,
                delivered=one.delivered,
                attempted=one.attempted,
                deferred=one.deferred,
                bounced=one.bounced,
                complained=one.complained,
                move=one.move,
                reason=one.reason,
            )
            for one in rows
            if one.move
        ]

    def _provider(self, name: str) -> str:
        if name == OTHER:
            return ""
        if name not in self._providers:
            raise InputError(
                f"there is no provider {name!r}",
                where="provider",
                mend=f"see mailfleet provider list; {OTHER} stands for all others",
            )
        return name


def _egress(tx: Tx, name: str) -> Egress:
    row = egress.by_name(tx, name)
    if row is None:
        raise NotFoundError(f"there is no source or relay {name!r}", where="source", mend="see: mailfleet source list")
    return row


def _brake_view(tx: Tx, one: Brake) -> BrakeView:
    row = egress.get(tx, one.egress_id) if one.egress_id else None
    site = sites.site(tx, one.site_id) if one.site_id else None
    stream = tenants.stream_by_id(tx, one.stream_id).name if one.stream_id else ""
    return BrakeView(
        brake=public("brk", one.id),
        action=one.action,
        share=one.permille / 10,
        source=row.name if row else "",
        provider=one.provider,
        site=site.key if site else "",
        stream=stream,
        campaign=public("cmp", one.campaign_id) if one.campaign_id else "",
        reason=one.reason,
        rule=one.rule,
        words=one.words,
        origin=one.origin,
        since=rfc3339(one.since_ms),
        until=rfc3339(one.until_ms) if one.until_ms else "",
        ended=rfc3339(one.ended_ms) if one.ended_ms else "",
        ended_why=one.ended_why,
    )
