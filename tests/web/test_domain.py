"""The page of one sending domain in a real browser: its settings, its logo, and records to copy."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from mailfleet.engine.domain_views import DomainSettings
from tests.web.browsing import asked, log_in, shown_whole
from tests.web.test_domains import fill

pytestmark = pytest.mark.asyncio(loop_scope="session")  # one browser for all
LOGO = (
    '<svg xmlns="http://www.w3.org/2000/svg" version="1.2" baseProfile="tiny-ps" viewBox="0 0 8 8">'
    '<title>Shop</title><rect width="8" height="8" fill="#{}"/></svg>'
)

WRONG = [
    ("DMARC reports to", "nobody", "there is no @ in it"),
    ("DMARC reports to", "m\u00fcller@shop.example", "cannot stand in a DNS record"),
    ("New DKIM key", "5000", "less than or equal to 3650"),
    ("New DKIM key", "", "valid integer"),
    ("Its mail hosts", "mx1.shop.example\nnot_a/host", "is no host name"),
    ("TLS reports to", "https://[", "there is no @ in it"),
    ("Public host", "assets.other.example", "no free host of shop.example"),
    ("Public host", "a..b", "no free host of shop.example"),
    ("Address of the mark certificate", "http://shop.example/mark.pem", "no address of a mark certificate"),
]


async def open_domain(browser: Browser, url: str, token: str = "all", **options: Any) -> Page:
    page = await log_in(browser, url, token, **options)
    await page.goto(f"{url}/domains/shop.example")
    return page


async def test_settings_are_changed(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    await fill(engine, memory)
    page = await open_domain(browser, url)
    await page.get_by_label("DMARC policy").select_option("quarantine")
    await page.get_by_label("DMARC reports to").fill("dmarc@shop.example")
    await page.get_by_label("How the policy goes on").select_option("auto")
    await page.get_by_label("New DKIM key").fill("180")
    await page.get_by_label("MTA-STS").select_option("testing")
    await page.get_by_label("Its mail hosts").fill("mx1.shop.example\n*.mx.shop.example")
    await page.get_by_label("TLS reports to").fill("https://reports.example/tls")
    await page.get_by_label("Public host").fill("Assets.Shop.Example")
    await page.get_by_label("Address of the mark certificate").fill("https://assets.shop.example/mark.pem")
    await page.get_by_label("Address of the mark certificate").press("Enter")
    await expect(page.locator(".note")).to_contain_text("The settings are changed.")
    await expect(page.get_by_label("Public host")).to_have_value("assets.shop.example")
    await expect(page.locator("#records")).to_contain_text("rua=mailto:dmarc@shop.example")
    await expect(page.locator("#records")).to_contain_text("mta-sts.shop.example")
    await page.reload()
    await expect(page.get_by_text("The settings are changed.")).to_have_count(0)
    assert await engine.domain_options.get(engine.actors["all"], "shop.example") == DomainSettings(
        dmarc_policy="quarantine",
        dmarc_reports_to="dmarc@shop.example",
        dmarc_rollout="auto",
        rotate_days=180,
        mta_sts="testing",
        mta_sts_mx=["mx1.shop.example", "*.mx.shop.example"],
        tls_reports_to="https://reports.example/tls",
        public_host="assets.shop.example",
        bimi_evidence="https://assets.shop.example/mark.pem",
    )


async def test_a_page_that_stood_open_undoes_nothing(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    await fill(engine, memory)
    options, actor = engine.domain_options, engine.actors["all"]
    seen = DomainSettings(dmarc_policy="reject", dmarc_rollout="auto")
    await options.set(actor, "shop.example", seen)
    page = await open_domain(browser, url)
    now = seen.model_copy(update={"dmarc_policy": "none"})  # reports show that mail is lost
    await options.set(actor, "shop.example", now)
    for days in ("5000", "90"):  # the first is refused
        await page.get_by_label("New DKIM key").fill(days)
        await page.get_by_role("button", name="Save settings").click()
        if days == "5000":
            await expect(page.get_by_text("Nothing was changed.")).to_be_visible()
    await expect(page.locator(".note")).to_contain_text("The settings are changed.")
    await expect(page.get_by_label("DMARC policy")).to_have_value("none")
    assert await options.get(actor, "shop.example") == now.model_copy(update={"rotate_days": 90})


async def test_what_is_wrong_is_said_beside_its_field_and_nothing_typed_is_lost(
    browser: Browser, url: str, engine: Any, memory: Any
) -> None:
    await fill(engine, memory)
    page = await open_domain(browser, url)
    for label, value, words in WRONG:
        await page.goto(f"{url}/domains/shop.example")
        await page.get_by_label("MTA-STS").select_option("enforce")
        typed = {
            "New DKIM key": "30",
            "DMARC reports to": "d@shop.example",
            "Its mail hosts": "mx.shop.example",
            label: value,
        }
        for one, text in typed.items():
            await page.get_by_label(one).fill(text)
        await page.get_by_role("button", name="Save settings").click()
        field = page.get_by_label(label)
        await expect(field).to_have_attribute("aria-invalid", "true")
        await expect(field).to_be_focused()
        told = (await field.get_attribute("aria-describedby") or "").split()[0]
        await expect(page.locator(f"#{told}")).to_contain_text(words)
        await expect(page.locator(".field.invalid")).to_have_count(1)
        for one, text in typed.items():
            await expect(page.get_by_label(one)).to_have_value(text)
        await expect(page.get_by_label("MTA-STS")).to_have_value("enforce")
        assert (await engine.domain_options.get(engine.actors["all"], "shop.example")).rotate_days == 90


async def test_records_are_shown_when_name_servers_are_slow(
    browser: Browser, url: str, engine: Any, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailfleet.web.domain.PLAN_WITHIN_S", 0)
    await fill(engine, memory)
    page = await open_domain(browser, url)
    await expect(page.get_by_text("Its name servers did not answer in time")).to_be_visible()
    await expect(page.locator("#records")).to_contain_text("mf1._domainkey.shop.example")


async def test_a_logo_is_shown_exchanged_and_removed(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    await fill(engine, memory)
    page = await open_domain(browser, url)
    await expect(page.locator("#logo")).to_contain_text("First set a public host")
    await page.get_by_label("Public host").fill("assets.shop.example")
    await page.get_by_role("button", name="Save settings").click()
    for colour in ("c0392b", "2980b9"):
        chosen: Any = {"name": "l.svg", "mimeType": "image/svg+xml", "buffer": LOGO.format(colour).encode()}
        await page.locator("#logo-file").set_input_files(chosen)
        await page.get_by_role("button", name="Show this logo").click()
        await expect(page.get_by_text("The logo is changed.")).to_be_visible()
        image = page.get_by_alt_text("The logo of shop.example")
        await expect(image).to_be_visible()
        assert await image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        assert colour in await engine.domain_options.logo(engine.actors["all"], "shop.example")
    await expect(page.locator("#records")).to_contain_text("v=BIMI1; l=https://assets.shop.example/bimi/")
    wrong: Any = {"name": "l.svg", "mimeType": "image/svg+xml", "buffer": b"<svg onload='window.hit=1'/>"}
    await page.locator("#logo-file").set_input_files(wrong)
    await page.get_by_role("button", name="Show this logo").click()
    await expect(page.locator("#logo-wrong")).to_contain_text("its root is no svg element in the SVG namespace")
    await page.wait_for_load_state()  # its script is run last
    await page.locator("#logo-file").set_input_files(wrong | {"buffer": b"x" * 40_000})
    assert await page.locator("#logo-file").evaluate("field => field.validationMessage") != ""
    await expect(page.get_by_alt_text("The logo of shop.example")).to_be_visible()
    await asked(page, page.get_by_role("button", name="Remove the logo"), True)
    await expect(page.locator("#logo")).to_contain_text("No logo.")
    answer = await page.request.get(f"{url}/domains/shop.example/logo.svg")
    assert answer.status == 404


async def test_what_is_to_be_published_is_copied_as_it_is(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    await fill(engine, memory)
    page = await open_domain(browser, url, permissions=["clipboard-read", "clipboard-write"])
    await page.evaluate("window.setTimeout = () => 0")  # what is told of a copy stays
    plan = await engine.domains.plan(engine.actors["all"], "shop.example")
    first = page.locator("#records li").first
    await expect(first).to_contain_text(plan.records[0].purpose)
    for what, text in (("name", plan.records[0].name), ("value", plan.records[0].value)):
        await first.get_by_role("button", name=f"Copy the {what} of record 1").click()
        await expect(first.get_by_role("button", name=f"Copy the {what}")).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == text
    await page.get_by_text("All of it as text of a zone file").click()
    await page.get_by_role("button", name="Copy the text of the zone file").press("Enter")
    await expect(page.locator("#copied")).to_contain_text("the text of the zone file")
    assert await page.evaluate("navigator.clipboard.readText()") == plan.zone
    # Where the browser gives no clipboard (plain HTTP from another machine) marking and copying does it.
    await page.evaluate("Object.defineProperty(window, 'isSecureContext', { value: false })")
    value = page.locator("#records li").nth(1).get_by_role("button", name="Copy the value of record 2")
    await value.click()
    await expect(value).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == plan.records[1].value


async def test_a_reader_cannot_change_it(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    await fill(engine, memory)
    page = await open_domain(browser, url, "reader")
    await expect(page.get_by_label("DMARC policy")).to_be_disabled()
    assert await page.get_by_role("button", name="Save settings").count() == 0
    csrf = await page.locator("[name=csrf]").first.get_attribute("value") or ""
    for move in ("settings", "logo", "remove-logo"):
        answer = await page.request.post(f"{url}/domains/shop.example/{move}", form={"csrf": csrf})
        assert answer.status == 403
        assert "may not change" in await answer.text()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_long_values_and_errors_fit(
    browser: Browser, url: str, engine: Any, memory: Any, width: int, scheme: Any
) -> None:
    await fill(engine, memory)
    actor = engine.actors["all"]
    await engine.domain_options.set(actor, "shop.example", DomainSettings(public_host="assets.shop.example"))
    await engine.domain_options.set_logo(actor, "shop.example", LOGO.format("27ae60").encode())
    page = await open_domain(browser, url, viewport={"width": width, "height": 900}, color_scheme=scheme)
    await page.get_by_label("Public host").fill("a" * 200 + ".other.example")
    await page.get_by_role("button", name="Save settings").click()
    await expect(page.locator("#public_host-wrong")).to_be_visible()
    await shown_whole(page, "domain-wrong", width, scheme)
