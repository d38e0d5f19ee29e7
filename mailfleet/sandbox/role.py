"""The role process of the sandbox under ``serve --sandbox``."""

from __future__ import annotations

import asyncio

from mailfleet.base.clock import Clock
from mailfleet.config.settings import Settings
from mailfleet.sandbox.server import SandboxServer


async def run(settings: Settings, clock: Clock, stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set. Raises ``ConfigError`` when it cannot listen."""
    server = SandboxServer(settings, clock)
    await server.start()
    try:
        await stop.wait()
    finally:
        await server.stop()
