"""What the engine answers about ways out: sources, relays, pools, streams, brakes, warm-up."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class CostView(_View):
    """What a way out costs."""

    month: float = Field(0, ge=0, description="A month, whatever is sent.")
    per_1000: float = Field(0, ge=0, description="For a thousand messages.")
    currency: str = Field("EUR", pattern=r"^[A-Z]{3}$", description="ISO 4217.")


class LimitsView(_View):
    """What a way out keeps to towards any site; what is left out is the provider's."""

    connections: int | None = Field(None, ge=1, le=1000, description="At a time, to one site (of a relay: in all).")
    messages_per_connection: int | None = Field(None, ge=1, le=100_000)
    rate: str | None = Field(None, description="To one site (of a relay: in all), for example `10/s 20000/d`.")


class EgressView(_View):
    """A source or a relay."""

    name: str
    kind: str = Field(description="`source` or `relay`.")
    state: str = Field(description="`active`, `paused`, `draining` or `retired`.")
    reason: str = ""
    since: str
    node: str = ""
    address: str = Field("", description="Of a source; empty: what the system chooses.")
    ehlo_name: str = Field("", description="Empty: the node's.")
    host: str = Field("", description="Of a relay.")
    port: int = 0
    tls: str = ""
    username: str = ""
    limits: LimitsView
    cost: CostView
    pools: list[str]
    leased: int = Field(0, description="Deliveries under way by it now.")


class MemberView(_View):
    """A way out in a pool."""

    name: str
    weight: int = Field(1, ge=0, le=1_000_000)


class PoolView(_View):
    """A pool."""

    name: str
    members: list[MemberView]
    overflow: str = Field(
        "", description="The pool that takes what this one has no room for, for streams that may spill."
    )
    used_by: list[str] = Field(description="Streams that send through it.")
    warnings: list[str] = []


class StreamView(_View):
    """A stream: a kind of mail."""

    name: str
    kind: str
    pool: str
    spill: str = Field(description="Where mail beyond a warm-up's cap goes: `later` or `overflow`.")
    rates: str
    weight: int


class TenantView(_View):
    """What holds for all mail of a tenant, beside what its streams and campaigns say."""

    name: str
    pool: str = Field(description="For streams without a pool of their own.")
    rates: str = Field(description="Of all its mail together; empty for any.")


class BrakeView(_View):
    """What holds mail back, or did."""

    brake: str
    action: str = Field(description="`slow`, `rest`, `stop` or `reroute`.")
    share: float = Field(description="Percent of the normal rate that is left.")
    source: str = Field("", description="The source or relay that it is about; empty: any.")
    provider: str = ""
    site: str = ""
    stream: str = ""
    campaign: str = ""
    reason: str
    rule: str = ""
    words: str = Field("", description="The remote's own words.")
    origin: str = Field(description="`rule`, `person`, `blocklist` or `reputation`.")
    since: str
    until: str = Field("", description="When it loosens by a step or ends; empty: when somebody lifts it.")
    ended: str = ""
    ended_why: str = ""


class BrakePage(_View):
    """Brakes, newest first."""

    items: list[BrakeView]
    next: str | None = None


class WarmupView(_View):
    """How far a source is with a provider."""

    source: str
    provider: str = Field(description="`other`: all sites of no known provider.")
    plan: str
    state: str = Field(description="`warming`, `warm` or `paused`.")
    stage: int
    cap: int = Field(description="Deliveries that today may hold.")
    delivered: int = Field(description="Today so far.")
    deferred: int
    bounced: int
    complained: int
    under_way: int
    room: int = Field(description="How many more may be claimed at this moment.")
    held_until: str = ""
    reason: str = ""


class WarmupDayView(_View):
    """A day of a warm-up that is over."""

    day: str
    provider: str
    stage: int
    cap: int
    delivered: int
    attempted: int
    deferred: int
    bounced: int
    complained: int
    move: str
    reason: str


class ShareView(_View):
    """The part of a forecast that one way out carries."""

    source: str
    messages: int
    why: str


class ForecastView(_View):
    """When so many messages would be out, and by which ways."""

    messages: int
    days: int | None = Field(description="Days of sending, the last one included; null: not within a year.")
    finishes: str = Field("", description="When the last would leave, RFC 3339.")
    by_source: list[ShareView]
    by_day: list[int]
    sentence: str
