"""Counts by the hour are sums over parts, by whatever dimensions are asked for."""

from __future__ import annotations

from collections import Counter

from mailfleet.store import counts, tenants
from mailfleet.store.counts import Key
from mailfleet.store.database import Tx

ONE = Key(500, 1, "gmail", "shop.example", 2, 7, "delivered")


def test_counts_add_up(tx: Tx) -> None:
    tenants.ensure_default(tx)
    counts.add(tx, Counter({ONE: 3, ONE._replace(what="bounced"): 1, ONE._replace(hour=501, egress_id=2): 5}))
    counts.add(tx, Counter({ONE: 2, ONE._replace(stream_id=1): 10}))
    counts.add(tx, Counter())
    assert counts.by(tx, ["provider"], since_hour=0) == {("gmail",): {"delivered": 20, "bounced": 1}}
    assert counts.by(tx, ["source", "hour"], since_hour=500) == {
        (1, 500): {"delivered": 15, "bounced": 1},
        (2, 501): {"delivered": 5},
    }
    assert counts.by(tx, ["stream"], since_hour=0, bulk_only=True) == {(2,): {"delivered": 10, "bounced": 1}}
    assert counts.by(tx, ["domain"], since_hour=502) == {}


def test_old_counts_go_in_steps(tx: Tx) -> None:
    counts.add(tx, Counter({ONE._replace(hour=hour): 1 for hour in range(10)}))
    assert counts.forget(tx, 8, limit=5) == 5
    assert counts.forget(tx, 8, limit=5) == 3
    assert counts.forget(tx, 8, limit=5) == 0
    assert len(counts.by(tx, ["hour"], since_hour=0)) == 2
