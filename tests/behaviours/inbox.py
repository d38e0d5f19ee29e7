"""Fixtures of tests that mail something to people: ``peer`` takes mail for inbox.test, and ``knot`` serves it beside shop.test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviours.network import Network
from tests.behaviours.peer import Peer
from tests.behaviours.test_domain_in_the_dns import ZONE
from tests.peers.knot import SECRET, Knot


@pytest.fixture
def peer(network: Network) -> Peer:
    """Who takes mail for inbox.test."""
    return network.peer()


@pytest.fixture
def knot(tmp_path: Path, peer: Peer) -> Iterator[Knot]:
    inbox = ["@ MX 10 mx", f"mx A {peer.host}"]
    made = Knot(tmp_path / "knot", {"shop.test": ZONE, "inbox.test": inbox}, secret=SECRET)
    yield made
    made.close()
