"""A small HTTP server that speaks the shapes of the API, for what the command line does with its answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from typer.testing import CliRunner, Result

from mailfleet.cli.app import app as cli_app
from tests.store.cluster import Cluster

AT = "2026-01-31T09:00:00.123Z"


def campaign_view(**changed: Any) -> dict[str, Any]:
    """A ``CampaignView`` that has ended well."""
    return {
        "campaign": "cmp_0000000000001", "name": "Spring letter", "state": "finished", "stream": "bulk",
        "sender": "Shop <news@shop.example>", "subject": "Spring", "created_at": AT, "send_at": None, "finished_at": AT,
        "rows": 10, "invalid": 1, "duplicates": 2, "recipients": 7, "suppressed": 0, "queued": 0, "deferred": 0, "leased": 0,
        "delivered": 5, "bounced": 2, "expired": 0, "cancelled": 0, "pending": 0, "seconds": 4.5, "pause_reason": "",
    } | changed  # fmt: skip


def delivery_view(**changed: Any) -> dict[str, Any]:
    """A ``DeliveryView`` that bounced."""
    return {
        "delivery": "dlv_0000000000007", "message_id": "<1@shop.example>", "recipient": "unknown1@gmail.com",
        "campaign": "cmp_0000000000001", "stream": "bulk", "state": "bounced", "attempts": 1, "created_at": AT, "due_at": None,
        "expires_at": AT, "provider": "gmail", "site": "5:gmail-smtp-in.l.google.com,10:alt1.gmail-smtp-in.l.google.com",
        "bounce_class": "unknown-user",
        "reason": "550 5.1.1 The email account that you tried to reach does not exist.",
    } | changed  # fmt: skip


def report_row(**changed: Any) -> dict[str, Any]:
    """A ``CampaignReportRow`` of one bounce."""
    return {
        "provider": "gmail", "mail_host": True, "state": "bounced", "bounce_class": "unknown-user", "count": 1,
        "recipient": "unknown1@gmail.com", "reason": "550 5.1.1 The email account that you tried to reach does not exist.",
    } | changed  # fmt: skip


def event_view(number: int, **changed: Any) -> dict[str, Any]:
    """An ``EventView``."""
    return {
        "id": number, "at": AT, "kind": "bounced", "delivery": "dlv_0000000000007", "campaign": "cmp_0000000000001",
        "recipient": "unknown1@gmail.com",
        "data": {
            "reply": "550 5.1.1 No such user\x1b[2J", "mx": "gmail-smtp-in.l.google.com", "ip": "127.0.10.1",
            "attempt": 1, "class": "unknown-user", "fault": "recipient", "rule": "gmail-no-such-user", "phase": "rcpt",
            "seconds": 0.25, "tls": "TLSv1.3",
            "transcript": "+0 * connected\n+1 < 220 mx\n+2 > RCPT TO:<unknown1@gmail.com>\n+3 < 550 5.1.1 No such user",
        },
    } | changed  # fmt: skip


@dataclass
class Server:
    """What the server answers next and what it was asked.

    ``answers`` maps ``METHOD /path`` to a list that is used one by one; the last stays.
    """

    data: Path
    answers: dict[str, list[Any]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    def answer(self, what: str, *answers: Any) -> None:
        """JSON values (200), or ready responses."""
        self.answers[what] = list(answers)

    def bodies(self, what: str) -> list[Any]:
        """JSON bodies that came for ``METHOD /path``."""
        return [json.loads(body) for asked, _, body in self.asked if asked == what]

    def queries(self, what: str) -> list[dict[str, str]]:
        """Query parameters that came for ``METHOD /path``."""
        return [query for asked, query, _ in self.asked if asked == what]

    async def respond(self, request: Request) -> Response:
        what = f"{request.method} {request.url.path}"
        self.asked.append((what, dict(request.query_params), await request.body()))
        self.headers.append(dict(request.headers))
        if request.headers.get("authorization") != "Bearer secret-token":
            return JSONResponse({"title": "unauthorized"}, 401)
        waiting = self.answers.get(what)
        if not waiting:
            return problem(404, "there is no such record", where=request.url.path)
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        return found if isinstance(found, Response) else JSONResponse(found)


def problem(status: int, title: str, **more: Any) -> JSONResponse:
    """A problem+json answer."""
    return JSONResponse({"title": title, **more}, status, media_type="application/problem+json")


def ndjson(*items: Any) -> StreamingResponse:
    """An NDJSON answer, one chunk an item."""
    return StreamingResponse((json.dumps(item) + "\n" for item in items), media_type="application/x-ndjson")


@dataclass
class Listener:
    """The one HTTP server of the session; ``state`` is the test that it answers for."""

    port: int = 0
    state: Server | None = None

    async def respond(self, request: Request) -> Response:
        assert self.state is not None
        return await self.state.respond(request)


@pytest.fixture(scope="session")
def listener() -> Iterator[Listener]:
    made = Listener()
    routes = [Route("/{path:path}", made.respond, methods=["GET", "POST", "DELETE"])]
    running = uvicorn.Server(
        uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=0, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.005)
    made.port = running.servers[0].sockets[0].getsockname()[1]
    yield made
    running.should_exit = True
    thread.join()


@pytest.fixture
def server(tmp_path: Path, listener: Listener) -> Server:
    """A server with a data folder that tells where it is."""
    state = Server(tmp_path / "data", port=listener.port)
    listener.state = state
    state.data.mkdir()
    (state.data / "connection.json").write_text(
        json.dumps({"http": f"http://127.0.0.1:{state.port}", "smtp": "127.0.0.1:1", "token": "secret-token"})
    )
    return state


@pytest.fixture
def mailfleet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run a command in an empty folder, without settings from the environment: ``mailfleet("queue", "--json")``."""
    for name in ("MAILFLEET_DATA", "MAILFLEET_URL", "MAILFLEET_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*words: str, stdin: str | bytes | None = None, env: dict[str, str] | None = None) -> Result:
        return CliRunner().invoke(cli_app, list(words), input=stdin, env=env, catch_exceptions=False)

    return run


@pytest.fixture
def newsletter(tmp_path: Path) -> tuple[Path, Path]:
    """An HTML file and a list."""
    html, recipients = tmp_path / "letter.html", tmp_path / "list.csv"
    html.write_text('<p>Hello {{ name }}</p>\n<img src="https://shop.example/a.png">\n')
    recipients.write_text("email,name\nann@example.org,Ann\n")
    return html, recipients


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of the module's own."""
    started = Cluster()
    yield started
    started.remove()
