"""The page of sending domains: how every check stands, what to do next, the records, the keys."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mailfleet.web.frame import Frame, Part
from mailfleet.web.sessions import Session

SHOWN_DOMAINS = 50


class SendingDomains:
    """For one process."""

    def __init__(self, frame: Frame) -> None:
        self._frame, self._services = frame, frame.services
        self.parts: dict[str, Part] = {"domains": self._domains}

    async def show(self, request: Request) -> Response:
        """All of it."""
        return await self._frame.page(request, "sending_domains.html", self.parts)

    async def steer(self, request: Request) -> Response:
        """Check a domain now."""
        domain = request.path_params["domain"]
        moves = {"check": lambda session: self._services.domains.check(session.actor, domain)}
        return await self._frame.steer(request, "manage", moves, "/domains")

    async def _domains(self, session: Session) -> dict[str, Any]:
        found = await self._services.manage.domains(session.actor)
        return {
            "domains": [
                {
                    "view": view,
                    "checks": await self._services.domains.standing(session.actor, view.domain),
                    "signing": await self._services.rotation.keys(session.actor, view.domain),
                }
                for view in found[:SHOWN_DOMAINS]
            ],
            "more_domains": max(0, len(found) - SHOWN_DOMAINS),
            "may_manage": "manage" in session.actor.scopes,
        }
