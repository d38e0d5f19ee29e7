"""``/v1/dmarc-reports`` and ``/v1/domains/.../dmarc``: what receivers report on mail with a domain in From, and what it means."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from mailfleet.engine.dmarc_reports import KEEP_DAYS, MAX_JUDGED
from mailfleet.engine.dmarc_views import DmarcReportView, DmarcTaken, DmarcView
from mailfleet.listen.api.bodies import Line
from mailfleet.listen.api.paging import Limit
from mailfleet.listen.http_auth import Engine, Manager, Reader
from mailfleet.listen.http_body import read_body
from mailfleet.mail.report_files import MAX_FILE_BYTES

router = APIRouter(prefix="/v1")
TAG = "DMARC reports"


class JudgeBody(BaseModel):
    """Whose senders are."""

    model_config = ConfigDict(extra="forbid")

    who: list[Line] = Field(min_length=1, max_length=MAX_JUDGED, description="As they are listed.")
    judged: Literal["ours", "foreign", "open"] = Field(
        description="`ours`: may speak for the domain, and must pass; `foreign`: its failures do not matter; `open` takes it back."
    )


class DmarcReportList(BaseModel):
    """The newest first."""

    items: list[DmarcReportView]


@router.post(
    "/dmarc-reports",
    tags=[TAG],
    status_code=201,
    summary="Hand over DMARC reports",
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": f"The file as it came: XML, gzip, ZIP, or the message that carries it; at most {MAX_FILE_BYTES} bytes.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def add_reports(request: Request, actor: Manager, engine: Engine) -> DmarcTaken:
    """Aggregate reports as receivers send them (RFC 9990). Handing over the same again changes nothing."""
    return await engine.dmarc.take(actor, await read_body(request, MAX_FILE_BYTES))


@router.get("/domains/{domain}/dmarc", tags=[TAG], summary="See what DMARC reports show")
async def dmarc(
    domain: str,
    actor: Reader,
    engine: Engine,
    days: Annotated[int, Query(ge=1, le=KEEP_DAYS, description="So many days back.")] = 30,
) -> DmarcView:
    """Who sends with the domain in From, how much of it passes, and how far the policy may go."""
    return await engine.dmarc.view(actor, domain, days)


@router.get("/domains/{domain}/dmarc/reports", tags=[TAG], summary="List DMARC reports")
async def reports(domain: str, actor: Reader, engine: Engine, limit: Limit = 100) -> DmarcReportList:
    """Those that speak of the domain."""
    return DmarcReportList(items=await engine.dmarc.reports(actor, domain, limit))


@router.put("/domains/{domain}/dmarc/judgements", tags=[TAG], summary="Say whose senders are")
async def judge(domain: str, body: JudgeBody, actor: Manager, engine: Engine) -> DmarcView:
    """Of services and strangers whose mail fails; our own are known."""
    return await engine.dmarc.judge(actor, domain, body.who, body.judged)
