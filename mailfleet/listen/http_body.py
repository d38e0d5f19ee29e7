"""Bodies are bounded as they stream in, each and all together, and every answer carries the fields that keep browsers careful."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mailfleet.base.errors import BusyError
from mailfleet.listen.http_problems import ProblemError
from mailfleet.listen.http_tolls import HttpTolls

MAX_SMALL_BODY_BYTES = 1024 * 1024
_HELD = "mailfleet.held_bytes"
STREAMING_PATHS = frozenset(
    {"/v1/messages", "/v1/campaigns", "/v1/dmarc-reports"}
)  # these read for themselves, each with its own bound


def too_large(limit: int) -> ProblemError:
    """413, naming the bound."""
    return ProblemError("too-large", f"the body is larger than {limit} bytes", mend="send less at once")


class BodyRoom:
    """How many bytes of bodies are held over all requests. A request gives back what it took when its answer is over."""

    def __init__(self, limit_bytes: int, tolls: HttpTolls) -> None:
        self._limit_bytes, self._tolls = limit_bytes, tolls
        self.held_bytes = 0

    def take(self, request: Request, count: int) -> None:
        """Raises ``BusyError`` when there is no room for ``count`` bytes more."""
        if self.held_bytes + count > self._limit_bytes:
            self._tolls.refused("http_max_buffered_mb")
            raise BusyError("too much is arriving at once", retry_after_s=2)
        self.held_bytes += count
        request.scope[_HELD] = request.scope.get(_HELD, 0) + count

    def give_back(self, scope: Scope) -> None:
        """What the request of ``scope`` took."""
        self.held_bytes -= scope.pop(_HELD, 0)


def room_of(request: Request) -> BodyRoom:
    """The room that all requests of an app share."""
    room: BodyRoom = request.app.state.body_room
    return room


def max_body_bytes(max_message_bytes: int) -> int:
    """The largest body of JSON: a third more than the message, as attachments come in base64, as they will in the message."""
    return max_message_bytes * 4 // 3 + 65536


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes of it; more raises ``ProblemError`` as soon as it is known, ``BusyError`` when all
    requests together hold too much."""
    room = room_of(request)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        room.take(request, len(chunk))
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


def media_type_of(request: Request) -> str:
    """The media type of the body, without parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class SmallBodies:
    """ASGI middleware: no path but ``STREAMING_PATHS`` takes more than ``MAX_SMALL_BODY_BYTES``; those give back what they held."""

    def __init__(self, app: ASGIApp, room: BodyRoom) -> None:
        self._app, self._room = app, room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] in STREAMING_PATHS:
            try:
                await self._app(scope, receive, send)
            finally:
                self._room.give_back(scope)
            return
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_SMALL_BODY_BYTES:
                # An HTTPException, because FastAPI turns any other into a 400 while it reads a body.
                raise HTTPException(413, f"the body is larger than {MAX_SMALL_BODY_BYTES} bytes")
            return message

        await self._app(scope, bounded, send)


class CarefulHeaders:
    """ASGI middleware: no sniffing, no framing, no caching of what a token was needed for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "no-referrer")
                headers.setdefault("X-Frame-Options", "DENY")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers)
