"""Results of TLS add up, are bounded for each domain, and each report is moved once."""

from __future__ import annotations

from mailfleet.store import tls_results as rows
from mailfleet.store.database import Tx
from mailfleet.store.tls_results import Due, Key

GOOD = Key(7, "a.example", "sts", "a.example", "p1", "")
BAD = GOOD._replace(result="certificate-expired", reason="old", mx_host="mx.a.example", our_ip="::1", remote_ip="::2")
REPORT = Due(7, "a.example", 500)


def test_results_add_up(tx: Tx) -> None:
    rows.add(tx, {GOOD: 3, BAD: 1}, {"p1": "mode: enforce\nmx: mx"}, [REPORT])
    rows.add(tx, {GOOD: 2, BAD._replace(mx_host="mx2"): 4}, {"p1": "mode: enforce\nmx: mx"}, [Due(7, "a.example", 900)])
    rows.add(tx, {GOOD._replace(day=8, domain="b.example"): 1}, {}, [Due(8, "b.example", 600)])
    found = {one.key: (one.sessions, one.policy) for one in rows.of_day(tx, 7, "a.example")}
    text = "mode: enforce\nmx: mx"
    assert found == {GOOD: (5, text), BAD: (1, text), BAD._replace(mx_host="mx2"): (4, text)}
    assert [one.key.domain for one in rows.since(tx, 7, None, 2)] == ["b.example", "a.example"]
    assert rows.since(tx, 8, "a.example", 9) == []
    assert rows.due(tx, 499, 9) == []
    assert rows.due(tx, 700, 9) == [REPORT, Due(8, "b.example", 600)], "due as was said first"
    assert rows.has_before(tx, 8)
    assert rows.forget(tx, 8) == 4
    assert not rows.has_before(tx, 8)
    assert rows.states(tx, 0, None, 9) == {(8, "b.example"): "waiting"}


def test_a_domain_with_many_kinds_is_folded(tx: Tx) -> None:
    for first in (0, 250):
        rows.add(tx, {BAD._replace(mx_host=f"mx{n}"): 1 for n in range(first, first + 250)}, {"p1": "x"}, [REPORT])
    found = rows.of_day(tx, 7, "a.example")
    assert len(found) == rows.MAX_KINDS + 1
    assert sum(one.sessions for one in found) == 500, "none is lost"
    (folded,) = [one for one in found if not one.key.mx_host]
    assert folded.key == Key(7, "a.example", "sts", "a.example", "", "certificate-expired")
    assert folded.sessions == 200


def test_a_report_is_moved_once(tx: Tx) -> None:
    rows.add(tx, {GOOD: 1}, {}, [REPORT])
    assert rows.move(tx, REPORT, "posting", due_ms=900, urls=["https://a/"])
    assert not rows.move(tx, REPORT, "sent")
    posting = Due(7, "a.example", 900, "posting", ("https://a/",))
    assert rows.due(tx, 1000, 9) == [posting]
    assert rows.move(tx, posting, "sent")
    assert rows.due(tx, 9999, 9) == []
