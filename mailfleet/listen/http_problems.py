"""Every error of the HTTP API as problem details (RFC 9457): what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from mailfleet.base.errors import BusyError, ConfigError, ConflictError, InputError, NotFoundError
from mailfleet.engine.views import ProblemView

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: its status, its title, and what a client should make of it."""

    status: int
    title: str
    meaning: str


KINDS: dict[str, Kind] = {
    "malformed": Kind(
        400, "The request cannot be read", "The body is not the JSON, multipart or encoding it says it is."
    ),
    "unauthenticated": Kind(
        401, "A token is needed", "Send Authorization: Bearer with a token that has not been removed."
    ),
    "forbidden": Kind(403, "The token may not do this", "The token lacks the scope that the operation names."),
    "not-found": Kind(404, "There is no such thing", "The path or the record does not exist, or is not yours."),
    "method-not-allowed": Kind(405, "Wrong method", "The Allow header field names the methods that the path has."),
    "conflict": Kind(409, "Not in this state", "The record exists already, or its state does not allow the move."),
    "too-large": Kind(
        413, "The body is too large", "The detail names the bound. Send less, or send a list as multipart."
    ),
    "unsupported-media-type": Kind(
        415, "Unknown media type", "The mend names the media types that the operation takes."
    ),
    "invalid-input": Kind(
        422, "The input cannot be accepted", "Nothing was done. Problems name each field and its fix."
    ),
    "list-refused": Kind(
        422,
        "The list was refused",
        "Rows are wrong and skip_invalid is not set, or no row is left. Nothing will be sent.",
    ),
    "busy": Kind(429, "Try again later", "A bound is reached. The same request will do after Retry-After seconds."),
    "internal": Kind(
        500, "Mailfleet failed", "A fault of ours, written to the log. With an Idempotency-Key, try again."
    ),
    "not-ready": Kind(503, "Not ready", "New mail would be refused at the moment; the detail says why."),
}
_BY_STATUS = {kind.status: name for name, kind in reversed(KINDS.items())}


class ProblemDetails(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="Which kind of problem, as a link into the reference.")
    title: str
    status: int
    detail: str = Field(description="What is wrong this time.")
    where: str = Field("", description="The field, line or record; empty when the whole request is meant.")
    mend: str = Field("", description="What to do about it.")
    problems: list[ProblemView] = Field([], description="Each thing that is wrong, where there are several.")


class ProblemError(Exception):
    """Raised by the entrance itself; everything else is translated from ``base.errors``."""

    def __init__(
        self, kind: str, detail: str, *, where: str = "", mend: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        self.kind, self.detail, self.where, self.mend, self.headers = kind, detail, where, mend, headers
        super().__init__(detail)


def problem_response(
    kind: str,
    detail: str,
    *,
    where: str = "",
    mend: str = "",
    problems: Sequence[ProblemView] = (),
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """A problem as a response; ``members`` are extension members (RFC 9457 3.2)."""
    known = KINDS[kind]
    body = {
        "type": f"/v1/docs#problem-{kind}",
        "title": known.title,
        "status": known.status,
        "detail": detail,
        "where": where,
        "mend": mend,
        "problems": [problem.model_dump() for problem in problems],
        **(members or {}),
    }
    return Response(
        orjson.dumps(body), status_code=known.status, media_type=MEDIA_TYPE, headers=dict(headers) if headers else None
    )


def field_path(location: Sequence[int | str]) -> str:
    """``("body", "attachments", 0, "content")`` -> ``attachments[0].content``."""
    path = ""
    for part in location[1:] if location and location[0] in ("body", "query", "path", "header") else location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def validation_response(errors: Sequence[Any]) -> Response:
    """What pydantic found, one problem per field. The values are left out: they may be secrets, or megabytes."""
    if any(error["type"] == "json_invalid" for error in errors):
        return problem_response("malformed", "the body is not valid JSON", mend="check its syntax and that it is UTF-8")
    problems = [
        ProblemView(
            line=0,
            code=str(error["type"]),
            what=str(error["msg"]).removeprefix("Value error, "),
            field=field_path(error["loc"]),
        )
        for error in errors[:100]
    ]
    first = problems[0]
    return problem_response("invalid-input", first.what, where=first.field, problems=problems)


async def _input_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, InputError):
        raise error
    kind = "invalid-input"
    if isinstance(error, NotFoundError):
        kind = "not-found"
    elif isinstance(error, ConflictError):
        kind = "conflict"
    elif isinstance(error, ConfigError):
        kind = "internal"
    return problem_response(kind, error.what, where=error.where, mend=error.mend)


async def _busy(_: Request, error: Exception) -> Response:
    if not isinstance(error, BusyError):
        raise error
    headers = {"Retry-After": str(max(1, error.retry_after_s))}
    return problem_response("busy", error.reason, mend=f"try again in {error.retry_after_s} s", headers=headers)


async def _problem(_: Request, error: Exception) -> Response:
    if not isinstance(error, ProblemError):
        raise error
    return problem_response(error.kind, error.detail, where=error.where, mend=error.mend, headers=error.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError | ValidationError):
        raise error
    return validation_response(error.errors())


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    kind = _BY_STATUS.get(error.status_code, "malformed" if error.status_code < 500 else "internal")
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if kind == "not-found":
        detail = f"there is nothing at {request.url.path[:200]}"
    elif kind == "method-not-allowed":
        detail = f"{request.method} is not a method of {request.url.path[:200]}"
        headers["Allow"] = ", ".join(_allowed(request)) or headers.get("Allow", "")  # RFC 9110 15.5.6
    return problem_response(kind, detail, mend="see /v1/docs" if error.status_code < 500 else "", headers=headers)


def _allowed(request: Request) -> list[str]:
    """The methods that the path has, over all routes and routers."""
    return [
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]


async def _gone(_: Request, __: Exception) -> Response:
    """The client went away before its request was whole; nobody will read this."""
    return Response(status_code=400)


async def _failed(_: Request, __: Exception) -> Response:
    """A bug. It is logged with its traceback by the server; the client learns nothing of it."""
    return problem_response("internal", "the request could not be carried out", mend="try again; the log has the cause")


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` as problem details."""
    app.add_exception_handler(InputError, _input_error)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(ValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _failed)
