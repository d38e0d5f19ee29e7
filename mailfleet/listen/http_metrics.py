"""Requests are counted by the template of their route and their status, and timed until their answer begins."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mailfleet.base.clock import SystemClock
from mailfleet.base.gauges import Counter, Gauges, Histogram

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"


class RequestCounter:
    """ASGI middleware, to be the outermost. A route that no path matches is ``unmatched``: what strangers ask for is no label."""

    def __init__(self, app: ASGIApp, gauges: Gauges) -> None:
        self._app, self._gauges, self._clock = app, gauges, SystemClock()
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._times: dict[str, Histogram] = {}
        self._templates: dict[Hashable, str] = {}
        self._open = 0
        gauges.watch("http_requests_open", lambda: self._open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = self._clock.monotonic_s()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._count(scope, status, self._clock.monotonic_s() - started_s)
            await send(message)

        self._open += 1
        try:
            await self._app(scope, receive, watched)
        except BaseException:
            if not status:  # whoever is outside of us says 500
                self._count(scope, 500, self._clock.monotonic_s() - started_s)
            raise
        finally:
            self._open -= 1

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = self._template(scope)
        method = scope["method"] if scope["method"] in METHODS else "other"
        counter = self._counters.get((method, route, status))
        if counter is None:
            counter = self._gauges.counter("http_requests_total", method=method, route=route, status=str(status))
            self._counters[method, route, status] = counter
        counter.n += 1
        times = self._times.get(route)
        if times is None:
            times = self._times[route] = self._gauges.histogram("http_request_seconds", route=route)
        times.observe(seconds)

    def _template(self, scope: Scope) -> str:
        """``/v1/campaigns/{campaign}``: as declared, whatever was asked for."""
        route = scope.get("route")
        if isinstance(route, Route):  # FastAPI names it
            return route.path
        endpoint: Any = scope.get("endpoint")
        if endpoint is None:
            return UNMATCHED
        if not self._templates:
            self._templates = _templates_of(scope["app"])
        return self._templates.get(endpoint, UNMATCHED)


def _templates_of(app: Starlette) -> dict[Hashable, str]:
    """The paths of Starlette's own routes by what they lead to."""
    found: dict[Hashable, str] = {}
    for route in app.routes:
        if isinstance(route, Mount):
            found[route.app] = route.path
        elif isinstance(route, Route):
            found[route.endpoint] = route.path
    return found
