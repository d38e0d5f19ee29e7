"""DMARC reports in the database: once each, summed for the domain that they speak of, and gone when they are old."""

from __future__ import annotations

from mailfleet.policy.dmarc_rollout import Seen
from mailfleet.store import dmarc as rows
from mailfleet.store.database import Tx
from mailfleet.store.dmarc import Concern, Reach, Report, Row

SHOP = Concern(1, "shop.example", ())
NEWS = Concern(1, "news.shop.example", ("shop.example",))
GOOD = Row("shop.example", "192.0.2.1", 1, 0, 0, "s1", "", "", "", 5)
BAD = Row("shop.example", "192.0.2.9", 0, 0, 1, "", "crm.example", "", "no DKIM signature", 2)


def report(number: int, day: int, **fields: object) -> Report:
    made = Report(number, 1, "shop.example", "google.com", f"r{number}", day * 86400, day * 86400, day, "none", 7, 5, 1)
    return made._replace(**fields)  # type: ignore[arg-type]


def test_a_report_counts_once(tx: Tx) -> None:
    assert rows.add(tx, report(1, 10), [GOOD, BAD])
    assert not rows.add(tx, report(2, 10, report_id="r1"), [GOOD])
    assert rows.add(tx, report(3, 10, report_id="r1", reporter="yahoo.com"), [GOOD])
    assert rows.add(tx, report(4, 11, report_id="r1"), [GOOD]), "some give every day the same name"
    assert rows.reach(tx, SHOP, 0) == Reach(2, 2, 11)
    assert rows.reach(tx, SHOP, 11) == Reach(1, 1, 11)
    assert rows.reach(tx, SHOP, 12) == Reach(0, 0, 0)
    assert rows.seen(tx, SHOP, 0, 11) == [
        Seen("192.0.2.1", True, False, False, "s1", "", "", "", 15, 5, 2, 11),
        Seen("192.0.2.9", False, False, True, "", "crm.example", "", "no DKIM signature", 2, 0, 1, 10),
    ]
    assert rows.by_day(tx, SHOP, 0) == [(10, 12, 10), (11, 5, 5)]
    assert [one.id for one in rows.reports(tx, SHOP, 2)] == [4, 3]


def test_a_report_that_grows_takes_the_place_of_the_one_before(tx: Tx) -> None:
    rows.add(tx, report(1, 10), [GOOD, BAD])
    assert rows.add(tx, report(2, 10, report_id="r1", messages=9), [GOOD._replace(messages=9)])
    assert not rows.add(tx, report(3, 10, report_id="r1"), [GOOD, BAD])
    assert [one.id for one in rows.reports(tx, SHOP, 9)] == [2]
    assert rows.by_day(tx, SHOP, 0) == [(10, 9, 9)]


def test_rows_speak_of_whose_policy_held(tx: Tx) -> None:
    news = GOOD._replace(header_from="news.shop.example", messages=100)
    deep = GOOD._replace(header_from="a.news.shop.example", messages=1000)
    like = GOOD._replace(header_from="xnews.shop.example", messages=10_000)
    rows.add(tx, report(1, 10), [GOOD, news, deep, like])
    rows.add(tx, report(2, 11, domain="news.shop.example", policy="reject"), [news])
    rows.add(tx, report(3, 12, tenant_id=2), [GOOD])
    assert [one.messages for one in rows.seen(tx, SHOP, 0, 0)] == [11_105], "its own policy held for all of these"
    assert [one.messages for one in rows.seen(tx, NEWS, 0, 0)] == [1200]
    assert [one.id for one in rows.reports(tx, NEWS, 9)] == [2, 1]
    assert rows.stages(tx, 1, "news.shop.example", 0) == [(11, "reject", 7)]
    assert rows.stages(tx, 1, "shop.example", 0) == [(10, "none", 7)]


def test_judgements_are_taken_back(tx: Tx) -> None:
    rows.judge(tx, 1, {"a.example": "ours", "b.example": "foreign"}, 5)
    rows.judge(tx, 1, {"a.example": "foreign", "b.example": "open"}, 6)
    assert rows.judged(tx, 1) == {"a.example": "foreign"}
    assert rows.judged(tx, 2) == {}


def test_old_reports_go(tx: Tx) -> None:
    for day in (10, 11, 12):
        rows.add(tx, report(day, day), [GOOD, BAD])
    assert rows.has_before(tx, 12)
    assert rows.forget(tx, 12) == 2
    assert not rows.has_before(tx, 12)
    assert rows.forget(tx, 12) == 0
    assert tx.value("SELECT count(*) FROM dmarc_row") == 2


def test_reports_go_with_their_domain(tx: Tx) -> None:
    news = GOOD._replace(header_from="news.shop.example", messages=100)
    for number in (1, 2, 3):
        rows.add(tx, report(number, 10), [GOOD, BAD, news] if number < 3 else [BAD])
    rows.add(tx, report(4, 10, domain="news.shop.example"), [news])
    rows.add(tx, report(5, 10, tenant_id=2), [GOOD])
    assert sorted(rows.policy_domains(tx, 1)) == ["news.shop.example", "shop.example"]
    assert sorted(rows.authors(tx, 1, "shop.example")) == ["news.shop.example", "shop.example"]
    assert rows.forget_authors(tx, 1, "shop.example", ["shop.example"], 2) == 2
    assert rows.forget_authors(tx, 1, "shop.example", ["shop.example"], 9) == 1
    found = {one.id: (one.messages, one.passed) for one in rows.reports(tx, NEWS, 9)}
    assert found == {1: (100, 100), 2: (100, 100), 4: (7, 5)}
    assert [one.id for one in rows.reports(tx, SHOP, 9)] == [2, 1], "one of nothing else is gone"
    assert rows.forget_domain(tx, 1, "shop.example", 1) == 1
    assert rows.forget_domain(tx, 1, "shop.example", 9) == 1
    assert [row[0] for row in tx.rows("SELECT report FROM dmarc_row ORDER BY report")] == [4, 5]
