"""The first page: log in with an API token, see campaigns, events and the backlog live, steer campaigns.

Thin views over the engine's services. Forms are guarded by the session's own secret, a same-site cookie and the Origin
header field; there is no inline script or style, and the Content-Security-Policy allows none.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mailfleet.base.clock import Clock, SystemClock
from mailfleet.base.errors import BusyError, InputError, MailfleetError
from mailfleet.engine.services import Services
from mailfleet.web import words
from mailfleet.web.sessions import LIFETIME_S, Session, Sessions

COOKIE = "mailfleet_session"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SHOWN_CAMPAIGNS = 10
SHOWN_EVENTS = 20
COUNT_WITHIN_S = 1.0
MAX_FORM_BYTES = 16 * 1024
_HERE = Path(__file__).parent
_MOVES = ("pause", "resume", "cancel")
_DEMANDS = {
    "read": "The token may not read: use one with the scope read.",
    "send": "The token may not steer campaigns.",
}


def install(app: Starlette, services: Services, clock: Clock | None = None) -> None:
    """Add the page to ``app``. Its paths are ``/``, ``/login``, ``/logout``, ``/live/``, ``/campaigns/`` and ``/static/``."""
    pages = _Pages(services, clock or SystemClock())
    app.router.routes.extend(
        [
            Route("/", pages.home, methods=["GET"]),
            Route("/login", pages.login, methods=["POST"]),
            Route("/login", RedirectResponse("/", 303), methods=["GET"]),
            Route("/logout", pages.logout, methods=["POST"]),
            Route("/live/{part}", pages.live, methods=["GET"]),
            Route("/campaigns/{campaign}/{move}", pages.steer, methods=["POST"]),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
        ]
    )


class _Pages:
    def __init__(self, services: Services, clock: Clock) -> None:
        self._services = services
        self._sessions = Sessions(services.manage, clock)
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            harmless=words.harmless, number=words.number, age=words.age, moment=words.moment, said=words.said
        )
        self._parts = {"campaigns": self._campaigns, "events": self._events, "backlog": self._backlog}

    async def home(self, request: Request) -> Response:
        """Everything, or the login form."""
        session = await self._session(request)
        if session is None:
            return await self._login_form(200)
        health = await self._services.observe.health()
        if "read" not in session.actor.scopes:
            return self._render("denied.html", 403, health=health, session=session, words=_DEMANDS["read"])
        parts = {name: await part(session) for name, part in self._parts.items()}
        return self._render(
            "home.html", health=health, session=session, **{k: v for one in parts.values() for k, v in one.items()}
        )

    async def live(self, request: Request) -> Response:
        """One part of the page, as it is now."""
        session = await self._session(request)
        part = self._parts.get(request.path_params["part"])
        if part is None:
            return Response("there is no such part", 404, media_type="text/plain")
        if session is None or "read" not in session.actor.scopes:
            return Response("log in again", 401, media_type="text/plain")
        return self._render(f"{request.path_params['part']}.html", session=session, **await part(session))

    async def login(self, request: Request) -> Response:
        """Open a session; the token is in the body and never in a URL."""
        form = await _form(request)
        if form is None or not _same_origin(request):
            return await self._login_form(400, "The form did not come from this page. Try again.")
        name = await self._sessions.open(form.get("token", "").strip())
        if name is None:
            return await self._login_form(401, "There is no such token, or it was removed.")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE,
            name,
            max_age=int(LIFETIME_S),
            path="/",
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def logout(self, request: Request) -> Response:
        """Close the session."""
        session, form = await self._session(request), await _form(request)
        if session is not None and form is not None and session.admits(form.get("csrf", "")):
            self._sessions.close(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    async def steer(self, request: Request) -> Response:
        """Pause, resume or cancel a campaign."""
        session, form = await self._session(request), await _form(request)
        if session is None:
            return RedirectResponse("/", 303)
        move, campaign = request.path_params["move"], request.path_params["campaign"]
        if move not in _MOVES:
            return await self._denied(session, 404, "There is no such action.")
        if form is None or not session.admits(form.get("csrf", "")) or not _same_origin(request):
            return await self._denied(session, 403, "The form did not come from this page. Load it again.")
        if "send" not in session.actor.scopes:
            return await self._denied(session, 403, _DEMANDS["send"])
        campaigns = self._services.campaigns
        try:
            if move == "pause":
                await campaigns.pause(
                    session.actor, campaign, f"paused on the page by {session.actor.name or 'a token'}"
                )
            elif move == "resume":
                await campaigns.resume(session.actor, campaign)
            else:
                await campaigns.cancel(session.actor, campaign)
        except InputError as error:
            return await self._denied(session, 409, error.what)
        except MailfleetError as error:
            return await self._denied(session, 503, str(error))
        return RedirectResponse("/", 303)

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

    async def _session(self, request: Request) -> Session | None:
        return await self._sessions.get(request.cookies.get(COOKIE, ""))

    async def _login_form(self, status: int, trouble: str = "") -> Response:
        health = await self._services.observe.health()
        return self._render("login.html", status, health=health, session=None, trouble=trouble)

    async def _denied(self, session: Session, status: int, sentence: str) -> Response:
        health = await self._services.observe.health()
        return self._render("denied.html", status, health=health, session=session, words=sentence)

    def _render(self, template: str, status: int = 200, **variables: Any) -> Response:
        return Response(
            self._templates.get_template(template).render(variables),
            status,
            media_type="text/html",
            # With no-referrer a browser would name the origin of its forms "null".
            headers={"Content-Security-Policy": CSP, "Cache-Control": "no-store", "Referrer-Policy": "same-origin"},
        )


async def _form(request: Request) -> dict[str, str] | None:
    """The fields of a small form, or None when it is none."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return None
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _same_origin(request: Request) -> bool:
    """A browser names the origin of a form; a program that names none has no cookie to be abused."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")
