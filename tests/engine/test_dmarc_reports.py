"""DMARC reports are taken in once, summed up by who sends, and decide how far a domain's policy may go."""

from __future__ import annotations

import gzip
from collections.abc import Collection

import pytest

from mailfleet.base.errors import InputError, NotFoundError
from mailfleet.base.ids import TenantId
from mailfleet.engine.dmarc_reports import KEEP_DAYS, DmarcReports
from mailfleet.engine.fleet import Fleet
from mailfleet.engine.requests import Actor
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.store import egress, sending
from mailfleet.store.sending import SendingDomain
from tests.engine.plant import DOMAIN, HOST, NOW_MS, OWNER, Plant, no_addresses, no_names
from tests.mail.dmarc_documents import DAY_S, mailed, record, report

OTHER = Actor(TenantId(7), name="other")
TODAY = NOW_MS // 1000 // DAY_S
OURS = "127.0.0.5"


@pytest.fixture
async def dmarc(plant: Plant) -> DmarcReports:
    await Fleet(plant.database, plant.box, plant.clock).add_source(OWNER, "s1", {"address": OURS})
    return plant.dmarc


async def days(dmarc: DmarcReports, *records: str, count: int = 15, policy: str = "none", ago: int = 1) -> None:
    """A report of each of the last days."""
    for day in range(TODAY - ago - count + 1, TODAY - ago + 1):
        text = report(*records, begin_s=day * DAY_S, report_id=f"{day}-{policy}", policy=policy)
        await dmarc.take(OWNER, text.encode())


async def kept(plant: Plant) -> SendingDomain:
    found = await plant.database.read(lambda tx: sending.by_name(tx, DOMAIN))
    assert found is not None
    return found


async def test_a_file_is_taken_in_once(plant: Plant, dmarc: DmarcReports) -> None:
    text = report(
        record(OURS), record(OURS), record(OURS, 0), record("nowhere"), record("198.51.100.7", 4, dkim="fail")
    )
    first = await dmarc.take(OWNER, mailed(text))
    (one,) = first.items
    assert (one.known, one.report.messages, one.report.passed, one.report.policy) == (False, 10, 6, "none")
    assert one.problems == ["record 4: 'nowhere' is no IP address"]
    (again,) = (await dmarc.take(OWNER, gzip.compress(text.encode()))).items
    assert again.known
    assert len(await plant.rows("SELECT * FROM dmarc_row")) == 2, "alike ones are one"
    assert [each.messages for each in await dmarc.reports(OWNER, DOMAIN, 9)] == [10]
    assert (await kept(plant)).next_check_ms <= NOW_MS, "what it means is said soon"


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        (
            report(record(), domain="other.example"),
            "policy_published, domain",
            "other.example, which is no sending domain",
        ),
        (report(record(), domain="example"), "policy_published, domain", "whose policy"),
        (report(record(), begin_s=(TODAY + 3) * DAY_S), "date_range", "which is to come"),
        ("<feedback></feedback>", "policy_published, domain", "whose policy"),
    ],
)
async def test_what_is_refused_leaves_nothing(
    plant: Plant, dmarc: DmarcReports, text: str, where: str, what: str
) -> None:
    before = await plant.counts()
    with pytest.raises(InputError, match=what) as refused:
        await dmarc.take(OWNER, text.encode())
    assert refused.value.where == where
    with pytest.raises(InputError):
        await dmarc.take(OTHER, report(record()).encode())
    assert await plant.counts() == before


async def test_others_see_nothing(plant: Plant, dmarc: DmarcReports) -> None:
    await days(dmarc, record(OURS), count=1)
    for call in (
        dmarc.view(OTHER, DOMAIN),
        dmarc.reports(OTHER, DOMAIN, 9),
        dmarc.judge(OTHER, DOMAIN, ["198.51.100.7"], "ours"),
    ):
        with pytest.raises(NotFoundError):
            await call


