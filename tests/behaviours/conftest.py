"""Fixtures of a whole server: ``sandbox``, shared by a module's tests, and ``serve``, which starts as many as a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.behaviours.live import Live
from tests.behaviours.network import Network
from tests.behaviours.server import Server, Settings
from tests.store.cluster import Cluster

Serve = Callable[..., Server]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A sandbox that is up; its providers do what the local-parts ask for and nothing by chance."""
    with Server(tmp_path_factory.mktemp("sandbox")) as server:
        yield server


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """``serve(settings)`` makes a server in a folder of its own, not started yet; all are ended with the test."""
    made: list[Server] = []

    def make(settings: Settings | None = None, *, live: bool = False, folder: str = "") -> Server:
        server = Server(tmp_path / (folder or f"server{len(made)}"), settings, sandbox=not live)
        made.append(server)
        return server

    yield make
    for server in made:
        server.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of the module's own."""
    started = Cluster()
    yield started
    started.remove()


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """A private test network of the module's own."""
    with Network() as started:
        yield started


@pytest.fixture(scope="module")
def live(request: pytest.FixtureRequest, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server outside the sandbox in ``network``, with the sending domain shop.test; ``SETTINGS`` of the module go on top."""
    folder = tmp_path_factory.mktemp("live")
    server = Live(folder, network, getattr(request.module, "SETTINGS", {}))
    with server:
        server.add_domain("shop.test")
        yield server
