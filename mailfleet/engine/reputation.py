"""What is thought of us, from what came back: rates to look at, complaints taken in, and brakes at the providers' own thresholds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import InputError, NotFoundError
from mailfleet.base.ids import IdGenerator, from_public, public
from mailfleet.engine import braking
from mailfleet.engine.requests import Actor
from mailfleet.mail import provider_data
from mailfleet.mail.provider_data import ProviderDay
from mailfleet.policy import reputation
from mailfleet.policy.brakes import Decision
from mailfleet.policy.lifecycle import DeliveryState, EventKind
from mailfleet.policy.warmup import day_number
from mailfleet.store import (
    brakes,
    contents,
    counts,
    deliveries,
    egress,
    imported,
    sending,
    sites,
    streams,
    suppressions,
    tenants,
    warmups,
)
from mailfleet.store.counts import HOUR_MS, Key
from mailfleet.store.database import Database, Tx
from mailfleet.store.deliveries import Left
from mailfleet.store.events import EventRow, append, has
from mailfleet.store.imported import Imported

KEEP_HOURS = 24 * 90
MAX_SINCE_HOURS = KEEP_HOURS


class RateView(BaseModel):
    """What came of deliveries of one kind; shares are percentages."""

    model_config = ConfigDict(frozen=True)

    of: dict[str, str] = Field(description="The values of the dimensions that were asked for.")
    attempts: int
    delivered: int
    deferred: int
    bounced: int
    expired: int
    complaints: int
    delivered_share: float
    deferred_share: float
    bounced_share: float
    complaint_share: float
    classes: dict[str, int] = Field(description="Refusals by bounce class.")


class ComplaintView(BaseModel):
    """A complaint that was taken in."""

    delivery: str
    address: str
    suppressed: bool = Field(description="The address was not suppressed before.")


class ToldView(BaseModel):
    """A day as a provider tells it."""

    origin: str = Field(description="`postmaster` (of a domain) or `snds` (of an address).")
    subject: str
    day: str
    data: dict[str, Any]


FORMS = {"postmaster": provider_data.postmaster, "snds": provider_data.snds}
OLD_HOURS = 24 * 4  # providers tell of a day some days later


class Reputation:
    """For one process. ``time_scale``: an hour of policy is so much shorter."""

    def __init__(self, database: Database, clock: Clock, ids: IdGenerator, time_scale: float) -> None:
        self._database, self._clock, self._ids, self._time_scale = database, clock, ids, time_scale

    async def rates(self, actor: Actor, by: list[str], hours: int) -> list[RateView]:
        """By some of ``store.counts.DIMENSIONS``, the busiest first. Raises ``InputError``."""
        wrong = [one for one in by if one not in counts.DIMENSIONS]
        if wrong or not by or len(set(by)) < len(by):
            mend = f"some of {', '.join(counts.DIMENSIONS)}, each once"
            raise InputError(f"{', '.join(wrong) or 'this'} is nothing to count by", where="by", mend=mend)
        since_hour = self._clock.now_ms() // HOUR_MS - min(hours, MAX_SINCE_HOURS)

        def find(tx: Tx) -> list[RateView]:
            names = _Names(tx)
            found = counts.by(tx, by, since_hour=since_hour)
            views = [_view(names.of(by, place), some) for place, some in found.items()]
            return sorted(views, key=lambda one: (-one.attempts, str(one.of)))

        return await self._database.read(find)

    async def complain(self, actor: Actor, delivery: str, origin: str) -> ComplaintView:
        """Take a complaint about a delivery in: event, suppression, counts, in one commit. Raises ``NotFoundError``."""

        def work(tx: Tx) -> ComplaintView:
            found = deliveries.left(tx, actor.tenant_id, from_public("dlv", delivery))
            if found is None or found.state != DeliveryState.DELIVERED:
                raise NotFoundError(
                    f"there is no delivery {delivery} that arrived",
                    where="delivery",
                    mend="give the id of a delivered one",
                )
            return self._complain(tx, actor, found, origin)

        return await self._database.write(work)

    def _complain(self, tx: Tx, actor: Actor, found: Left, origin: str) -> ComplaintView:
        now_ms, flow = self._clock.now_ms(), tenants.flow(tx, found.flow_id)
        stream = tenants.stream_by_id(tx, flow.stream_id) if flow else None
        key = suppressions.Suppression(
            self._ids.next(), actor.tenant_id, found.address_key, stream.name if stream and stream.kind == "bulk" else "",
            "complaint", origin, f"delivery {public('dlv', found.id)}", now_ms,
        )  # fmt: skip
        new = suppressions.add(tx, key)
        answer = ComplaintView(delivery=public("dlv", found.id), address=found.address, suppressed=new)
        if has(tx, found.id, EventKind.COMPLAINED):  # somebody said it twice
            return answer
        data = orjson.dumps({"origin": origin}).decode()
        append(tx, [EventRow(now_ms, actor.tenant_id, EventKind.COMPLAINED, found.campaign_id, found.id, data)])
        provider = sites.providers_of(tx, [found.site_id]).get(found.site_id, "")
        content = contents.get(tx, found.content_id)
        domain = content.info.from_domain if content else ""
        stream_id = stream.id if stream else 0
        hour = now_ms // HOUR_MS
        counts.add(
            tx, Counter({Key(hour, found.egress_id, provider, domain, stream_id, found.campaign_id, "complaint"): 1})
        )
        day = day_number(now_ms, self._time_scale)
        warmups.add(tx, {(found.egress_id, provider, day, "complained"): 1})
        return answer

    async def take_in(self, actor: Actor, form: str, text: str) -> int:
        """Keep what a provider tells of us (``postmaster`` or ``snds``), and act on its newest day; returns how many days it told of.

        Raises ``InputError`` naming the entry; then nothing is kept.
        """
        if form not in FORMS:
            raise InputError(f"{form!r} is not known", where="form", mend=f"one of {', '.join(FORMS)}")
        days = FORMS[form](text)
        now_ms = self._clock.now_ms()

        def work(tx: Tx) -> None:
            rows = [Imported(form, one.subject, one.day, orjson.dumps(one.data).decode(), now_ms) for one in days]
            imported.put(tx, rows)
            newest = max(one.day for one in days)
            if newest * 24 < now_ms // HOUR_MS - OLD_HOURS:
                return  # history, which says nothing of today
            wanted = self._asked_for(tx, actor, form, [one for one in days if one.day == newest])
            braking.apply(tx, wanted, self._ids, now_ms=now_ms, scale=self._time_scale)

        if days:
            await self._database.write(work)
        return len(days)

    async def told(self, actor: Actor, limit: int) -> list[ToldView]:
        """What providers told of us, the latest days first."""
        rows = await self._database.read(lambda tx: imported.newest(tx, limit))
        return [
            ToldView(
                origin=one.origin,
                subject=one.subject,
                day=rfc3339(one.day * 24 * HOUR_MS)[:10],
                data=orjson.loads(one.data),
            )
            for one in rows
        ]

    def _asked_for(self, tx: Tx, actor: Actor, form: str, days: list[ProviderDay]) -> list[Decision]:
        hour_ms = round(HOUR_MS / self._time_scale)
        if form == "snds":
            known = {one.address: one.id for one in egress.all_egresses(tx) if one.address}
            red = [one for one in days if one.data["filterResult"] == "RED" and one.subject in known]
            return [reputation.told_red(one.subject, egress_id=known[one.subject], hour_ms=hour_ms) for one in red]
        ours = {one.name for one in sending.all_domains(tx)}
        bulk = [one.id for one in streams.of_tenant(tx, actor.tenant_id) if one.kind == "bulk"]
        found = [
            reputation.told_spam_rate(
                one.data.get("userReportedSpamRatio", 0), domain=one.subject, stream_id=stream_id, hour_ms=hour_ms
            )
            for one in days
            if one.subject in ours
            for stream_id in bulk
        ]
        return [one for one in found if one is not None]

    async def look(self) -> int:
        """Put on the brakes that the last day's rates ask for; returns how many changed. For the ``jobs`` role."""
        now_ms, hour_ms = self._clock.now_ms(), round(HOUR_MS / self._time_scale)
        since_hour = (now_ms - reputation.LOOK_BACK_HOURS * hour_ms) // HOUR_MS
        wanted = await self._database.read(lambda tx: _wanted(tx, since_hour, hour_ms))
        if not wanted:
            return 0
        changed = await self._database.write(
            lambda tx: braking.apply(tx, wanted, self._ids, now_ms=now_ms, scale=self._time_scale)
        )
        return len(changed)

    async def forget(self) -> None:
        """Drop counts that are too old."""
        before_hour = self._clock.now_ms() // HOUR_MS - KEEP_HOURS
        while await self._database.write(lambda tx: counts.forget(tx, before_hour)):
            pass


