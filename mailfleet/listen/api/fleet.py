"""``/v1/sources``, ``/v1/relays``, ``/v1/pools``, ``/v1/streams``, ``/v1/brakes`` and ``/v1/warmups``."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from mailfleet.engine.explain_limits import DomainLimits, ProviderView
from mailfleet.engine.fleet_views import (
    BrakePage,
    BrakeView,
    CostView,
    EgressView,
    ForecastView,
    LimitsView,
    MemberView,
    PoolView,
    StreamView,
    TenantView,
    WarmupDayView,
    WarmupView,
)
from mailfleet.engine.relay_check import RelayCheckView
from mailfleet.listen.api.bodies import Line
from mailfleet.listen.api.paging import After, Limit
from mailfleet.listen.http_auth import Engine, Manager, Reader

router = APIRouter(prefix="/v1")
State = Literal["active", "paused", "draining", "retired"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SourceBody(_Body):
    """A source; what is left out of a change stays as it is."""

    address: Line | None = Field(None, description="IPv4 or IPv6 address that it sends from.", examples=["192.0.2.10"])
    ehlo_name: Line | None = Field(
        None, description="The name its address resolves to.", examples=["mail1.example.com"]
    )
    node: Line | None = Field(None, description="Where the address is; left out: this node.")
    limits: LimitsView | None = None
    cost: CostView | None = None


class NewSource(SourceBody):
    """A new source."""

    name: Line = Field(examples=["s1"])


class RelayBody(_Body):
    """A relay; what is left out of a change stays as it is."""

    host: Line | None = Field(None, examples=["smtp.relay.example"])
    port: int | None = Field(None, ge=1, le=65_535)
    tls: Literal["verified", "required", "opportunistic", "none"] | None = Field(
        None, description="`verified`: TLS with a certificate that is checked, the default."
    )
    username: Line | None = None
    password: Line | None = Field(None, description="Kept encrypted, never shown. Empty text removes it.")
    ehlo_name: Line | None = None
    limits: LimitsView | None = None
    cost: CostView | None = None


class NewRelay(RelayBody):
    """A new relay."""

    name: Line = Field(examples=["upstream"])


class StateBody(_Body):
    """A change of state."""

    state: State
    reason: Line = Field("", description="Why, for whoever looks at it later.")


class PoolBody(_Body):
    """A pool; what is left out of a change stays as it is."""

    members: list[MemberView] | None = Field(None, max_length=1000, description="All of them, with their weights.")
    overflow: Line | None = Field(None, description="Another pool; empty text for none.")


class NewPool(PoolBody):
    """A new pool."""

    name: Line = Field(examples=["bulk"])


class StreamBody(_Body):
    """What can be changed of a stream."""

    pool: Line | None = Field(None, description="Empty text: the tenant's.")
    spill: Literal["later", "overflow"] | None = None
    rates: Line | None = Field(None, description="Empty text for none.", examples=["100/s", "10/s 20000/d"])
    weight: int | None = Field(None, ge=1, le=1_000_000)


class BrakeBody(_Body):
    """A brake put on by hand."""

    action: Literal["rest", "slow", "stop"]
    reason: Line
    source: Line = ""
    provider: Line = ""
    stream: Line = ""
    share: float | None = Field(None, ge=0, lt=100, description="Of `slow`: percent of the normal rate.")
    for_s: float = Field(0, ge=0, description="Seconds until it loosens; 0: until it is lifted.")


class PlanBody(_Body):
    """A warm-up to begin."""

    source: Line
    plan: Line = Field("standard", examples=["standard"])
    provider: Line = Field("", description="Left out: all of them; `other`: all sites of no known provider.")
    stage: int = Field(0, ge=0, le=100, description="To begin at, for a source that is known already.")


class WarmupBody(_Body):
    """A change of warm-ups."""

    state: Literal["warming", "paused", "warm"]
    provider: Line = ""
    reason: Line = ""


class EgressList(BaseModel):
    """Sources or relays."""

    items: list[EgressView]


class PoolList(BaseModel):
    """Every pool."""

    items: list[PoolView]


class StreamList(BaseModel):
    """Every stream."""

    items: list[StreamView]


class WarmupList(BaseModel):
    """How far each source is with each provider."""

    items: list[WarmupView]


class WarmupHistory(BaseModel):
    """Days of warm-up that are over, newest first."""

    items: list[WarmupDayView]


@router.get("/sources", tags=["Ways out"], summary="List sources")
async def list_sources(actor: Reader, engine: Engine) -> EgressList:
    """Addresses that mail leaves from."""
    return EgressList(items=await engine.fleet.egresses(actor, "source"))


@router.post("/sources", tags=["Ways out"], status_code=201, summary="Add a source")
async def add_source(body: NewSource, actor: Manager, engine: Engine) -> EgressView:
    """It sends once it is in a pool."""
    return await engine.fleet.add_source(actor, body.name, _given(body))


@router.get("/sources/{name}", tags=["Ways out"], summary="See a source")
async def get_source(name: str, actor: Reader, engine: Engine) -> EgressView:
    """With its pools and what is under way."""
    return await engine.fleet.egress(actor, "source", name)


@router.patch("/sources/{name}", tags=["Ways out"], summary="Change a source")
async def change_source(name: str, body: SourceBody, actor: Manager, engine: Engine) -> EgressView:
    """What is given and nothing else."""
    return await engine.fleet.change(actor, "source", name, _given(body))


@router.put("/sources/{name}/state", tags=["Ways out"], summary="Pause, resume, drain or retire a source")
async def set_source_state(name: str, body: StateBody, actor: Manager, engine: Engine) -> EgressView:
    """A paused source hands back what it holds; a draining one sends it and takes nothing new; retired is for good."""
    return await engine.fleet.set_state(actor, "source", name, body.state, body.reason)


@router.get("/relays", tags=["Ways out"], summary="List relays")
async def list_relays(actor: Reader, engine: Engine) -> EgressList:
    """Other SMTP servers that mail leaves by, without passwords."""
    return EgressList(items=await engine.fleet.egresses(actor, "relay"))


@router.post("/relays", tags=["Ways out"], status_code=201, summary="Add a relay")
async def add_relay(body: NewRelay, actor: Manager, engine: Engine) -> EgressView:
    """It sends once it is in a pool."""
    return await engine.fleet.add_relay(actor, body.name, _given(body))


@router.get("/relays/{name}", tags=["Ways out"], summary="See a relay")
async def get_relay(name: str, actor: Reader, engine: Engine) -> EgressView:
    """With its pools and what is under way."""
    return await engine.fleet.egress(actor, "relay", name)


@router.patch("/relays/{name}", tags=["Ways out"], summary="Change a relay")
async def change_relay(name: str, body: RelayBody, actor: Manager, engine: Engine) -> EgressView:
    """What is given and nothing else."""
    return await engine.fleet.change(actor, "relay", name, _given(body))


@router.post("/relays/{name}/check", tags=["Ways out"], summary="Try a relay")
async def check_relay(name: str, actor: Manager, engine: Engine) -> RelayCheckView:
    """Connect, TLS and login as a delivery would; no message is sent."""
    return await engine.relays.check(actor, name)


@router.put("/relays/{name}/state", tags=["Ways out"], summary="Pause, resume, drain or retire a relay")
async def set_relay_state(name: str, body: StateBody, actor: Manager, engine: Engine) -> EgressView:
    """As with a source."""
    return await engine.fleet.set_state(actor, "relay", name, body.state, body.reason)


@router.get("/pools", tags=["Ways out"], summary="List pools")
async def list_pools(actor: Reader, engine: Engine) -> PoolList:
    """Sets of sources and relays that streams send through."""
    return PoolList(items=await engine.fleet.pools(actor))


@router.post("/pools", tags=["Ways out"], status_code=201, summary="Add a pool")
async def add_pool(body: NewPool, actor: Manager, engine: Engine) -> PoolView:
    """With its members and their weights."""
    return await engine.fleet.set_pool(actor, body.name, body.members or [], body.overflow, new=True)


@router.get("/pools/{name}", tags=["Ways out"], summary="See a pool")
async def get_pool(name: str, actor: Reader, engine: Engine) -> PoolView:
    """With who sends through it."""
    return await engine.fleet.pool(actor, name)


@router.patch("/pools/{name}", tags=["Ways out"], summary="Change a pool")
async def change_pool(name: str, body: PoolBody, actor: Manager, engine: Engine) -> PoolView:
    """Members are replaced as a whole."""
    return await engine.fleet.set_pool(actor, name, body.members, body.overflow, new=False)


@router.delete("/pools/{name}", tags=["Ways out"], status_code=204, summary="Remove a pool")
async def remove_pool(name: str, actor: Manager, engine: Engine) -> None:
    """Refused while something sends through it."""
    await engine.fleet.remove_pool(actor, name)


@router.get("/streams", tags=["Ways out"], summary="List streams")
async def list_streams(actor: Reader, engine: Engine) -> StreamList:
    """With their pools and rates."""
    return StreamList(items=await engine.fleet.streams(actor))


@router.patch("/streams/{name}", tags=["Ways out"], summary="Change a stream")
async def change_stream(name: str, body: StreamBody, actor: Manager, engine: Engine) -> StreamView:
    """Rates delay and never reject."""
    return await engine.fleet.set_stream(actor, name, _given(body))


@router.get("/brakes", tags=["Brakes and warm-up"], summary="List brakes")
async def list_brakes(
    actor: Reader,
    engine: Engine,
    ended: Annotated[bool, Query(description="Those that are over, instead of those in force.")] = False,
    after: After = None,
    limit: Limit = 50,
) -> BrakePage:
    """What holds mail back, with why, since when and until when."""
    return await engine.steer.brakes(actor, ended=ended, after=after, limit=limit)


@router.post("/brakes", tags=["Brakes and warm-up"], status_code=201, summary="Hold mail back by hand")
async def put_brake(body: BrakeBody, actor: Manager, engine: Engine) -> BrakeView:
    """Nothing is lost by it: what is held back waits."""
    return await engine.steer.put_brake(actor, **body.model_dump())


@router.delete("/brakes/{brake}", tags=["Brakes and warm-up"], summary="Lift a brake")
async def lift_brake(
    brake: str, actor: Manager, engine: Engine, reason: Annotated[str, Query(max_length=500)] = ""
) -> BrakeView:
    """At once and whole: a rule puts it on again when the provider pushes back again."""
    return await engine.steer.lift(actor, brake, reason)


@router.get("/warmups", tags=["Brakes and warm-up"], summary="See the warm-ups")
async def list_warmups(actor: Reader, engine: Engine, source: str = "") -> WarmupList:
    """How far each source is with each provider today."""
    return WarmupList(items=await engine.steer.warmups(actor, source))


@router.post("/warmups", tags=["Brakes and warm-up"], status_code=201, summary="Begin a warm-up")
async def plan_warmup(body: PlanBody, actor: Manager, engine: Engine) -> WarmupList:
    """With one provider or with all of them."""
    items = await engine.steer.plan(actor, body.source, plan=body.plan, provider=body.provider, stage=body.stage)
    return WarmupList(items=items)


@router.put("/warmups/{source}", tags=["Brakes and warm-up"], summary="Pause, resume or end a warm-up")
async def set_warmup(source: str, body: WarmupBody, actor: Manager, engine: Engine) -> WarmupList:
    """`warm` takes the caps away."""
    items = await engine.steer.set_warmup(actor, source, body.state, provider=body.provider, reason=body.reason)
    return WarmupList(items=items)


@router.get("/warmups/{source}/history", tags=["Brakes and warm-up"], summary="See the days of a warm-up")
async def warmup_history(source: str, actor: Reader, engine: Engine) -> WarmupHistory:
    """What each day held, what came of it and what followed."""
    return WarmupHistory(items=await engine.steer.history(actor, source))


@router.get("/forecast", tags=["Brakes and warm-up"], summary="When would so many messages be out?")
async def forecast(
    actor: Reader, engine: Engine, messages: Annotated[int, Query(ge=1, le=1_000_000_000)], stream: str = "bulk"
) -> ForecastView:
    """If every day goes well, and the recipients are spread over providers as the latest were."""
    return await engine.forecasts.of_messages(actor, messages, stream)


@router.get("/campaigns/{campaign}/forecast", tags=["Brakes and warm-up"], summary="When would a campaign be out?")
async def campaign_forecast(campaign: str, actor: Reader, engine: Engine) -> ForecastView:
    """What is left of it, by where its own recipients are, if every day goes well."""
    return await engine.forecasts.of_campaign(actor, campaign)


class TenantBody(_Body):
    """What can be changed of a tenant."""

    pool: Line | None = Field(None, description="Empty text: the default pool.")
    rates: Line | None = Field(None, description="Of all its mail together; empty text for any.", examples=["200/s"])


@router.get("/tenant", tags=["Ways out"], summary="See what holds for all of your mail")
async def get_tenant(actor: Reader, engine: Engine) -> TenantView:
    """The pool of streams without one of their own, and the rates of everything together."""
    return await engine.fleet.tenant(actor)


@router.patch("/tenant", tags=["Ways out"], summary="Change what holds for all of your mail")
async def change_tenant(body: TenantBody, actor: Manager, engine: Engine) -> TenantView:
    """Rates delay and never reject."""
    return await engine.fleet.tenant(actor, _given(body))


class RateBody(_Body):
    """A rate."""

    rate: Line = Field(description="For example `50/s` or `10/s 20000/d`; empty for any.")


@router.put("/campaigns/{campaign}/rate", tags=["Campaigns"], summary="Set how fast a campaign may go")
async def set_campaign_rate(campaign: str, body: RateBody, actor: Manager, engine: Engine) -> RateBody:
    """From now on, over all processes together. It delays and never rejects."""
    return RateBody(rate=await engine.fleet.set_campaign_rates(actor, campaign, body.rate))


class ProviderList(BaseModel):
    """Providers that are known."""

    items: list[ProviderView]


@router.get("/providers", tags=["Ways out"], summary="List mailbox providers")
async def list_providers(actor: Reader, engine: Engine) -> ProviderList:
    """With the limits towards them, and where each comes from."""
    return ProviderList(items=engine.limits.providers())


@router.get("/limits", tags=["Ways out"], summary="See every limit towards a domain")
async def explain_limits(
    actor: Reader,
    engine: Engine,
    domain: Annotated[str, Query(max_length=400, description="A domain or an address.")],
    source: str = "default",
) -> DomainLimits:
    """By one source or relay: which file or entry each comes from, and which binds now."""
    return await engine.limits.explain(domain, source)


def _given(body: BaseModel) -> dict[str, object]:
    """What a body sets, but its name, with nested models as they are; null is as good as left out."""
    found = {name: getattr(body, name) for name in body.model_fields_set if name != "name"}
    return {name: value for name, value in found.items() if value is not None}
