"""The pages: log in with an API token; campaigns, events and the backlog; ways out; domains; certificates.

Thin views over the engine's services.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mailfleet.base.clock import Clock, SystemClock
from mailfleet.base.errors import BusyError
from mailfleet.engine.services import Services
from mailfleet.web import words
from mailfleet.web.certificates import CertificatesPage
from mailfleet.web.domain import DomainPage
from mailfleet.web.domains import SendingDomains
from mailfleet.web.frame import HERE, Frame, Part
from mailfleet.web.sessions import Session
from mailfleet.web.ways import WaysOut

SHOWN_CAMPAIGNS = 10
SHOWN_EVENTS = 20
COUNT_WITHIN_S = 1.0


def install(app: Starlette, services: Services, clock: Clock | None = None) -> None:
    """Add the pages to ``app``: ``/``, ``/ways-out``, ``/domains``, ``/certificates``, with their forms, ``/login``, ``/live/``,
    ``/static/``."""
    frame = Frame(services, clock or SystemClock())
    overview, ways, domains, domain = _Overview(frame), WaysOut(frame), SendingDomains(frame), DomainPage(frame)
    certificates = CertificatesPage(frame)
    parts = overview.parts | ways.parts | domains.parts | certificates.parts

    async def live(request: Request) -> Response:
        return await frame.live(request, parts)

    app.router.routes.extend(
        [
            Route("/", overview.show, methods=["GET"]),
            Route("/ways-out", ways.show, methods=["GET"]),
            Route("/domains", domains.show, methods=["GET"]),
            Route("/domains/{domain}", domain.show, methods=["GET"]),
            Route("/domains/{domain}/live/{part}", domain.live, methods=["GET"]),
            Route("/domains/{domain}/logo.svg", domain.logo, methods=["GET"]),
            Route("/domains/{domain}/settings", domain.set, methods=["POST"]),
            Route("/domains/{domain}/logo", domain.set_logo, methods=["POST"]),
            Route("/domains/{domain}/dmarc", domain.take_reports, methods=["POST"]),
            Route("/domains/{domain}/judge", domain.judge, methods=["POST"]),
            Route("/domains/{domain}/publish", domain.publish, methods=["POST"]),
            Route("/domains/{domain}/rotate", domain.rotate, methods=["POST"]),
            Route("/domains/{domain}/{move}", domain.steer, methods=["POST"]),
            Route("/domains/{domain}/{form}", domain.back, methods=["GET"]),
            Route("/certificates", certificates.show, methods=["GET"]),
            Route("/certificates/import", certificates.take, methods=["POST"]),
            Route("/certificates/import", certificates.back, methods=["GET"]),
            Route("/certificates/{host}/{move}", certificates.steer, methods=["POST"]),
            Route("/login", frame.login, methods=["POST"]),
            Route("/login", RedirectResponse("/", 303), methods=["GET"]),
            Route("/logout", frame.logout, methods=["POST"]),
            Route("/live/{part}", live, methods=["GET"]),
            Route("/campaigns/{campaign}/{move}", overview.steer, methods=["POST"]),
            Route("/ways-out/brakes/{brake}/{move}", ways.steer_brake, methods=["POST"]),
            Route("/ways-out/{kind}/{name}/{move}", ways.steer_way, methods=["POST"]),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ]
    )


class _Overview:
    """The first page."""

    def __init__(self, frame: Frame) -> None:
        self._frame, self._services = frame, frame.services
        self.parts: dict[str, Part] = {
            "campaigns": self._campaigns,
            "events": self._events,
            "backlog": self._backlog,
        }

    async def show(self, request: Request) -> Response:
        """All of it."""
        return await self._frame.page(request, "home.html", self.parts)

    async def steer(self, request: Request) -> Response:
        """Pause, resume or cancel a campaign."""
        campaigns, campaign = self._services.campaigns, request.path_params["campaign"]
        return await self._frame.steer(
            request,
            "send",
            {
                "pause": lambda session: campaigns.pause(session.actor, campaign, _by(session)),
                "resume": lambda session: campaigns.resume(session.actor, campaign),
                "cancel": lambda session: campaigns.cancel(session.actor, campaign),
            },
            "/",
        )

    async def _campaigns(self, session: Session) -> dict[str, Any]:
        page = await self._services.campaigns.list(session.actor, None, SHOWN_CAMPAIGNS)
        return {
            "campaigns": [
                {
                    "view": view,
                    "segments": words.segments(view),
                    "percent": words.done_percent(view),
                    "rate": words.rate(view),
                }
                for view in page.items
            ],
            "may_steer": "send" in session.actor.scopes,
        }

    async def _events(self, session: Session) -> dict[str, Any]:
        page = await self._services.observe.events(
            session.actor, after=-1, limit=SHOWN_EVENTS, kinds=frozenset(), campaign=None, delivery=None
        )
        return {"events": list(reversed(page.items))}

    async def _backlog(self, session: Session) -> dict[str, Any]:
        try:
            async with asyncio.timeout(COUNT_WITHIN_S):
                queue = await self._services.observe.queue(session.actor)
        except (TimeoutError, BusyError):  # a long queue is counted for the first time: the page does not wait for it
            return {"queue": None, "providers": []}
        return {"queue": queue, "providers": words.by_provider(queue.sites)}


def _by(session: Session) -> str:
    return f"paused on the page by {session.actor.name or 'a token'}"
