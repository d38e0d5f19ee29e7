"""Fixtures for every test: the real mail servers of ``tests/peers``. Hypothesis asserts no durations, as no test does."""

from __future__ import annotations

from hypothesis import settings

pytest_plugins = ["tests.peers.fixtures"]
settings.register_profile("mailfleet", deadline=None)
settings.load_profile("mailfleet")
