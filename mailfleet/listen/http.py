"""The HTTP API as one ASGI app: routes, errors, bounds, health and the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import mailfleet
from mailfleet.base.errors import ConfigError
from mailfleet.config.settings import Settings
from mailfleet.engine.services import Services
from mailfleet.engine.views import Health
from mailfleet.listen import http_docs, http_problems, metrics
from mailfleet.listen.api import (
    blocklists,
    campaigns,
    certificates,
    dmarc,
    domains,
    fleet,
    manage,
    messages,
    observe,
    reputation,
    server_dns,
    tls,
)
from mailfleet.listen.api.bodies import CampaignBody, CampaignOptions, MessageBody
from mailfleet.listen.http_auth import Engine
from mailfleet.listen.http_body import BodyRoom, CarefulHeaders, SmallBodies, max_body_bytes
from mailfleet.listen.http_metrics import RequestCounter
from mailfleet.listen.http_problems import KINDS, MEDIA_TYPE, ProblemDetails
from mailfleet.listen.http_tolls import HttpTolls

_OPERATIONS = (
    messages,
    campaigns,
    observe,
    manage,
    fleet,
    reputation,
    blocklists,
    domains,
    server_dns,
    certificates,
    tls,
    dmarc,
)
_DESCRIPTION = """Send messages and campaigns, follow every delivery, and manage what sending needs.

Errors are `application/problem+json` (RFC 9457): `detail` says what is wrong, `where` which field or line, `mend` what to do
about it. A `202` is said after the commit is on disk. A full house is `429` with `Retry-After`, never a permanent error."""


class Live(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


def create_app(services: Services, settings: Settings, telemetry: metrics.Telemetry | None = None) -> FastAPI:
    """The app. Pages are added to it by whoever composes the process; a path that nobody has is a 404 problem."""
    app = FastAPI(
        title="Mailfleet",
        summary="The HTTP API",
        description=_DESCRIPTION,
        version=mailfleet.__version__,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        # FastAPI would report to whatever OpenTelemetry provider the environment sets up: values of requests included.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    telemetry = telemetry or metrics.Telemetry.of_one()
    largest_bytes = max_body_bytes(settings.submission.max_message_bytes)
    if largest_bytes > settings.server.http_max_buffered_mb * 1_048_576:
        raise ConfigError(
            "one message of submission.max_message_bytes, as JSON, would not fit into it",
            where="server.http_max_buffered_mb",
            mend=f"set it to at least {-(-largest_bytes // 1_048_576)}",
        )
    tolls = HttpTolls(telemetry.gauges)
    room = BodyRoom(settings.server.http_max_buffered_mb * 1_048_576, tolls)
    telemetry.gauges.watch("http_buffered_bytes", lambda: room.held_bytes)
    app.state.body_room = room
    app.state.followers = observe.Followers(tolls)
    telemetry.gauges.watch("event_followers", lambda: app.state.followers.open)
    app.state.services, app.state.settings = services, settings
    http_problems.install(app)
    problems = _problem_responses(400, 401, 403, 404, 409, 413, 415, 422, 429, 500)
    for one in _OPERATIONS:
        app.include_router(one.router, responses=problems)
    _add_health(app)
    metrics.install(app, telemetry)
    http_docs.install(app)
    app.add_middleware(SmallBodies, room=room)
    app.add_middleware(CarefulHeaders)
    app.add_middleware(RequestCounter, gauges=telemetry.gauges)
    _describe(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {
            "description": " / ".join(kind.title for kind in KINDS.values() if kind.status == status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }


def _add_health(app: FastAPI) -> None:
    @app.get("/health/live", tags=["Health"], summary="Is the process alive?")
    async def live() -> Live:
        """Answers as long as the process does. No token is needed."""
        return Live()

    @app.get("/health/ready", tags=["Health"], summary="Would new mail be taken?", responses=_problem_responses(503))
    async def ready(engine: Engine, response: Response) -> Health:
        """503 with the reason when new mail would be refused. No token is needed."""
        health = await engine.observe.health()
        if not health.ok:
            raise http_problems.ProblemError(
                "not-ready", health.reason or "new mail would be refused", mend="see the log"
            )
        return health


def _describe(app: FastAPI) -> None:
    """Put into the OpenAPI document what FastAPI cannot see: bodies that are read as a stream, and the shape of errors."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            _, extra = models_json_schema(
                [(model, "validation") for model in (MessageBody, CampaignOptions, CampaignBody, ProblemDetails)],
                ref_template="#/components/schemas/{model}",
            )
            schemas = document["components"]["schemas"]
            for name, schema in extra["$defs"].items():
                schemas.setdefault("Problem" if name == ProblemDetails.__name__ else name, schema)
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to change the document
