"""A running sandbox in a thread of its own, so that tests can talk to it with ordinary blocking clients."""

from __future__ import annotations

import asyncio
import random
import smtplib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from mailfleet.base.clock import Clock
from mailfleet.config.settings import Sandbox, Settings
from mailfleet.sandbox.server import SandboxServer
from tests.ports import free_port

Rates = Mapping[str, Mapping[str, float]]
NO_RATES: Rates = {"*": {}}


class ManualClock:
    """Wall time that moves when told; waiting is real."""

    def __init__(self) -> None:
        self.at_ms = 1_800_000_000_000

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic_s(self) -> float:
        return self.at_ms / 1000

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


def sandbox_settings(data: Path, **sandbox: object) -> Settings:
    """Settings with ports and addresses that no other test has."""
    chosen: dict[str, object] = {
        "enabled": True,
        "smtp_port": free_port(),
        "dns_port": free_port(),
        "address_base": f"127.{random.randint(20, 250)}.{random.randint(0, 250)}.0",
    }
    return Settings(data=data, sandbox=Sandbox.model_validate(chosen | sandbox))


class Running:
    """One sandbox at work."""

    def __init__(self, settings: Settings, clock: Clock, rates: Rates | None) -> None:
        self.settings = settings
        self.data = settings.data
        self.server = SandboxServer(settings, clock, rates=rates)
        self.addresses = self.server.addresses
        self.port = settings.sandbox.smtp_port
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self.server.start())

    def _call(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)  # type: ignore[arg-type]  # always a coroutine here

    def stop(self) -> None:
        if self._thread.is_alive():
            self._call(self.server.stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def client(self, provider: str) -> smtplib.SMTP:
        """A connected client that has not said EHLO yet."""
        return smtplib.SMTP(self.addresses[provider], self.port, local_hostname="sender.example", timeout=15)


StartSandbox = Callable[..., Running]


@pytest.fixture
def start_sandbox(tmp_path: Path) -> Iterator[StartSandbox]:
    """``start(rates=..., clock=..., seed=..., time_scale=..., data=...)``; everything started is stopped at the end."""
    started: list[Running] = []

    def start(
        rates: Rates | None = NO_RATES, clock: Clock | None = None, data: Path | None = None, **sandbox: object
    ) -> Running:
        running = Running(sandbox_settings(data or tmp_path, **sandbox), clock or ManualClock(), rates)
        started.append(running)
        return running

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def trusting_tls() -> ssl.SSLContext:
    """A client context that takes any certificate, as opportunistic TLS does."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def letter(message_id: str, body: str = "Hello\r\n") -> bytes:
    """A small unsigned message."""
    return f"From: news@shop.example\r\nTo: someone\r\nSubject: Hi\r\nMessage-ID: <{message_id}>\r\n\r\n{body}".encode()
