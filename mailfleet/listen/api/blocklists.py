"""``/v1/blocklists`` and ``/v1/incidents``: which lists are watched, and what is on them."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from mailfleet.engine.blocklists import IncidentView, ListView
from mailfleet.listen.api.paging import After, Limit
from mailfleet.listen.http_auth import Engine, Manager, Reader

router = APIRouter(prefix="/v1")


class BlockLists(BaseModel):
    """Every list that is watched."""

    items: list[ListView]


class IncidentPage(BaseModel):
    """Listings, newest first."""

    items: list[IncidentView]
    next: str | None = None


class LooksAgain(BaseModel):
    """How many targets are looked at again."""

    targets: int


@router.get("/blocklists", tags=["Block lists"], summary="List the block lists")
async def list_blocklists(actor: Reader, engine: Engine) -> BlockLists:
    """Whether each is believed, and what it lists of ours."""
    return BlockLists(items=await engine.blocklists.lists(actor))


@router.post("/blocklists/check", tags=["Block lists"], summary="Look at everything again now")
async def check_blocklists(actor: Manager, engine: Engine) -> LooksAgain:
    """Within some seconds, a few hundred targets at a time."""
    return LooksAgain(targets=await engine.blocklists.look_now(actor))


@router.get("/incidents", tags=["Block lists"], summary="List incidents")
async def list_incidents(actor: Reader, engine: Engine, after: After = None, limit: Limit = 50) -> IncidentPage:
    """Each with evidence, what it led to, and how to get off the list."""
    items, more = await engine.blocklists.incidents(actor, after, limit)
    return IncidentPage(items=items, next=more)