async def test_what_is_shown(dmarc: DmarcReports) -> None:
    empty = await dmarc.view(OWNER, DOMAIN)
    assert (empty.days, empty.state, empty.found, empty.senders) == (0, "unknown", "no report has come in yet", [])
    crm = record(
        "198.51.100.7",
        40,
        dkim="fail",
        signatures=[("crm.example", "k", "pass")],
        spf_seen=[("mail.crm.example", "pass")],
    )
    forwarded = record("203.0.113.5", 2, signatures=[(DOMAIN, "r1", "pass")], spf_seen=[("list.example", "pass")])
    await days(dmarc, record(OURS, 500, spf="pass"), crm, forwarded)
    view = await dmarc.view(OWNER, DOMAIN)
    assert (view.days, view.reporters, view.messages, view.passed) == (15, 1, 15 * 542, 15 * 502)
    assert [(one.who, one.kind, one.messages, one.failed, one.must_judge) for one in view.senders] == [
        ("s1", "ours", 7500, 0, False),
        ("crm.example", "service", 600, 600, True),
        ("forwarders", "forwarders", 30, 0, False),
    ]
    assert view.senders[1].why == "DKIM k of crm.example: pass; SPF of mail.crm.example: pass"
    assert view.senders[1].addresses == ["198.51.100.7"]
    assert (view.state, view.next_policy) == ("warning", "")
    assert [one.messages for one in view.by_day] == [542] * 15
    view = await dmarc.judge(OWNER, DOMAIN, ["crm.example"], "foreign")
    assert (view.next_policy, view.senders[1].judged, view.senders[1].must_judge) == ("quarantine", "foreign", False)
    view = await dmarc.judge(OWNER, DOMAIN, ["crm.example"], "ours")
    assert (view.state, view.next_policy) == ("warning", "")
    assert "most from crm.example" in view.meaning
    view = await dmarc.judge(OWNER, DOMAIN, ["crm.example"], "open")
    assert view.senders[1].must_judge
    assert (await dmarc.view(OWNER, DOMAIN, 3)).days == 3


@pytest.mark.parametrize(
    ("who", "verdict", "where"),
    [
        (["crm.example"], "ours", "who"),
        (["s1"], "ours", "who"),
        ([], "ours", "who"),
        (["x"] * 201, "ours", "who"),
        (["s1"], "x", "judged"),
    ],
)
async def test_only_who_is_listed_is_judged(dmarc: DmarcReports, who: list[str], verdict: str, where: str) -> None:
    await days(dmarc, record(OURS), count=1)
    with pytest.raises(InputError) as refused:
        await dmarc.judge(OWNER, DOMAIN, who, verdict)
    assert refused.value.where == where
    assert refused.value.mend


async def test_whoever_waits_for_a_word_can_be_judged_though_older_mail_outweighs_it(dmarc: DmarcReports) -> None:
    await days(dmarc, record(OURS, 100_000, spf="pass"), count=3, ago=90)
    strangers = [record(f"203.0.113.{n}", 40, dkim="fail", signatures=[]) for n in range(12)]
    await days(dmarc, record(OURS, 500, spf="pass"), *strangers, count=3)
    waiting = [one.who for one in (await dmarc.view(OWNER, DOMAIN)).senders if one.must_judge]
    assert len(waiting) == 12
    view = await dmarc.judge(OWNER, DOMAIN, waiting, "foreign")
    assert not any(one.must_judge for one in view.senders)


async def test_what_a_domain_without_own_addresses_sends_is_known_by_where_the_server_is(plant: Plant) -> None:
    async def here(host: str) -> list[str]:
        assert host == "out.shop.example", "as it is said in EHLO"
        return ["192.0.2.80"]

    found = DmarcReports(
        plant.database, plant.reads, here, no_names,
        defaults=SourceDefaults(HOST, "out.shop.example"), clock=plant.clock, ids=plant.ids,
    )  # fmt: skip
    await plant.database.write(lambda tx: egress.ensure_default(tx, NOW_MS))
    await days(found, record("192.0.2.80", dkim="fail", signatures=[]), count=1)
    (sender,) = (await found.view(OWNER, DOMAIN)).senders
    assert (sender.who, sender.kind, sender.failed) == ("default", "ours", 3)


