"""``/v1/reputation`` and ``/v1/complaints``: what came back, and what people said of our mail."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from mailfleet.engine.reputation import ComplaintView, RateView
from mailfleet.listen.api.bodies import Line
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


@router.post("/complaints", tags=["Reputation"], status_code=201, summary="Report a complaint")
async def complain(body: ComplaintBody, actor: Manager, engine: Engine) -> ComplaintView:
    """The address is suppressed for the stream; the complaint counts against it. The same one twice counts once."""
    return await engine.reputation.complain(actor, body.delivery, body.origin)
