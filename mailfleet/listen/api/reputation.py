"""``/v1/reputation`` and ``/v1/complaints``: what came back, and what people said of our mail."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from mailfleet.engine.reputation import ComplaintView, RateView, ToldView
from mailfleet.listen.api.bodies import Line, Text
from mailfleet.listen.api.paging import Limit
from mailfleet.listen.http_auth import Engine, Manager, Reader

router = APIRouter(prefix="/v1")


class RateList(BaseModel):
    """Rates, the busiest first."""

    items: list[RateView]


class ComplaintBody(BaseModel):
    """A complaint from wherever it came: a feedback loop, a provider's page, a person."""

    model_config = ConfigDict(extra="forbid")

    delivery: Line = Field(description="The delivery that it is about.", examples=["dlv_0000000000007"])
    origin: Line = Field("by hand", description="Where it came from.")


@router.get("/reputation", tags=["Reputation"], summary="See delivery, bounce and complaint rates")
async def rates(
    actor: Reader,
    engine: Engine,
    by: Annotated[
        str,
        Query(
            max_length=100, description="source, provider, domain, stream, campaign, hour: one or more, with commas."
        ),
    ] = "provider",
    hours: Annotated[int, Query(ge=1, le=2160, description="So many hours back, the present one beside.")] = 24,
) -> RateList:
    """Counted in the commits that settle deliveries."""
    return RateList(items=await engine.reputation.rates(actor, by.split(","), hours))


class ImportBody(BaseModel):
    """Data of a provider, as it came."""

    model_config = ConfigDict(extra="forbid")

    form: Line = Field(
        description="`postmaster`: the JSON answer of trafficStats.list; `snds`: the CSV of Microsoft SNDS."
    )
    text: Text = Field(description="All of it.")


class ImportedDays(BaseModel):
    """How many days it told of."""

    days: int


class ToldList(BaseModel):
    """What providers told, the latest days first."""

    items: list[ToldView]


@router.post(
    "/reputation/imports", tags=["Reputation"], status_code=201, summary="Take in what a provider tells of you"
)
async def take_in(body: ImportBody, actor: Manager, engine: Engine) -> ImportedDays:
    """Kept by day, all or nothing. A fresh day that is bad puts a brake on."""
    return ImportedDays(days=await engine.reputation.take_in(actor, body.form, body.text))


@router.get("/reputation/imports", tags=["Reputation"], summary="See what providers told of you")
async def told(actor: Reader, engine: Engine, limit: Limit = 50) -> ToldList:
    """Google Postmaster and Microsoft SNDS, as far as it was taken in."""
    return ToldList(items=await engine.reputation.told(actor, limit))


@router.post("/complaints", tags=["Reputation"], status_code=201, summary="Report a complaint")
async def complain(body: ComplaintBody, actor: Manager, engine: Engine) -> ComplaintView:
    """The address is suppressed for the stream; the complaint counts against it. The same one twice counts once."""
    return await engine.reputation.complain(actor, body.delivery, body.origin)
