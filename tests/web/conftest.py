"""The page over an engine in memory, served on a port of loopback, and a browser to look at it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Browser, async_playwright

from mailfleet.config.settings import Settings
from mailfleet.listen.http import create_app
from mailfleet.web import page
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
def app(engine: Any) -> Any:
    app = create_app(engine.services(), Settings())
    page.install(app, engine.services())
    return app


@pytest_asyncio.fixture(loop_scope="session")
async def url(app: Any) -> AsyncIterator[str]:
    """Where the app is served."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110  it is another's flag
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium: the one without a window costs half the time."""
    path = shutil.which("chromium-headless-shell")
    if path is None:
        pytest.fail("Chromium is missing: run scripts/install-browser")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def pages_end(browser: Browser) -> AsyncIterator[None]:
    """A page that stays open asks a server that is gone, again and again, beside all tests that follow."""
    yield
    for context in browser.contexts:
        await context.close()
