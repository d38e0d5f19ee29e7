"""DMARC on a domain's page in a real browser: what reports show, whose senders are, and reports that are handed over."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from playwright.async_api import Browser, FilePayload, expect

from mailfleet.engine.dmarc_views import DmarcDayView
from mailfleet.web.dmarc import CHART_HEIGHT, LEAST, bars
from tests.mail.dmarc_documents import DAY_S, record, report
from tests.web.browsing import shown_whole
from tests.web.test_domain import open_domain
from tests.web.test_domains import fill

pytestmark = pytest.mark.asyncio(loop_scope="session")  # one browser for all
CRM = record("198.51.100.7", 40, dkim="fail", signatures=[("crm.example", "k", "pass")], spf_seen=[])
OWN = record("203.0.113.5", 900, spf="pass", signatures=[("shop.example", "k9", "pass")])
NASTY = record(
    "203.0.113.66", 1, dkim="fail", signatures=[('<b>x</b>"', "\u202e<i>", "fail")], spf_seen=[("a.b", "<u>")]
)


def files(*records: str, days: int = 3) -> list[FilePayload]:
    today = int(time.time()) // DAY_S
    return [
        {
            "name": f"{day}.xml",
            "mimeType": "text/xml",
            "buffer": report(*records, begin_s=day * DAY_S, report_id=str(day)).encode(),
        }
        for day in range(today - days, today)
    ]


async def test_reports_are_handed_over_and_senders_judged(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    await fill(engine, memory)
    engine.names = {"198.51.100.7": "out7.crm-mail.example", "203.0.113.5": "mta.shop.example", "203.0.113.66": "<b>.y"}
    page = await open_domain(browser, url)
    part = page.locator("#dmarc")
    await expect(part).to_contain_text("No report has come in yet.")
    await part.get_by_label("Hand over reports").set_input_files(files(OWN, CRM, NASTY))
    await part.get_by_role("button", name="Take in").click()
    await expect(page.locator(".note")).to_contain_text("3 reports taken in.")
    await expect(part.get_by_role("img")).to_have_accessible_name(re.compile("2,700 pass, 123 fail"))
    await expect(part.locator("tr", has_text="crm.example")).to_contain_text("not known")
    await expect(part.locator("tr", has_text="crm.example")).to_contain_text("out7.crm-mail.example")
    await part.get_by_role("button", name="crm.example is not ours").click()
    await expect(page.locator(".note")).to_contain_text("crm.example does not speak for the domain.")
    await expect(part.locator("tr", has_text="crm.example")).to_contain_text("not ours")
    await part.get_by_role("button", name="Take back what was said of crm.example").click()
    await expect(part.locator("tr", has_text="crm.example")).to_contain_text("not known")
    await part.get_by_label("Hand over reports").set_input_files(files(OWN, CRM, NASTY, days=4))
    await part.get_by_role("button", name="Take in").click()
    await expect(page.locator(".note")).to_contain_text("1 report taken in, 3 known already.")
    assert await part.locator("b, i:not(.dot), u").count() == 0, "what strangers write is text"


async def test_a_file_that_is_none_is_named(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    await fill(engine, memory)
    page = await open_domain(browser, url)
    good, bad = files(OWN, days=1), {"name": "cat.png", "mimeType": "image/png", "buffer": b"\x89PNG"}
    await page.get_by_label("Hand over reports").set_input_files([*good, FilePayload(**bad)])  # type: ignore[typeddict-item]
    await page.get_by_role("button", name="Take in").click()
    trouble = page.locator("#reports-wrong")
    await expect(trouble).to_contain_text(
        "cat.png: it is neither XML, gzip, ZIP nor a message; 1 before it were taken in"
    )
    await expect(page.locator("#dmarc")).to_contain_text("900")
    await expect(page.get_by_label("Hand over reports")).to_be_focused()


async def test_who_may_only_read_judges_nobody(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    await fill(engine, memory)
    for one in files(OWN, CRM):
        await engine.dmarc.take(engine.actors["all"], one["buffer"])
    page = await open_domain(browser, url, "reader")
    await expect(page.locator("#dmarc tr", has_text="crm.example")).to_contain_text("not known")
    await expect(page.locator("#dmarc button")).to_have_count(0)


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_it_fits(browser: Browser, url: str, engine: Any, memory: Any, width: int, scheme: Any) -> None:
    await fill(engine, memory)
    engine.names = {
        "198.51.100.7": "out7.crm-mail.example",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff": "x" * 60 + ".example",
    }
    for one in files(OWN, CRM, NASTY, record("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 50, dkim="fail", signatures=[])):
        await engine.dmarc.take(engine.actors["all"], one["buffer"])
    page = await open_domain(browser, url, viewport={"width": width, "height": 900}, color_scheme=scheme)
    await expect(page.locator("#dmarc")).to_contain_text("2001:db8:ffff:ffff::/64")
    await shown_whole(page, "dmarc", width, scheme)


async def test_bars() -> None:
    days = [
        DmarcDayView(day="2026-01-31", messages=1000, passed=999),
        DmarcDayView(day="2026-02-03", messages=10, passed=0),
        DmarcDayView(day="2026-02-04", messages=0, passed=0),
    ]
    found = bars(days)
    assert [one.at for one in found] == [0, 3, 4]
    assert [(one.passed_height, one.failed_height) for one in found] == [
        (CHART_HEIGHT - LEAST, LEAST),
        (0, LEAST),
        (0, 0),
    ]
    assert bars([]) == []
