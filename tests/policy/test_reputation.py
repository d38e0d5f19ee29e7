"""Rates count when there is enough behind them, and lead to brakes at the providers' own numbers."""

from __future__ import annotations

import pytest

from mailfleet.policy import reputation
from mailfleet.store.counts import HOUR_MS


@pytest.mark.parametrize(
    ("complaints", "delivered", "action"),
    [(2, 100, None), (3, 3001, None), (3, 2999, "slow"), (10, 9_999, "slow"), (31, 10_000, "stop"), (0, 0, None)],
)
def test_complaints(complaints: int, delivered: int, action: str | None) -> None:
    counts = {"complaint": complaints, "delivered": delivered}
    found = reputation.complaints(counts, stream_id=2, provider="gmail", hour_ms=HOUR_MS)
    assert (found.action if found else None) == action
    if found:
        assert (found.stream_id, found.provider, found.origin) == (2, "gmail", "reputation")
        assert f"{complaints} complaints of {delivered} delivered in 24 hours" in found.reason


@pytest.mark.parametrize(
    ("bounced", "delivered", "action"), [(19, 1, None), (20, 380, None), (21, 379, "slow"), (60, 500, "stop")]
)
def test_bounces(bounced: int, delivered: int, action: str | None) -> None:
    found = reputation.bounces({"bounced": bounced, "delivered": delivered}, hour_ms=HOUR_MS, campaign_id=9)
    assert (found.action if found else None) == action
    if found:
        assert (found.campaign_id, found.stream_id) == (9, 0)


def test_rates_of_nothing_are_nothing() -> None:
    assert reputation.rates({}) == (0, 0, 0, 0, 0)
    found = reputation.rates({"delivered": 90, "deferred": 5, "bounced": 4, "expired": 1, "complaint": 9})
    assert found == (100, 0.9, 0.05, 0.05, 0.1)
