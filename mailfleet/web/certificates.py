"""The page of certificates: of this server and of every host that sending domains show; renewing, importing, removing."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mailfleet.engine.certificate_views import CertificateView
from mailfleet.web import words
from mailfleet.web.forms import Form, Troubles
from mailfleet.web.frame import Frame, Part
from mailfleet.web.sessions import Session

PATH = "/certificates"
_ORIGINS = {"acme": "authority", "authority": "sandbox", "own": "imported"}
_WORST = ("expired", "expiring", "waiting", "ok")


class CertificatesPage:
    """For one process."""

    def __init__(self, frame: Frame) -> None:
        self._frame, self._certificates = frame, frame.services.certificates
        self.parts: dict[str, Part] = {"certificates": self._all}

    async def show(self, request: Request) -> Response:
        """All of it."""
        return await self._page(request, "", {})

    async def steer(self, request: Request) -> Response:
        """Renew a certificate, with the same key or another; remove it."""
        host, certificates = request.path_params["host"], self._certificates

        async def renew(session: Session) -> None:
            await certificates.renew(session.actor, host, new_key=False)
            session.note = f"{host}: asked for. It shows here when it is made."

        async def renew_with_new_key(session: Session) -> None:
            view = await certificates.renew(session.actor, host, new_key=True)
            session.note = (
                f"{host}: the next key is used from {words.moment(view.next_try)} UTC, when the DNS has told of it."
                if view.next_key
                else f"{host}: asked for. It shows here when it is made."
            )

        async def remove(session: Session) -> None:
            await certificates.forget(session.actor, host)
            session.note = f"{host} was removed. If it is to have a certificate, a new one is made."

        moves = {"renew": renew, "renew-with-new-key": renew_with_new_key, "remove": remove}
        return await self._frame.steer(request, "manage", moves, PATH)

    async def take(self, request: Request) -> Response:
        """Import a chain with its key."""

        async def change(session: Session, form: Form) -> str:
            made = await self._certificates.take(session.actor, form.text_of("chain"), form.text_of("key"))
            return " ".join(f"{one.host} shows it until {words.moment(one.not_after)} UTC." for one in made)

        async def again(form: Form, troubles: Troubles) -> Response:
            return await self._page(request, form.text_of("chain"), troubles, status=422)

        return await self._frame.submit(request, "manage", change, PATH, again)

    async def back(self, request: Request) -> Response:
        """Who asks again for the answer to the form sees the page."""
        return RedirectResponse(PATH, 303)

    async def _page(self, request: Request, chain: str, troubles: Troubles, *, status: int = 200) -> Response:
        """With the chain that was typed. The key is not sent back: what is in a page can be kept by a browser."""
        page = "certificates_page.html"
        return await self._frame.page(request, page, self.parts, status, chain=chain, troubles=troubles)

    async def _all(self, session: Session) -> dict[str, Any]:
        return {
            "certificates": await certificates_of(self._frame, session),
            "may_manage": "manage" in session.actor.scopes,
        }


async def certificates_of(frame: Frame, session: Session) -> list[dict[str, Any]]:
    """What the actor may see, with what is said of each; those first that need somebody."""
    now_ms = frame.clock.now_ms()
    found = [
        {
            "view": one,
            "origin": _ORIGINS.get(one.issuer, one.issuer),
            "until": words.far(one.not_after, now_ms),
            "next": words.far(one.next_try, now_ms),
            "next_step": next_step(one),
            "renews": one.issuer != "own",
        }
        for one in await frame.services.certificates.every(session.actor)
    ]
    return sorted(found, key=lambda one: (_WORST.index(one["view"].state), one["view"].host))


def next_step(view: CertificateView) -> str:
    """What a person can do; empty where there is nothing to do."""
    if view.problem:
        return f"put that right, then renew it; it is tried again at {words.moment(view.next_try)} UTC by itself"
    if view.issuer == "own":
        return "import its successor" if view.state in ("expiring", "expired") else ""
    if view.next_key:
        return f"publish the TLSA record of its next key; it is used from {words.moment(view.next_try)} UTC"
    return ""
