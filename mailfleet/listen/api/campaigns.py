"""``/v1/campaigns``: upload, progress, steering, deliveries of a campaign."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from mailfleet.engine.views import CampaignAccepted, CampaignPage, CampaignReport, CampaignView, DeliveryPage
from mailfleet.listen.api.bodies import CampaignOptions, PauseBody
from mailfleet.listen.api.campaign_upload import Intake
from mailfleet.listen.api.paging import After, Limit, RecipientFilter, StateFilter
from mailfleet.listen.http_auth import Engine, IdempotencyKey, Reader, Sender
from mailfleet.listen.http_body import max_body_bytes
from mailfleet.listen.http_problems import problem_response

router = APIRouter(prefix="/v1/campaigns", tags=["Campaigns"])
_LIST = (
    "The list: text/csv, application/x-ndjson or application/json, by its media type or file name. CSV needs a header row; "
    "the address is taken from the column `email` (or a like name, or `address_column`). Every column is a template variable; "
    "`First name` is there as `first_name` too."
)
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/CampaignBody"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["campaign", "recipients"],
                    "properties": {
                        "campaign": {"$ref": "#/components/schemas/CampaignOptions"},
                        "recipients": {"type": "string", "format": "binary", "description": _LIST},
                    },
                },
                "encoding": {
                    "campaign": {"contentType": "application/json"},
                    "recipients": {"contentType": "text/csv, application/x-ndjson, application/json"},
                },
            },
        },
    }
}


@router.post(
    "",
    status_code=202,
    response_model=CampaignAccepted,
    openapi_extra=_BODY,
    summary="Send a campaign",
    responses={200: {"model": CampaignAccepted, "description": "A dry run: checked, nothing sent."}},
)
async def send_campaign(
    request: Request, actor: Sender, engine: Engine, idempotency_key: IdempotencyKey = ""
) -> Response:
    """Send one content to many recipients.

    As `application/json` the list is in the document (32 MiB at most). As `multipart/form-data` the part `campaign` comes
    first and the part `recipients` after it is read as it streams in, so a list may have any length.

    Rows that are wrong are named by line. Without `skip_invalid` one wrong row refuses the whole list (422 `list-refused`).
    """
    limit: int = request.app.state.settings.submission.max_message_bytes
    async with Intake(engine.campaigns, actor, idempotency_key, max_body_bytes(limit)) as intake:
        accepted, options = await intake.receive(request)
    if accepted.campaign is None and not options.dry_run:
        return _refused(accepted, options)
    status = 200 if options.dry_run else 202
    return Response(accepted.model_dump_json(), status_code=status, media_type="application/json")


def _refused(accepted: CampaignAccepted, options: CampaignOptions) -> Response:
    if accepted.invalid and not options.skip_invalid:
        detail = f"{accepted.invalid} of {accepted.rows} rows are wrong; nothing will be sent"
        mend = "correct them, or set skip_invalid to send to the others"
    elif accepted.rows == 0:
        detail, mend = "the list has no rows", "add a recipient"
    else:
        detail, mend = f"none of the {accepted.rows} rows is left to send to", "see the problems"
    return problem_response(
        "list-refused",
        detail,
        where="recipients",
        mend=mend,
        problems=accepted.problems,
        members=accepted.model_dump(mode="json", exclude={"campaign", "problems"}),
    )


@router.get("", summary="List campaigns")
async def list_campaigns(actor: Reader, engine: Engine, after: After = None, limit: Limit = 50) -> CampaignPage:
    """Newest first."""
    return await engine.campaigns.list(actor, after, limit)


@router.get("/{campaign}", summary="See a campaign and its progress")
async def get_campaign(campaign: str, actor: Reader, engine: Engine) -> CampaignView:
    """Counts are of this moment; `pending` 0 and state `finished` is the end."""
    return await engine.campaigns.get(actor, campaign)


@router.get("/{campaign}/report", summary="See how a campaign went")
async def campaign_report(campaign: str, actor: Reader, engine: Engine) -> CampaignReport:
    """Deliveries counted by provider, state and bounce class, each with an example."""
    return await engine.campaigns.report(actor, campaign)


@router.get("/{campaign}/deliveries", summary="List the deliveries of a campaign")
async def campaign_deliveries(
    campaign: str,
    actor: Reader,
    engine: Engine,
    state: StateFilter = None,
    recipient: RecipientFilter = None,
    after: After = None,
    limit: Limit = 50,
) -> DeliveryPage:
    """For example everything that bounced: `?state=bounced`."""
    await engine.campaigns.get(actor, campaign)  # 404 rather than an empty page
    return await engine.observe.deliveries(
        actor, campaign=campaign, state=state, recipient=recipient, after=after, limit=limit
    )


@router.post("/{campaign}/pause", summary="Pause a campaign")
async def pause_campaign(campaign: str, actor: Sender, engine: Engine, body: PauseBody | None = None) -> CampaignView:
    """Attempts under way end as they end; no new ones start until it is resumed."""
    return await engine.campaigns.pause(actor, campaign, (body.reason if body else "") or "paused by API")


@router.post("/{campaign}/resume", summary="Resume a campaign")
async def resume_campaign(campaign: str, actor: Sender, engine: Engine) -> CampaignView:
    """Go on where it was paused."""
    return await engine.campaigns.resume(actor, campaign)


@router.post("/{campaign}/cancel", summary="Cancel a campaign")
async def cancel_campaign(campaign: str, actor: Sender, engine: Engine) -> CampaignView:
    """For good: what is still queued will not be sent."""
    return await engine.campaigns.cancel(actor, campaign)
