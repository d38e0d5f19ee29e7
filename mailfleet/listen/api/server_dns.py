"""``/v1/server/...``: what the DNS must hold for the install itself, whether it does, and putting it there."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from mailfleet.engine.domain_views import ServerChecksView, ServerPlanView, ServerPublishView
from mailfleet.listen.api.domains import History, Provider, PublishBody
from mailfleet.listen.http_auth import Engine, Manager, Reader

router = APIRouter(prefix="/v1/server")
TAG = "DNS of the server"


class ServerPublishBody(PublishBody):
    """How far to go."""

    also: str = Field(
        "",
        max_length=100_000,
        description="A certificate (PEM) that will be shown later: the DNS tells of its key too.",
    )


@router.get("/plan", tags=[TAG], summary="See what the DNS must hold for the server")
async def server_plan(actor: Reader, engine: Engine, provider: Provider = "") -> ServerPlanView:
    """For its name, for every source, and for the key that it shows."""
    return await engine.server_dns.plan(actor, provider)


@router.post("/publish", tags=[TAG], summary="Put the server's plan into the DNS")
async def server_publish(body: ServerPublishBody, actor: Manager, engine: Engine) -> ServerPublishView:
    """Only records of ours are touched. Doing it twice changes nothing."""
    return await engine.server_dns.publish(
        actor, adopt=body.adopt, dry_run=body.dry_run, also=body.also, shown=body.shown
    )


@router.get("/checks", tags=[TAG], summary="See how the server's checks stand")
async def server_checks(actor: Reader, engine: Engine) -> ServerChecksView:
    """As they were found last; empty where nobody has looked yet."""
    return await engine.server_dns.standing(actor)


@router.post("/check", tags=[TAG], summary="Check the server now")
async def server_check(actor: Manager, engine: Engine) -> ServerChecksView:
    """Every authoritative server is asked, and every port that shows a key."""
    return await engine.server_dns.check(actor)


@router.get("/history", tags=[TAG], summary="See what has changed for the server")
async def server_history(actor: Reader, engine: Engine, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> History:
    """Each change of state of a check."""
    return History(items=await engine.server_dns.history(actor, limit))
