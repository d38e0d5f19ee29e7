"""Fixtures for every test: the real mail servers of ``tests/peers``."""

from __future__ import annotations

pytest_plugins = ["tests.peers.fixtures"]
