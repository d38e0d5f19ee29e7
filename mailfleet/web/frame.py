"""What all pages share: the session, the templates, forms that may be believed, and refusals.

Forms are guarded by the session's own secret, a same-site cookie and the Origin header field; there is no inline script or
style, and the Content-Security-Policy allows none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailfleet.base.clock import Clock
from mailfleet.base.errors import InputError, MailfleetError
from mailfleet.engine.services import Services
from mailfleet.engine.views import site_name
from mailfleet.web import words
from mailfleet.web.sessions import LIFETIME_S, Session, Sessions

COOKIE = "mailfleet_session"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
MAX_FORM_BYTES = 16 * 1024
HERE = Path(__file__).parent
_DEMANDS = {
    "read": "The token may not read: use one with the scope read.",
    "send": "The token may not steer campaigns.",
    "manage": "The token may not change sources, relays, brakes and domains.",
}

Part = Callable[[Session], Awaitable[dict[str, Any]]]
"""A piece of a page: what its template is filled with."""


class Frame:
    """For one process."""

    def __init__(self, services: Services, clock: Clock) -> None:
        self.services = services
        self._sessions = Sessions(services.manage, clock)
        self._templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            harmless=words.harmless,
            number=words.number,
            age=words.age,
            moment=words.moment,
            minute=words.minute,
            said=words.said,
            host=site_name,
        )

    async def page(self, request: Request, template: str, parts: dict[str, Part]) -> Response:
        """A page with all its parts, or the login form."""
        session = await self._session(request)
        if session is None:
            return await self._login_form(200)
        if "read" not in session.actor.scopes:
            return await self._denied(session, 403, _DEMANDS["read"])
        health = await self.services.observe.health()
        filled: dict[str, Any] = {}
        for part in parts.values():
            filled |= await part(session)
        return self._render(template, health=health, session=session, here=request.url.path, **filled)

    async def live(self, request: Request, parts: dict[str, Part]) -> Response:
        """One part of a page, as it is now."""
        session = await self._session(request)
        name = request.path_params["part"]
        if name not in parts:
            return Response("there is no such part", 404, media_type="text/plain")
        if session is None or "read" not in session.actor.scopes:
            return Response("log in again", 401, media_type="text/plain")
        return self._render(f"{name}.html", session=session, **await parts[name](session))

    async def steer(
        self, request: Request, scope: str, moves: Mapping[str, Callable[[Session], Awaitable[object]]], back: str
    ) -> Response:
        """Do what a form asks for: one of ``moves`` by the path's ``move``; then show the page at ``back``."""
        session, form = await self._session(request), await _form(request)
        if session is None:
            return RedirectResponse("/", 303)
        move = moves.get(request.path_params["move"])
        if move is None:
            return await self._denied(session, 404, "There is no such action.")
        if form is None or not session.admits(form.get("csrf", "")) or not _same_origin(request):
            return await self._denied(session, 403, "The form did not come from this page. Load it again.")
        if scope not in session.actor.scopes:
            return await self._denied(session, 403, _DEMANDS[scope])
        try:
            await move(session)
        except InputError as error:
            return await self._denied(session, 409, error.what)
        except MailfleetError as error:
            return await self._denied(session, 503, str(error))
        return RedirectResponse(back, 303)

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

    async def _session(self, request: Request) -> Session | None:
        return await self._sessions.get(request.cookies.get(COOKIE, ""))

    async def _login_form(self, status: int, trouble: str = "") -> Response:
        health = await self.services.observe.health()
        return self._render("login.html", status, health=health, session=None, here="", trouble=trouble)

    async def _denied(self, session: Session, status: int, sentence: str) -> Response:
        health = await self.services.observe.health()
        return self._render("denied.html", status, health=health, session=session, here="", words=sentence)

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
