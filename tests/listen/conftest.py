"""An app over an engine in memory, with a client that talks ASGI to it and a way to serve it on a port."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from mailfleet.config.settings import Settings, Submission
from mailfleet.listen.http import create_app
from tests.listen import memory_engine
from tests.store.fixtures import upgraded

__all__ = ["upgraded"]


@pytest.fixture
def memory() -> Any:
    """Makers of views."""
    return memory_engine


@pytest.fixture
def engine(upgraded: Path, tmp_path: Path) -> Iterator[Any]:
    """A ``MemoryEngine``; tokens are ``all``, ``reader`` and ``sender``."""
    shutil.copy(upgraded, tmp_path / "mailfleet.db")
    made = memory_engine.MemoryEngine(tmp_path)
    yield made
    made.database.close()


@pytest.fixture
def app(engine: Any) -> FastAPI:
    return create_app(engine.services(), Settings(submission=Submission(max_message_bytes=200_000)))


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client with every scope."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://mail.example", headers={"Authorization": "Bearer all"}
    ) as client:
        yield client


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[FastAPI], Awaitable[int]]]:
    """Serve an app with uvicorn on a free port of loopback."""
    running: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    async def start(app: FastAPI) -> int:
        config = uvicorn.Config(
            app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve())
        running.append((server, task))
        while not server.started:  # noqa: ASYNC110  it is another's flag
            await asyncio.sleep(0.01)
        port: int = server.servers[0].sockets[0].getsockname()[1]
        return port

    yield start
    for server, task in running:
        server.should_exit = True
        await task
