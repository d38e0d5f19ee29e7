"""Many requests at once hold a bounded amount of memory, and followers have a number: one more is told to come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from mailfleet.base.clock import SystemClock
from mailfleet.base.errors import ConfigError
from mailfleet.base.gauges import Gauges
from mailfleet.config.metrics import CATALOGUE
from mailfleet.config.settings import Server, Settings, Submission
from mailfleet.listen.api.observe import MAX_FOLLOWERS
from mailfleet.listen.http import create_app
from mailfleet.listen.http_connections import HttpConnections
from tests.listen.submission_peer import until

Serve = Callable[[FastAPI], Awaitable[int]]
RAW = b"From: a@shop.example\r\nTo: b@x.example\r\n\r\n" + b"x" * 700_000


def small_room(engine: Any) -> FastAPI:
    """An app whose requests may hold one MiB together."""
    settings = Settings(server=Server(http_max_buffered_mb=1), submission=Submission(max_message_bytes=720_000))
    return create_app(engine.services(), settings)


async def test_bodies_share_a_room(engine: Any, serve: Serve) -> None:
    app = small_room(engine)
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield RAW[:600_000]
        await go_on.wait()
        yield RAW[600_000:]

    headers = {"Authorization": "Bearer all", "Content-Type": "message/rfc822"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await serve(app)}", headers=headers) as client:
        first = asyncio.create_task(client.post("/v1/messages", content=slowly()))
        await until(lambda: app.state.body_room.held_bytes >= 600_000)
        second = await client.post("/v1/messages", content=RAW)
        assert (second.status_code, second.headers["retry-after"]) == (429, "2")
        assert second.json()["detail"] == "too much is arriving at once"
        go_on.set()
        assert (await first).status_code == 202
        assert app.state.body_room.held_bytes == 0
        assert (await client.post("/v1/messages", content=RAW)).status_code == 202
        page = (await client.get("/metrics")).text
    assert 'mailfleet_http_refusals_total{reason="http_max_buffered_mb",role="front"} 1.0' in page


async def test_a_client_that_leaves_gives_back_what_it_held(engine: Any, serve: Serve) -> None:
    app = small_room(engine)
    _, writer = await asyncio.open_connection("127.0.0.1", await serve(app))
    writer.write(
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer all\r\nContent-Type: message/rfc822\r\n"
        b"Content-Length: 700000\r\n\r\n" + b"x" * 300_000
    )
    await until(lambda: app.state.body_room.held_bytes >= 300_000)
    writer.close()
    await until(lambda: not app.state.body_room.held_bytes)


def test_a_room_that_is_too_small_for_one_message_is_refused(engine: Any) -> None:
    with pytest.raises(ConfigError, match=r"server.http_max_buffered_mb.*at least 67"):
        create_app(engine.services(), Settings(server=Server(http_max_buffered_mb=66)))


async def test_followers_have_a_number(app: FastAPI, serve: Serve) -> None:
    url = f"http://127.0.0.1:{await serve(app)}/v1/events?follow=true"
    bounds = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(headers={"Authorization": "Bearer all"}, limits=bounds) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(MAX_FOLLOWERS):
            answer = await stack.enter_async_context(client.stream("GET", url))
            assert answer.status_code == 200
        refused = await client.get(url)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        await stack.aclose()
        await until(lambda: not app.state.followers.open)
        async with client.stream("GET", url) as answer:
            assert answer.status_code == 200


async def test_long_rows_are_handed_on_sooner(app: FastAPI, engine: Any, serve: Serve) -> None:
    cell = "x" * 60_000
    rows = "".join(f"u{number}@x.example,{cell}\n" for number in range(300))
    async with httpx.AsyncClient(headers={"Authorization": "Bearer all"}) as client:
        answer = await client.post(
            f"http://127.0.0.1:{await serve(app)}/v1/campaigns",
            files={
                "campaign": (None, '{"from": "a@shop.example", "subject": "s", "text": "t"}', "application/json"),
                "recipients": ("list.csv", "email,story\n" + rows, "text/csv"),
            },
        )
    assert answer.status_code == 202, answer.text
    chunks = engine.uploads[-1].chunks
    assert sum(chunks) == 300
    assert max(chunks) * len(cell) < 6 * 1024 * 1024


@pytest.fixture
async def careful() -> AsyncIterator[Callable[[FastAPI, Gauges], Awaitable[int]]]:
    """Serve an app behind the connections of production."""
    running: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    async def start(app: FastAPI, gauges: Gauges) -> int:
        hub = HttpConnections(Server(), SystemClock(), gauges)
        protocol: Any = hub.protocol  # it is only called
        config = uvicorn.Config(app, "127.0.0.1", 0, http=protocol, log_config=None, lifespan="off", ws="none")
        server = uvicorn.Server(config)
        running.append((server, asyncio.create_task(server._serve())))
        await until(lambda: server.started)
        port: int = server.servers[0].sockets[0].getsockname()[1]
        return port

    yield start
    for server, task in running:
        server.should_exit = True
        await task


async def test_a_header_without_end_has_an_end(app: FastAPI, careful: Any) -> None:
    gauges = Gauges(CATALOGUE)
    port = await careful(app, gauges)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n")
    with contextlib.suppress(ConnectionError):
        for number in range(10_000):
            writer.write(b"X-%d: %s\r\n" % (number, b"y" * 1000))
            await writer.drain()
    assert {
        (one.labels, one.value) for one in gauges.snapshot() if one.name == "http_refusals_total" and one.value
    } == {(("header_bytes",), 1)}
    writer.close()
    with contextlib.suppress(ConnectionError):
        assert (await reader.read()).startswith((b"HTTP/1.1 431", b""))


async def test_requests_on_one_connection_each_have_their_header_and_body(app: FastAPI, careful: Any) -> None:
    headers = {"Authorization": "Bearer all", "Content-Type": "message/rfc822", "X-Long": "x" * 30_000}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await careful(app, Gauges(CATALOGUE))}") as client:
        for _ in range(4):
            assert (await client.get("/health/live", headers=headers)).status_code == 200
            assert (await client.post("/v1/messages", content=RAW[:190_000], headers=headers)).status_code == 202
