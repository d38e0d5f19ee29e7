"""Which host is asked, and over which entrance: the control room and the API, what sending domains show, or nothing.

http_listen of [server]   the control room under any name that is no sending domain's, as behind a proxy or on this machine
https                     the control room under the server's own name, each sending domain's files under its hosts
http_listen of [https]    certificate authorities' questions; everything else is sent on to HTTPS
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import PlainTextResponse, RedirectResponse, Response

from mailfleet.engine.certificates import Certificates
from mailfleet.engine.sites import SECURITY_TXT, Shown, Sites

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CHALLENGES = "/.well-known/acme-challenge/"
_HSTS = {"Strict-Transport-Security": "max-age=31536000"}


class Door:
    """An ASGI app before ``app``. ``plain``: address and port of the entrance that only sends on; None where there is none."""

    def __init__(
        self, app: App, sites: Sites, certificates: Certificates, *, hostname: str, plain: tuple[str, int] | None
    ) -> None:
        self._app, self._sites, self._certificates = app, sites, certificates
        self._hostname, self._plain = hostname.lower(), plain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = await self._answer(scope)
        if answer is not None:
            await answer(scope, receive, send)
            return
        if scope["scheme"] == "https":
            send = _with_hsts(send)
        await self._app(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response | None:
        """What is answered here; None hands the request on."""
        host, path = _host(scope), scope["path"]
        secure = scope["scheme"] == "https"
        if path.startswith(CHALLENGES) and not secure:
            found = await self._certificates.answer(path.removeprefix(CHALLENGES))
            return PlainTextResponse(found) if found else _nothing()
        ours = host == self._hostname or _is_here(host)
        if self._is_plain(scope):
            if not (ours or await self._sites.knows(host)):
                return _nothing()
            query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
            return RedirectResponse(f"https://{host}{scope['raw_path'].decode('latin-1')}{query}", 308)
        if ours and path != SECURITY_TXT:
            return None
        if ours or await self._sites.knows(host):
            return _file(scope, await self._sites.find(host, path), secure=secure)
        if secure:  # RFC 9110 15.5.20
            return PlainTextResponse("Nothing is shown under this host name here.\n", 421)
        return None

    def _is_plain(self, scope: Scope) -> bool:
        return self._plain is not None and scope.get("server") is not None and tuple(scope["server"]) == self._plain


def _file(scope: Scope, shown: Shown | None, *, secure: bool) -> Response:
    if shown is None:
        return _nothing()
    if scope["method"] not in ("GET", "HEAD"):
        return PlainTextResponse("Only GET and HEAD are answered here.\n", 405, {"Allow": "GET, HEAD"})
    headers = {
        "Cache-Control": f"public, max-age={shown.max_age_s}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
        **(_HSTS if secure else {}),
    }
    response = Response(shown.body, headers=headers)
    response.headers["Content-Type"] = shown.media_type
    return response


def _nothing() -> Response:
    return PlainTextResponse("There is nothing here.\n", 404)


def _with_hsts(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", []),
                *((k.lower().encode(), v.encode()) for k, v in _HSTS.items()),
            ]
        await send(message)

    return sending


def _host(scope: Scope) -> str:
    """Of the Host header field, lower case and without its port."""
    value = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").strip().lower()
    if value.startswith("["):
        return value[1:].partition("]")[0]
    return value.partition(":")[0].rstrip(".")


def _is_here(host: str) -> bool:
    """An address in place of a name, or this machine: nobody's sending domain."""
    if host in ("", "localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