async def test_who_is_not_ours_has_a_name(plant: Plant) -> None:
    async def names(addresses: Collection[str], within_s: float) -> dict[str, str]:
        assert set(addresses) == {"198.51.100.7", "203.0.113.9", "2001:db8::1"}
        return {"203.0.113.9": "host9.example", "2001:db8::1": "six.example"}

    found = DmarcReports(
        plant.database,
        plant.reads,
        no_addresses,
        names,
        defaults=SourceDefaults(HOST),
        clock=plant.clock,
        ids=plant.ids,
    )
    await Fleet(plant.database, plant.box, plant.clock).add_source(OWNER, "s1", {"address": OURS})
    crm = record("198.51.100.7", 40, dkim="fail", signatures=[("crm.example", "k", "pass")])
    strangers = [record(one, 5, dkim="fail", signatures=[]) for one in ("203.0.113.9", "2001:db8::1")]
    forwarded = record("203.0.113.5", 2, signatures=[(DOMAIN, "r1", "pass")])
    await days(found, record(OURS, 500, spf="pass"), crm, forwarded, *strangers, count=1)
    assert {one.who: one.host for one in (await found.view(OWNER, DOMAIN)).senders} == {
        "s1": "",
        "crm.example": "",
        "forwarders": "",
        "203.0.113.9": "host9.example",
        "2001:db8::/64": "six.example",
    }


async def test_a_source_behind_another_address_is_known_by_its_name(plant: Plant) -> None:
    asked = []

    async def look_up(host: str) -> list[str]:
        asked.append(host)
        return {"out.shop.example": ["192.0.2.81"]}.get(host, [])

    found = DmarcReports(
        plant.database, plant.reads, look_up, no_names, defaults=SourceDefaults(HOST), clock=plant.clock, ids=plant.ids
    )
    fleet = Fleet(plant.database, plant.box, plant.clock)
    await fleet.add_source(OWNER, "inside", {"address": "10.0.0.7", "ehlo_name": "out.shop.example"})
    await fleet.add_source(OWNER, "outside", {"address": "8.8.8.8", "ehlo_name": "direct.shop.example"})
    await days(found, record("192.0.2.81"), record("8.8.8.8", 2), count=1)
    assert [(one.who, one.messages) for one in (await found.view(OWNER, DOMAIN)).senders] == [
        ("inside", 3),
        ("outside", 2),
    ]
    assert set(asked) == {"out.shop.example", HOST}, "that of the default source"


async def test_advice_follows_the_stage_in_the_dns(plant: Plant, dmarc: DmarcReports) -> None:
    domain = await kept(plant)
    assert await dmarc.advice(domain, "none") is None
    await days(dmarc, record(OURS, 100, spf="pass"), ago=10)
    await days(dmarc, record(OURS, 100, spf="pass"), policy="quarantine", count=5)  # of the last five days
    found = await dmarc.advice(domain, "quarantine")
    assert found is not None
    assert "14 days of reports at p=quarantine are wanted, and 5 are there" in found.meaning
    await days(
        dmarc,
        record(OURS, 100, dkim="fail", signatures=[], disposition="quarantine"),
        policy="quarantine",
        count=1,
        ago=0,
    )
    found = await dmarc.advice(domain, "quarantine")
    assert found is not None
    assert (found.state, found.to) == ("failed", "none")


async def test_old_reports_go(plant: Plant, dmarc: DmarcReports) -> None:
    await days(dmarc, record(OURS), count=3)
    plant.clock.skip((KEEP_DAYS - 1) * DAY_S)
    await plant.maintainer.forget_reports()
    assert len(await plant.rows("SELECT * FROM dmarc_report")) == 1
    plant.clock.skip(2 * DAY_S)
    await plant.maintainer.forget_reports()
    assert await plant.rows("SELECT * FROM dmarc_row") == []


async def test_reports_go_with_the_domain_and_one_that_is_added_again_begins_anew(
    plant: Plant, dmarc: DmarcReports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailfleet.engine.manage.REPORTS_AT_ONCE", 4)
    below = f"news.{DOMAIN}"
    await plant.manager.add_domain(OWNER, below)
    await days(dmarc, record(OURS), record(OURS, 3, header_from=below), count=9)
    await plant.manager.remove_domain(OWNER, DOMAIN)
    assert (await dmarc.view(OWNER, below)).messages == 27, "its policy is the one above"
    assert {one.messages for one in await dmarc.reports(OWNER, below, 99)} == {3}
    assert await plant.rows("SELECT DISTINCT header_from FROM dmarc_row") == [(below,)]
    await plant.manager.remove_domain(OWNER, below)
    for table in ("dmarc_report", "dmarc_row", "dmarc_judgement"):
        assert await plant.rows(f"SELECT * FROM {table}") == []
    await plant.manager.add_domain(OWNER, DOMAIN)
    assert await dmarc.reports(OWNER, DOMAIN, 9) == []
    await days(dmarc, record(OURS), count=1)
    assert (await dmarc.view(OWNER, DOMAIN)).days == 1
