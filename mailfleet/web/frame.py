"""What all pages share: the session, the templates, forms that may be believed, and refusals.

Forms are guarded by the session's own secret, a same-site cookie and the Origin header field; there is no inline script or
style, and the Content-Security-Policy allows none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailfleet.base.clock import Clock
from mailfleet.base.errors import InputError, MailfleetError, NotFoundError
from mailfleet.engine.services import Services
from mailfleet.engine.views import site_name
from mailfleet.web import words
from mailfleet.web.forms import MAX_FORM_BYTES, Form, Troubles, read_form, troubles_of
from mailfleet.web.sessions import LIFETIME_S, Session, Sessions

COOKIE = "mailfleet_session"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HERE = Path(__file__).parent
_DEMANDS = {
    "read": "The token may not read: use one with the scope read.",
    "send": "The token may not steer campaigns.",
    "manage": "The token may not change sources, relays, brakes, domains and certificates.",
}

Part = Callable[[Session], Awaitable[dict[str, Any]]]
"""A piece of a page: what its template is filled with."""


class Frame:
    """For one process."""

    def __init__(self, services: Services, clock: Clock) -> None:
        self.services, self.clock = services, clock
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
            verbatim=words.verbatim,
            number=words.number,
            age=words.age,
            moment=words.moment,
            minute=words.minute,
            said=words.said,
            host=site_name,
        )

    async def page(
        self, request: Request, template: str, parts: Mapping[str, Part], status: int = 200, **more: Any
    ) -> Response:
        """A page with all its parts and ``more``, or the login form."""
        session = await self._session(request)
        if session is None:
            return await self._login_form(200)
        if "read" not in session.actor.scopes:
            return await self._denied(session, 403, _DEMANDS["read"])
        health = await self.services.observe.health()
        filled: dict[str, Any] = {}
        try:
            for part in parts.values():
                filled |= await part(session)
        except NotFoundError as error:
            return await self._denied(session, 404, _sentence(error))
        note, session.note = session.note, ""
        values = filled | {"here": request.url.path, "note": note} | more
        return self._render(template, status, health=health, session=session, **values)

    async def live(self, request: Request, parts: Mapping[str, Part]) -> Response:
        """One part of a page, as it is now."""
        session = await self._session(request)
        name = request.path_params["part"]
        if name not in parts:
            return Response("there is no such part", 404, media_type="text/plain")
        if session is None or "read" not in session.actor.scopes:
            return Response("log in again", 401, media_type="text/plain")
        try:
            filled = await parts[name](session)
        except NotFoundError as error:
            return Response(error.what, 404, media_type="text/plain")
        return self._render(f"{name}.html", session=session, **filled)

    async def steer(
        self, request: Request, scope: str, moves: Mapping[str, Callable[[Session], Awaitable[object]]], back: str
    ) -> Response:
        """Do what a form asks for: one of ``moves`` by the path's ``move``; then show the page at ``back``."""
        session = await self._session(request)
        if session is None:
            return RedirectResponse("/", 303)
        move = moves.get(request.path_params["move"])
        if move is None:
            return await self._denied(session, 404, "There is no such action.")
        refusal = await self._refusal(request, session, await read_form(request), scope)
        if refusal is not None:
            return refusal
        try:
            await move(session)
        except InputError as error:
            return await self._denied(session, 409, _sentence(error))
        except MailfleetError as error:
            return await self._denied(session, 503, str(error))
        return RedirectResponse(back, 303)

    async def submit(
        self,
        request: Request,
        scope: str,
        change: Callable[[Session, Form], Awaitable[str]],
        back: str,
        again: Callable[[Form, Troubles], Awaitable[Response]],
    ) -> Response:
        """Do what a form with fields asks for; then show the page at ``back`` with what ``change`` says was done.

        ``again`` shows the form once more, with what was typed and what is wrong in it.
        """
        session = await self._session(request)
        if session is None:
            return RedirectResponse("/", 303)
        form = await read_form(request, MAX_FORM_BYTES)
        refusal = await self._refusal(request, session, form, scope)
        if refusal is not None or form is None:
            return refusal or RedirectResponse(back, 303)
        try:
            session.note = await change(session, form)
        except (InputError, ValidationError) as error:
            return await again(form, troubles_of(error))
        except MailfleetError as error:
            return await again(form, {"": InputError(str(error))})
        return RedirectResponse(back, 303)

    async def file(self, request: Request, find: Callable[[Session], Awaitable[str]], media_type: str) -> Response:
        """A small file that is shown in a page; 404 where there is none."""
        session = await self._session(request)
        if session is None or "read" not in session.actor.scopes:
            return Response("log in again", 401, media_type="text/plain")
        try:
            content = await find(session)
        except NotFoundError as error:
            return Response(error.what, 404, media_type="text/plain")
        # A page of its own it is not: whoever opens it alone runs nothing of it.
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
        return Response(content, 200 if content else 404, media_type=media_type, headers=headers)

    async def login(self, request: Request) -> Response:
        """Open a session; the token is in the body and never in a URL."""
        form = await read_form(request)
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
        session, form = await self._session(request), await read_form(request)
        if session is not None and form is not None and session.admits(form.get("csrf", "")):
            self._sessions.close(request.cookies.get(COOKIE, ""))
        answer = RedirectResponse("/", 303)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer

    async def _session(self, request: Request) -> Session | None:
        return await self._sessions.get(request.cookies.get(COOKIE, ""))

    async def _refusal(self, request: Request, session: Session, form: Form | None, scope: str) -> Response | None:
        """Why a form is not to be believed or obeyed."""
        if form is None or not session.admits(form.get("csrf", "")) or not _same_origin(request):
            sentence = "The form did not come from this page, or is too large. Load the page again."
            return await self._denied(session, 403, sentence)
        if scope not in session.actor.scopes:
            return await self._denied(session, 403, _DEMANDS[scope])
        return None

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


def _same_origin(request: Request) -> bool:
    """A browser names the origin of a form; a program that names none has no cookie to be abused."""
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def _sentence(error: InputError) -> str:
    return f"{error.what} ({error.mend})" if error.mend else error.what
