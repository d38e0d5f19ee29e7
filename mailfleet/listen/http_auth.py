"""Who asks: bearer tokens (RFC 6750) and their scopes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from mailfleet.engine.requests import Actor
from mailfleet.engine.services import Services
from mailfleet.listen.http_problems import ProblemError

SCOPES = {
    "send": "send messages and campaigns, and steer campaigns",
    "read": "see campaigns, deliveries, events, the queue, domains and suppressions",
    "manage": "change domains, credentials, tokens and suppressions",
}

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="An API token: `Authorization: Bearer mf_...`. Its scopes are any of `send`, `read` and `manage`.",
)


def services_of(request: Request) -> Services:
    """The engine behind this app."""
    services: Services = request.app.state.services
    return services


def _require(scope: str) -> Callable[..., Awaitable[Actor]]:
    async def check(
        request: Request, presented: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> Actor:
        if presented is None or not presented.credentials:
            raise ProblemError(
                "unauthenticated",
                "there is no bearer token in the request",
                where="Authorization",
                mend="send Authorization: Bearer followed by an API token",
                headers={"WWW-Authenticate": 'Bearer realm="mailfleet"'},
            )
        actor = await services_of(request).manage.authenticate(presented.credentials)
        if actor is None:
            raise ProblemError(
                "unauthenticated",
                "the token is unknown or was removed",
                where="Authorization",
                mend="make one with: mailfleet token add",
                headers={"WWW-Authenticate": 'Bearer realm="mailfleet", error="invalid_token"'},
            )
        if scope not in actor.scopes:
            raise ProblemError(
                "forbidden",
                f"the token lacks the scope {scope}",
                where="Authorization",
                mend=f"use a token that may {SCOPES[scope]}",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},  # RFC 6750 3.1
            )
        return actor

    return check


may_read = _require("read")
Sender = Annotated[Actor, Security(_require("send"), scopes=["send"])]
Reader = Annotated[Actor, Security(may_read, scopes=["read"])]
Manager = Annotated[Actor, Security(_require("manage"), scopes=["manage"])]
Engine = Annotated[Services, Depends(services_of)]
IdempotencyKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        description="Any text of yours. The same key again gives the first answer again and does nothing twice.",
    ),
]
