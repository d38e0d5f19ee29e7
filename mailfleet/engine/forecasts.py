"""When so many messages, or what is left of a campaign, would be out: by which ways, and what it waits for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import InputError, NotFoundError
from mailfleet.base.ids import from_public
from mailfleet.engine.fleet_checks import OTHER, stream_row
from mailfleet.engine.fleet_views import ForecastView, ShareView
from mailfleet.engine.lanes import LimitsFor
from mailfleet.engine.requests import Actor
from mailfleet.engine.shared import LongReads
from mailfleet.engine.warming import room_of
from mailfleet.policy.brakes import Brakes
from mailfleet.policy.forecast import Carrier, Forecast, forecast
from mailfleet.policy.rates import Rate, parse, shown
from mailfleet.policy.warmup import DAY_MS, Plan, day_number, day_share
from mailfleet.store import brakes, campaigns, egress, sites, streams, warmups
from mailfleet.store.database import Tx
from mailfleet.store.egress import Egress
from mailfleet.store.streams import StreamRow

FELT = 0.01  # of a day: a limit that costs less than that is not the reason for anything


class Forecaster:
    """For one process. ``plans`` by name; ``limits_for``: what a way out keeps to towards a provider."""

    def __init__(
        self, reads: LongReads, plans: Mapping[str, Plan], limits_for: LimitsFor, clock: Clock, time_scale: float
    ) -> None:
        self._reads, self._plans, self._limits_for = reads, plans, limits_for
        self._clock, self._time_scale = clock, time_scale

    async def of_messages(self, actor: Actor, messages: int, stream: str) -> ForecastView:
        """So many more messages of a stream, spread over providers as the latest were. Raises ``NotFoundError``."""

        def work(tx: Tx) -> ForecastView:
            row = stream_row(tx, actor, stream)
            known = sites.mix(tx) or {"": (1, 1)}
            total = sum(count for count, _ in known.values())
            mix = {name: (messages * count // total, number) for name, (count, number) in known.items()}
            largest = max(mix, key=lambda name: mix[name])
            rest = messages - sum(count for count, _ in mix.values())
            mix[largest] = (mix[largest][0] + rest, mix[largest][1])
            return self._forecast(tx, actor, f"{messages:,} messages of {stream}", mix, row, [row.rates])

        return await self._reads.read(work)

    async def of_campaign(self, actor: Actor, campaign: str) -> ForecastView:
        """What is left of a campaign, by where its own recipients are. Raises ``NotFoundError``."""
        campaign_id = from_public("cmp", campaign)

        def work(tx: Tx) -> ForecastView:
            found = campaigns.get(tx, campaign_id)
            if found is None or found.tenant_id != actor.tenant_id:
                raise NotFoundError(f"there is no campaign {campaign}", where="campaign")
            row = stream_row(tx, actor, found.stream)
            mix = sites.mix_of_flow(tx, found.flow_id)
            if not mix:
                raise InputError(
                    f"nothing of {campaign} waits", where="campaign", mend="ask about one that is under way"
                )
            count = sum(number for number, _ in mix.values())
            what = f"the {count:,} messages that are left of {found.name or campaign}"
            return self._forecast(tx, actor, what, mix, row, [row.rates, found.rates])

        return await self._reads.read(work)

    def _forecast(
        self,
        tx: Tx,
        actor: Actor,
        what: str,
        mix: Mapping[str, tuple[int, int]],
        row: StreamRow,
        rates: list[str],
    ) -> ForecastView:
        now_ms = self._clock.now_ms()
        share = day_share(now_ms, self._time_scale)
        pool_id = row.pool_id or row.tenant_pool_id or egress.DEFAULT_POOL
        wanted = {name: count for name, (count, _) in mix.items()}
        own = [rate for text in (*rates, streams.tenant(tx, actor.tenant_id).rates) for rate in parse(text)]
        found = forecast(
            wanted,
            self._carriers(tx, pool_id, {name: number for name, (_, number) in mix.items()}, now_ms),
            spill=row.spill == "overflow",
            left_of_day=1 - share,
            most_a_day=_a_day(own),
        )
        finishes_ms = self._finishes_ms(found, now_ms)
        return ForecastView(
            messages=sum(wanted.values()),
            days=found.days,
            finishes="" if finishes_ms is None else rfc3339(finishes_ms),
            by_source=[
                ShareView(source=name, messages=count, why=_why(found, name))
                for name, count in found.by_carrier.most_common()
            ],
            by_day=found.by_day,
            sentence=_sentence(what, found, finishes_ms, shown(own)),
        )

    def _finishes_ms(self, found: Forecast, now_ms: int) -> int | None:
        if found.days is None:
            return None
        day_ms = DAY_MS / self._time_scale
        start_ms = day_number(now_ms, self._time_scale) * day_ms
        if found.days <= 1:
            return round(now_ms + found.share * (start_ms + day_ms - now_ms))
        return round(start_ms + (found.days - 1 + found.share) * day_ms)

    def _carriers(self, tx: Tx, pool_id: int, providers: Mapping[str, int], now_ms: int) -> dict[str, list[Carrier]]:
        """By provider; ``providers`` has how many sites of each are asked about."""
        rows = {one.id: one for one in egress.all_egresses(tx)}
        overflow = {one.id: one.overflow_pool_id for one in egress.pools(tx)}.get(pool_id, 0)
        day, share = day_number(now_ms, self._time_scale), day_share(now_ms, self._time_scale)
        counted = {(one.egress_id, one.provider): one for one in warmups.today(tx, day)}
        warming = {one.key: one for one in warmups.every(tx) if one.state != "warm"}
        held = Brakes(brakes.in_force(tx))
        members = [one for one in egress.members(tx) if one.pool_id in (pool_id, overflow)]
        made: dict[str, list[Carrier]] = {}
        for provider, number in providers.items():
            for member in members:
                row = rows[member.egress_id]
                if row.state != "active":
                    continue
                per_day, limit = self._rate(row, provider, number)
                pair = warming.get((row.id, provider))
                plan, stage, today = None, 0, 0
                if pair is not None:
                    plan, stage = self._plans.get(pair.plan), pair.stage
                    limit = f"warm-up, plan {pair.plan}"
                    if pair.state == "warming":
                        today = room_of(pair, counted.get(pair.key), max(share, 0.999), now_ms)
                permille = held.on_lane(row.id, provider, 0).permille
                if permille < 1000:
                    today = today * permille // 1000
                spills = member.pool_id != pool_id
                made.setdefault(provider, []).append(
                    Carrier(row.name, member.weight, plan, stage, today, spills, per_day, limit)
                )
        return made

    def _rate(self, row: Egress, provider: str, number: int) -> tuple[int | None, str]:
        """What its rates allow in a day towards ``number`` sites of a provider."""
        limits = self._limits_for(row, provider)
        if row.kind == "relay":
            return _a_day(limits.rates), shown(limits.rates)
        at_sites = _a_day(limits.rates)
        of_all = _a_day(limits.provider_rates)
        if at_sites is not None:
            at_sites *= max(1, number)
        if of_all is not None and (at_sites is None or of_all < at_sites):
            return of_all, shown(limits.provider_rates)
        return at_sites, shown(limits.rates) + (" to each site" if number > 1 else "")


def _a_day(rates: Iterable[Rate]) -> int | None:
    return min((one.messages * DAY_MS // one.period_ms for one in rates), default=None)


def _why(found: Forecast, name: str) -> str:
    """What a way out is busy with last."""
    last = found.last[name]
    until, then = ("today", "more today") if last.day == 0 else (f"day {last.day + 1}", "that day")
    cap = (
        ""
        if last.cap is None or (last.day == 0 and last.share < FELT)
        else f": {last.cap:,} {then} ({last.carrier.limit})"
    )
    return f"until {until} with {last.provider or OTHER}{cap}"


def _sentence(what: str, found: Forecast, finishes_ms: int | None, own: str) -> str:
    if finishes_ms is None:
        return f"{what} would not be out within a year: nothing that may carry them has room"
    at = datetime.fromtimestamp(finishes_ms / 1000, UTC)
    parts = ", ".join(f"{count:,} by {name}" for name, count in found.by_carrier.most_common(5))
    more = len(found.by_carrier) - 5
    if more > 0:
        parts += f", the rest by {more} more"
    slowest = max(found.last.values(), key=lambda one: (one.day, one.share), default=None)
    sentence = f"{what} would be out by {at:%A %d %B %Y, %H:%M} UTC, day {found.days}: {parts}"
    if own and (slowest is None or slowest.share < found.share):
        return f"{sentence}; their own rate ({own}) is what holds them"
    if slowest is not None and slowest.cap is not None and (slowest.day or slowest.share >= FELT):
        name, when = slowest.carrier.name, "more today" if slowest.day == 0 else "that day"
        last = f"{slowest.provider or OTHER} is last, because {name} may send it {slowest.cap:,} {when}"
        sentence += f"; {last} ({slowest.carrier.limit})"
    return sentence
