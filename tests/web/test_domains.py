"""The page of sending domains in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, expect

from mailfleet.mail.dkim import ED25519, SigningKey
from mailfleet.policy.dns_checks import Check, Kept
from mailfleet.store import dns as dns_rows
from mailfleet.store import sending
from mailfleet.store.database import Tx
from tests.web.browsing import NASTY, log_in, shown_whole

pytestmark = pytest.mark.asyncio(loop_scope="session")  # one browser for all
AT_MS = 1_769_850_000_000
PUBLIC = SigningKey.generate(ED25519).public_record()
KEY = "v=DKIM1; k=rsa; p=" + "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA" * 8


async def fill(engine: Any, memory: Any, *, checked: bool = True) -> None:
    """A domain with a key, and checks of every state; what was found is hostile."""
    checks = [
        Check("dkim:mf1", "ok", "v=DKIM1; k=rsa; p=MIIB", "", "the key"),
        Check(
            "dmarc",
            "failed",
            NASTY,
            "_dmarc.shop.example TXT v=DMARC1; p=none",
            "there is no such record",
            "publish it",
        ),
        Check("replies", "warning", "nothing", "an MX record", "nobody can reply", "publish MX records"),
        Check("dnssec", "unknown", "", "", "the resolver does not say"),
    ]

    def work(tx: Tx) -> None:
        domain = sending.SendingDomain(5, 1, "shop.example", "bounce.shop.example", AT_MS, rotate_days=90)
        sending.add(tx, domain, [sending.DkimKey(6, 5, "mf1", ED25519, b"", PUBLIC, 1, AT_MS)])
        if checked:
            dns_rows.put_standing(tx, domain.name, {one.name: Kept(one, AT_MS, AT_MS) for one in checks})

    await engine.database.write(work)
    record = memory.DnsRecordView(name="mf1._domainkey.shop.example", type="TXT", value=KEY, purpose="DKIM")
    engine.domain_log["shop.example"] = memory.DomainView(
        domain="shop.example",
        return_path_host="bounce.shop.example",
        selectors=["mf1"],
        records=[record],
        created_at=memory.AT,
    )


async def test_what_is_wrong_is_seen_and_what_to_do(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    await fill(engine, memory)
    page = await log_in(browser, url)
    await page.get_by_role("link", name="Domains").click()
    card = page.locator("article.domain")
    await expect(card.locator("h2 .standing")).to_have_text("failed")
    await expect(card).to_contain_text("1 failed, 1 warning, 1 unknown, 1 ok")
    await expect(card).to_contain_text("Sends no campaign: dmarc: there is no such record")
    await expect(card).to_contain_text("Next: publish it")
    await expect(card).to_contain_text("a new key every 90 days")
    await card.get_by_role("link", name="shop.example").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("shop.example")
    checks = page.locator("#checks")
    await expect(checks).to_contain_text("<script>")
    await expect(checks).to_contain_text("Expected: _dmarc.shop.example TXT v=DMARC1; p=none")
    assert await page.evaluate("window.hit") is None
    await checks.get_by_text("1 check is ok").click()
    await expect(checks.get_by_text("dkim:mf1")).to_be_visible()
    await page.wait_for_event("response", lambda answer: "/live/" in answer.url)
    await page.wait_for_event("response", lambda answer: "/live/" in answer.url)
    await expect(checks.get_by_text("dkim:mf1")).to_be_visible()  # it stays open while the page keeps itself up to date
    await checks.get_by_role("button", name="Check shop.example now").click()
    await expect(checks.locator("h2 .standing")).to_have_text("unknown")  # nobody answers here


async def test_nothing_yet(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    page = await log_in(browser, url)
    await page.goto(f"{url}/domains")
    await expect(page.get_by_text("No sending domain yet.")).to_be_visible()
    await fill(engine, memory, checked=False)
    await expect(page.get_by_text("not looked at yet")).to_be_visible()
    await page.get_by_role("link", name="shop.example").click()
    await expect(page.get_by_text("Nobody has looked yet.")).to_be_visible()
    answer = await page.goto(f"{url}/domains/other.example")
    assert answer
    assert answer.status == 404
    await expect(page.get_by_role("alert")).to_contain_text("other.example is not a sending domain")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits(browser: Browser, url: str, engine: Any, memory: Any, width: int, scheme: Any) -> None:
    await fill(engine, memory)
    page = await log_in(browser, url, viewport={"width": width, "height": 900}, color_scheme=scheme)
    await page.goto(f"{url}/domains")
    await shown_whole(page, "domains", width, scheme)
    await page.goto(f"{url}/domains/shop.example")
    await page.get_by_text("All of it as text of a zone file").click()
    await shown_whole(page, "domain", width, scheme)
