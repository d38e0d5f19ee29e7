"""``POST /v1/messages``: one message, structured or raw."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from mailfleet.engine.requests import MessageRequest
from mailfleet.engine.views import MessageAccepted
from mailfleet.listen.api.bodies import MessageBody
from mailfleet.listen.http_auth import Engine, IdempotencyKey, Sender
from mailfleet.listen.http_body import max_body_bytes, media_type_of, read_body
from mailfleet.listen.http_problems import ProblemError

router = APIRouter(prefix="/v1/messages", tags=["Messages"])
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/MessageBody"}},
            "message/rfc822": {
                "schema": {"type": "string", "format": "binary", "description": "A whole message (RFC 5322)."}
            },
        },
    }
}
_RAW = "Only for message/rfc822: "


@router.post("", status_code=202, response_model=MessageAccepted, openapi_extra=_BODY, summary="Send a message")
async def send_message(
    request: Request,
    actor: Sender,
    engine: Engine,
    idempotency_key: IdempotencyKey = "",
    envelope_from: Annotated[
        str, Query(alias="from", max_length=400, description=_RAW + "the sender; empty takes the From field.")
    ] = "",
    envelope_to: Annotated[
        list[str], Query(alias="to", max_length=1000, description=_RAW + "recipients; none takes To, Cc and Bcc.")
    ] = [],  # noqa: B006  FastAPI copies it
    stream: Annotated[str, Query(max_length=200, description=_RAW + "empty takes the token's own.")] = "",
    tls: Annotated[Literal["", "require"], Query(description=_RAW + "`require`: REQUIRETLS (RFC 8689).")] = "",
) -> Response:
    """Accept one message. The answer comes after the commit is on disk; delivery follows.

    As `application/json` it is structured, or has a whole message in `raw`. As `message/rfc822` the body is the message
    itself, and the query may name its envelope. Each of `to`, `cc` and `bcc` becomes a delivery of its own.
    """
    limit: int = request.app.state.settings.submission.max_message_bytes
    media_type = media_type_of(request)
    if media_type == "message/rfc822":
        data = await read_body(request, limit)
        if not data:
            raise ProblemError(
                "invalid-input", "the message is empty", mend="send header fields, an empty line, a body"
            )
        message = MessageRequest(
            sender=envelope_from,
            to=tuple(envelope_to),
            raw=data,
            stream=stream,
            idempotency_key=idempotency_key,
            tls=tls,
        )
    elif media_type == "application/json":
        body = MessageBody.model_validate_json(await read_body(request, max_body_bytes(limit)))
        message = body.request(idempotency_key)
    else:
        raise ProblemError(
            "unsupported-media-type",
            f"a message cannot be sent as {media_type[:100] or 'no media type'}",
            where="Content-Type",
            mend="send application/json or message/rfc822",
        )
    accepted = await engine.messages.send(actor, message)
    return Response(accepted.model_dump_json(), status_code=202, media_type="application/json")
