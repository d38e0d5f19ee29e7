"""The page of sending domains: how each stands, and what to do next. All about one of them is in ``web.domain``."""

from __future__ import annotations

from collections import Counter
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mailfleet.web.frame import Frame, Part
from mailfleet.web.sessions import Session

SHOWN_DOMAINS = 50
STATES = ("failed", "warning", "unknown", "ok")


class SendingDomains:
    """For one process."""

    def __init__(self, frame: Frame) -> None:
        self._frame, self._services = frame, frame.services
        self.parts: dict[str, Part] = {"domains": self._domains}

    async def show(self, request: Request) -> Response:
        """All of it."""
        return await self._frame.page(request, "sending_domains.html", self.parts)

    async def _domains(self, session: Session) -> dict[str, Any]:
        found = await self._services.manage.domains(session.actor)
        shown = []
        for view in found[:SHOWN_DOMAINS]:
            checks = await self._services.domains.standing(session.actor, view.domain)
            counts = Counter(one.state for one in checks.checks)
            shown.append(
                {
                    "view": view,
                    "checks": checks,
                    "wrong": sorted(
                        (one for one in checks.checks if one.state in ("failed", "warning")),
                        key=lambda one: STATES.index(one.state),
                    ),
                    "counts": [(state, counts[state]) for state in STATES if counts[state]],
                    "signing": await self._services.rotation.keys(session.actor, view.domain),
                }
            )
        return {
            "domains": shown,
            "more_domains": max(0, len(found) - SHOWN_DOMAINS),
            "may_manage": "manage" in session.actor.scopes,
        }
