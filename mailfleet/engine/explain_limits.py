"""Every limit in force from a way out to a domain: which file or entry it comes from, and which one binds now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from pydantic import BaseModel, ConfigDict, Field

from mailfleet.base.clock import Clock
from mailfleet.base.errors import NotFoundError
from mailfleet.engine.warming import room_of
from mailfleet.mail.address import domain_to_ascii
from mailfleet.net.resolver import MailHosts
from mailfleet.policy.brakes import Brakes
from mailfleet.policy.providers import LimitLine, ProviderTable
from mailfleet.policy.rates import shown
from mailfleet.policy.warmup import day_number, day_share
from mailfleet.store import brakes, egress, sites, warmups
from mailfleet.store.database import Database, Tx
from mailfleet.store.egress import Egress


class LimitView(BaseModel):
    """A limit, where it comes from, and whether it is the one that holds."""

    model_config = ConfigDict(frozen=True)

    limit: str
    value: str
    origin: str
    binds: bool


class ProviderView(BaseModel):
    """A provider that is known."""

    name: str
    label: str
    mx_suffixes: list[str]
    limits: list[LimitView]


class DomainLimits(BaseModel):
    """How a domain is served by a way out."""

    domain: str
    mail_hosts: list[str]
    provider: str = Field(description="Empty: no known one.")
    source: str
    limits: list[LimitView]


Locate = Callable[[str], Awaitable[MailHosts]]


class LimitsExplainer:
    """For one process. ``ceilings``: what the settings allow at most, ``(limit, value, setting)``."""

    def __init__(
        self,
        database: Database,
        locate: Locate,
        table: ProviderTable,
        ceilings: list[tuple[str, int, str]],
        clock: Clock,
        time_scale: float,
    ) -> None:
        self._database, self._locate, self._table, self._ceilings = database, locate, table, ceilings
        self._clock, self._time_scale = clock, time_scale

    def providers(self) -> list[ProviderView]:
        """Every provider that is known, with its limits."""
        return [
            ProviderView(
                name=one.name,
                label=one.label,
                mx_suffixes=list(one.mx_suffixes),
                limits=[_view(line) for line in self._table.explain(one.name)],
            )
            for one in self._table.providers.values()
        ]

    async def explain(self, domain: str, source: str) -> DomainLimits:
        """For mail to ``domain``. Raises ``InputError`` and ``NotFoundError``."""
        name = domain_to_ascii(domain.rpartition("@")[2].strip())
        found = await self._locate(name)
        hosts = [one.name for one in found.hosts]
        provider = self._table.provider_of(hosts) or ""
        return await self._database.read(lambda tx: self._explain(tx, name, hosts, provider, source))

    def _explain(self, tx: Tx, domain: str, hosts: list[str], provider: str, source: str) -> DomainLimits:
        row = egress.by_name(tx, source)
        if row is None:
            raise NotFoundError(
                f"there is no source or relay {source!r}", where="source", mend="see: mailfleet source list"
            )
        lines = self._table.explain(provider or None, row.name)
        own = orjson.loads(row.limits) if row.limits else {}
        for field, key in (("connections", "connections"), ("messages_per_connection",) * 2, ("rates", "rate")):
            if own.get(key):
                lines = [line._replace(binds=line.binds and line.name != field) for line in lines]
                lines.append(LimitLine(field, own[key], f"limits of {row.kind} {row.name}", True))
        for field, ceiling, setting in self._ceilings:
            holds = next((line for line in lines if line.name == field and line.binds), None)
            lower = holds is not None and isinstance(holds.value, int) and ceiling < holds.value
            if lower:
                lines = [line._replace(binds=line.binds and line.name != field) for line in lines]
            lines.append(LimitLine(field, ceiling, f"setting {setting}, at most", lower))
        views = [_view(line) for line in sorted(lines, key=lambda line: line.name)]
        views += self._held(tx, row, domain, provider)
        return DomainLimits(domain=domain, mail_hosts=hosts, provider=provider, source=source, limits=views)

    def _held(self, tx: Tx, row: Egress, domain: str, provider: str) -> list[LimitView]:
        """What brakes and warm-up leave at this moment."""
        now_ms, found = self._clock.now_ms(), []
        site_id = sites.site_of_domain(tx, domain)
        effect = Brakes(brakes.in_force(tx)).on_lane(row.id, provider, site_id)
        if effect.why is not None:
            origin = f"brake ({effect.why.origin} {effect.why.rule}): {effect.why.reason}"
            found.append(LimitView(limit="part of it", value=f"{effect.permille / 10:g} %", origin=origin, binds=True))
        pair = next((one for one in warmups.every(tx) if one.key == (row.id, provider)), None)
        if pair is not None and pair.state != "warm":
            day, share = day_number(now_ms, self._time_scale), day_share(now_ms, self._time_scale)
            room = room_of(pair, warmups.day(tx, pair.key, day), share, now_ms) if pair.state == "warming" else 0
            origin = f"warm-up, plan {pair.plan}, stage {pair.stage}: {pair.reason}"
            found.append(LimitView(limit="today", value=f"{pair.cap}, now {room} more", origin=origin, binds=not room))
        if row.state != "active":
            found.append(
                LimitView(limit="state", value=row.state, origin=row.reason or f"{row.kind} {row.name}", binds=True)
            )
        return found


def _view(line: LimitLine) -> LimitView:
    value = shown(line.value) if isinstance(line.value, tuple) else str(line.value).lower()
    return LimitView(limit=line.name.replace("_", " "), value=value, origin=line.origin, binds=line.binds)
