"""``/v1/tls-results``: what came of securing sessions with mail hosts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from mailfleet.engine.tls_views import TlsResultView
from mailfleet.listen.api.paging import Limit
from mailfleet.listen.http_auth import Engine, Reader

router = APIRouter(prefix="/v1")


class TlsResultList(BaseModel):
    """The newest days first, then by domain."""

    items: list[TlsResultView]


@router.get("/tls-results", tags=["TLS"], summary="See results of TLS towards mail hosts")
async def tls_results(
    actor: Reader,
    engine: Engine,
    domain: Annotated[str, Query(max_length=300, description="Only of this recipient domain.")] = "",
    days: Annotated[int, Query(ge=1, le=3, description="So many days back, the present one among them.")] = 3,
    limit: Limit = 500,
) -> TlsResultList:
    """Counted by session and written down every few seconds; kept for three days."""
    return TlsResultList(items=await engine.tls_results.find(actor, domain=domain, days=days, limit=limit))
