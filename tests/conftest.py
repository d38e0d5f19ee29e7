"""Fixtures for every test: the real mail servers of ``tests/peers``. Hypothesis asserts no durations, as no test does."""

from __future__ import annotations

import pytest
from hypothesis import settings

pytest_plugins = ["tests.peers.fixtures"]
settings.register_profile("mailfleet", deadline=None)
settings.load_profile("mailfleet")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole servers come first, which mostly wait: files are given out in order, and the last ones should be short."""
    items.sort(key=lambda item: "/behaviours/" not in str(item.path))
