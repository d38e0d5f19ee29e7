"""The page of ways out in a real browser: what is seen, who may steer, and what a remote's words cannot do."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from mailfleet.engine import braking
from mailfleet.engine.requests import Actor
from mailfleet.policy.brakes import Decision
from mailfleet.store import listings
from mailfleet.store.database import Tx
from tests.web.browsing import NASTY, asked, log_in, shown_whole

AT_MS = 1_769_850_000_000
pytestmark = pytest.mark.asyncio(loop_scope="session")  # one browser for all


async def fill(engine: Any) -> None:
    """Two sources and a relay; a brake with hostile words; a warm-up; a listing."""
    actor: Actor = engine.actors["all"]
    for number in (1, 2):
        values = {"address": f"192.0.2.{number}", "ehlo_name": f"mail{number}.shop.example"}
        await engine.fleet.add_source(actor, f"s{number}", values)
    await engine.fleet.add_relay(actor, "upstream", {"host": "smtp.relay.example", "tls": "required"})
    await engine.steer.plan(actor, "s1", plan="standard", provider="gmail", stage=2)

    def brake(tx: Tx) -> None:
        decision = Decision(
            "rest", 0, 60_000, 60_000, "the provider thinks little of this address", "rule-1", f"550 {NASTY}", "rule", 2
        )
        braking.apply(tx, [decision], engine.ids, now_ms=AT_MS, scale=1)
        listings.put(
            tx,
            listings.Listing(
                7,
                2,
                "192.0.2.1",
                "barracuda",
                "open",
                "127.0.0.2",
                NASTY,
                "{}",
                "rest",
                0,
                AT_MS,
                AT_MS,
                0,
                "",
            ),
        )

    await engine.database.write(brake)


async def ways_out(browser: Browser, url: str, token: str = "all", **options: Any) -> Page:
    page = await log_in(browser, url, token, **options)
    await page.get_by_role("link", name="Ways out").click()
    await expect(page.get_by_role("heading", name="Sources and relays")).to_be_visible()
    return page


async def test_see_and_steer(browser: Browser, url: str, engine: Any) -> None:
    await fill(engine)
    page = await ways_out(browser, url)
    await expect(page.get_by_role("link", name="Ways out")).to_have_attribute("aria-current", "page")
    row = page.get_by_role("row", name="s2 192.0.2.2")
    await row.get_by_role("button", name="Pause s2").click()
    await expect(row.locator(".state")).to_have_text("paused")
    await expect(row).to_contain_text("on the page, by all")
    await row.get_by_role("button", name="Resume s2").click()
    await expect(row.locator(".state")).to_have_text("active")
    await asked(page, row.get_by_role("button", name="Drain s2"), True)
    await expect(row.locator(".state")).to_have_text("draining")
    await expect(page.get_by_role("row", name="upstream relay smtp.relay.example:587")).to_contain_text("has its own")
    await expect(page.get_by_role("row", name="s1 to gmail")).to_contain_text("0 of 400")
    incidents = page.locator("[data-live='/live/incidents']")
    await expect(incidents).to_contain_text("192.0.2.1 on barracuda, source s1")

    brake = page.locator("[data-live='/live/brakes'] li").first
    await expect(brake).to_contain_text("0 % is left")
    await expect(brake).to_contain_text("<script>")
    assert await page.evaluate("window.hit") is None
    await asked(page, brake.get_by_role("button", name="Lift"), False)
    await asked(page, brake.get_by_role("button", name="Lift"), True)
    await expect(page.get_by_text("Nothing holds mail back.")).to_be_visible()


async def test_who_may_only_read_sees_no_buttons_and_cannot_steer(browser: Browser, url: str, engine: Any) -> None:
    await fill(engine)
    page = await ways_out(browser, url, "reader")
    await expect(page.get_by_role("row", name="s1 192.0.2.1")).to_be_visible()
    await expect(page.locator("main button")).to_have_count(0)
    secret = await page.locator("input[name=csrf]").first.get_attribute("value")
    for path in ("source/s1/pause", "brakes/brk_1/lift"):
        answer = await page.request.post(f"{url}/ways-out/{path}", form={"csrf": secret or ""})
        assert answer.status == 403
        assert "may not change sources" in await answer.text()
    (view,) = [one for one in await engine.fleet.egresses(engine.actors["all"], "source") if one.name == "s1"]
    assert view.state == "active"


async def test_what_is_not_there_is_said(browser: Browser, url: str, engine: Any) -> None:
    page = await ways_out(browser, url)
    secret = await page.locator("input[name=csrf]").first.get_attribute("value") or ""
    for path, status, words in (
        ("source/nobody/pause", 409, "there is no source"),
        ("source/default/explode", 404, "no such action"),
        ("planet/default/pause", 404, "no such action"),
        ("brakes/brk_0000000000000/lift", 409, "there is no brake"),
    ):
        answer = await page.request.post(f"{url}/ways-out/{path}", form={"csrf": secret})
        assert (answer.status, words in await answer.text()) == (status, True), path
    answer = await page.request.post(f"{url}/ways-out/source/default/pause", form={"csrf": "guess"})
    assert answer.status == 403
    await expect(page.get_by_text("Nothing is being warmed up.")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits(browser: Browser, url: str, engine: Any, width: int, scheme: Any) -> None:
    await fill(engine)
    page = await ways_out(browser, url, viewport={"width": width, "height": 900}, color_scheme=scheme)
    await shown_whole(page, "ways-out", width, scheme)
