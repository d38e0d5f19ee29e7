"""Which host is asked, and over which entrance: the control room and the API, what sending domains show, or nothing.

http_listen of [server]   the control room under any name that is no sending domain's, as behind a proxy or on this machine
https                     the control room under the server's own name, each sending domain's files under its hosts
http_listen of [https]    certificate authorities' questions; everything else is sent on to HTTPS
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import PlainTextResponse, RedirectResponse, Response

from mailfleet.base.errors import BusyError
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.sites import SECURITY_TXT, Shown, Sites

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CHALLENGES = "/.well-known/acme-challenge/"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,256}")  # RFC 8555 8.3: base64url
_HSTS = {"Strict-Transport-Security": "max-age=31536000"}


class Door:
    """An ASGI app before ``app``. Where an entrance listens, None where it does not: ``plain`` only sends on, ``tls`` is HTTPS."""

    def __init__(
        self,
        app: App,
        sites: Sites,
        certificates: Certificates,
        *,
        hostname: str,
        plain: tuple[str, int] | None,
        tls: tuple[str, int] | None,
    ) -> None:
        self._app, self._sites, self._certificates = app, sites, certificates
        self._hostname, self._plain, self._tls = hostname.lower(), plain, tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            answer = await self._answer(scope)
        except BusyError as busy:
            answer = PlainTextResponse(f"{busy.reason}\n", 503, {"Retry-After": str(max(1, busy.retry_after_s))})
        if answer is not None:
            await answer(scope, receive, send)
            return
        if scope["scheme"] == "https":
            send = _with_hsts(send)
        await self._app(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response | None:
        """What is answered here; None hands the request on."""
        host, path = _host(scope), scope["path"]
        over_tls = _came_by(scope, self._tls)
        if path.startswith(CHALLENGES) and not over_tls:
            token = path.removeprefix(CHALLENGES)
            found = await self._certificates.answer(token) if _TOKEN.fullmatch(token) else None
            return PlainTextResponse(found) if found else _nothing()
        ours = host == self._hostname or _is_here(host)
        if _came_by(scope, self._plain):
            known = ours or await self._sites.knows(host)
            return _sent_on(scope, host or self._hostname) if known else _nothing()
        if ours and path != SECURITY_TXT:
            return None
        if ours or await self._sites.knows(host):
            shown = await self._sites.find(self._hostname if ours else host, path)
            return _file(scope, shown, secure=scope["scheme"] == "https")
        if over_tls:  # RFC 9110 15.5.20
            return PlainTextResponse("Nothing is shown under this host name here.\n", 421)
        return None


def _came_by(scope: Scope, entrance: tuple[str, int] | None) -> bool:
    """Not by the scheme, which a proxy on this machine may set. A connection to 0.0.0.0 has an address of its own."""
    server = scope.get("server")
    if entrance is None or server is None:
        return False
    host, port = entrance
    return bool(server[1] == port and (server[0] == host or ipaddress.ip_address(host).is_unspecified))


def _sent_on(scope: Scope, host: str) -> Response:
    path = scope["raw_path"].decode("latin-1")
    query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
    name = f"[{host}]" if ":" in host else host
    return RedirectResponse(f"https://{name}{path if path.startswith('/') else '/'}{query}", 308)


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