def _wanted(tx: Tx, since_hour: int, hour_ms: int) -> list[Decision]:
    """What rates of bulk mail ask for and is not on yet; what a person has lifted needs worse counts than then."""
    found: list[Decision | None] = []
    for (stream_id, provider), some in counts.by(
        tx, ("stream", "provider"), since_hour=since_hour, bulk_only=True
    ).items():
        found.append(
            reputation.complaints(some, stream_id=int(str(stream_id)), provider=str(provider), hour_ms=hour_ms)
        )
    for (stream_id,), some in counts.by(tx, ("stream",), since_hour=since_hour, bulk_only=True).items():
        found.append(reputation.bounces(some, stream_id=int(str(stream_id)), hour_ms=hour_ms))
    for (campaign_id,), some in counts.by(tx, ("campaign",), since_hour=since_hour, bulk_only=True).items():
        if campaign_id:
            found.append(reputation.bounces(some, campaign_id=int(str(campaign_id)), hour_ms=hour_ms))
    known = [*brakes.in_force(tx), *brakes.ended(tx, before_id=0, limit=500)]
    said = {(one.scope, one.words) for one in known if one.origin == "reputation"}
    return [one for one in found if one is not None and (one.scope, one.words) not in said]


class _Names:
    """Numbers as people know them."""

    def __init__(self, tx: Tx) -> None:
        self._sources = {one.id: one.name for one in egress.all_egresses(tx)}
        self._tx, self._streams = tx, dict[int, str]()

    def of(self, by: list[str], place: tuple[object, ...]) -> dict[str, str]:
        return {name: self._word(name, value) for name, value in zip(by, place, strict=True)}

    def _word(self, name: str, value: Any) -> str:
        if name == "source":
            return self._sources.get(value, "")
        if name == "stream":
            if value not in self._streams:
                self._streams[value] = tenants.stream_by_id(self._tx, value).name if value else ""
            return self._streams[value]
        if name == "campaign":
            return public("cmp", value) if value else ""
        if name == "hour":
            return rfc3339(value * HOUR_MS)
        return str(value)


def _view(of: dict[str, str], some: Counter[str]) -> RateView:
    found = reputation.rates(some)
    return RateView(
        of=of,
        attempts=found.attempts,
        delivered=some["delivered"],
        deferred=some["deferred"],
        bounced=some["bounced"],
        expired=some["expired"],
        complaints=some["complaint"],
        delivered_share=round(100 * found.delivered, 2),
        deferred_share=round(100 * found.deferred, 2),
        bounced_share=round(100 * found.bounced, 2),
        complaint_share=round(100 * found.complained, 3),
        classes={what.removeprefix("class:"): n for what, n in some.most_common() if what.startswith("class:")},
    )
