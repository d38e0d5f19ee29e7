"""The first page in a real browser: log in, watch, steer; and what strangers write on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.web.browsing import NASTY, asked, log_in

pytestmark = pytest.mark.asyncio(loop_scope="session")  # one browser for all
QUOTED = "\"'><svg onload=window.hit=1> {{ 7*7 }} javascript:window.hit=1"
TURNED = "\u202egnihtemos\u202c\x1b[2J"


def fill(engine: Any, memory: Any) -> None:
    engine.campaigns["cmp_2"] = memory.view_of("cmp_2")
    engine.campaigns["cmp_1"] = memory.view_of(
        "cmp_1",
        name="Welcome to the spring sale",
        state="finished",
        queued=0,
        deferred=0,
        leased=0,
        pending=0,
        delivered=9_610,
        bounced=340,
        expired=40,
    )
    engine.campaigns["cmp_0"] = memory.view_of(
        "cmp_0", name="خبرنامه بهار", state="paused", pause_reason="a typo in the subject"
    )
    engine.happen("delivered", "ann@gmail.example", reply="250 2.0.0 OK 1769850000 a1-2002 - gsmtp")
    engine.happen("bounced", "bob@outlook.example", reply="550 5.5.0 Requested action not taken: mailbox unavailable")
    engine.happen("deferred", "zoë.müller@xn--mnchen-3ya.example", reply="451 4.7.1 Greylisted, come back in 5 minutes")
    engine.happen("suppressed", "carol@yahoo.example", reason="unknown-user on 2026-01-30")
    engine.backlog = memory.QueueView(
        queued=3000,
        deferred=400,
        leased=90,
        sites=[
            memory.queue_row(
                "gmail",
                "mx.gmail.example",
                queued=2500,
                deferred=300,
                leased=60,
                oldest_age_s=95,
                reasons={"greylisted": 300},
            ),
            memory.queue_row("outlook", "mx.outlook.example", queued=500, deferred=100, leased=30, oldest_age_s=5400),
        ],
    )


async def test_log_in_watch_and_steer(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    fill(engine, memory)
    page = await log_in(browser, url, "wrong")
    await expect(page.get_by_role("alert")).to_contain_text("no such token")
    await page.get_by_label("API token").fill("all")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="January news")).to_be_visible()
    await expect(page.locator(".banner")).to_contain_text("1,440 times as fast")
    assert page.url == url + "/"
    cookie = (await page.context.cookies())[0]
    assert cookie["httpOnly"] is True
    assert cookie["sameSite"] == "Strict"
    assert "all" not in cookie["value"]

    card = page.locator(".campaign").first
    await expect(card).to_contain_text("6,600")
    engine.campaigns["cmp_2"] = engine.campaigns["cmp_2"].model_copy(update={"delivered": 7_001})
    await expect(card).to_contain_text("7,001")  # without a click: the page keeps itself up to date
    engine.happen("expired", "dan@gmail.example", reason="two days of trying")
    await expect(page.locator(".events li").first).to_contain_text("dan@gmail.example")

    await card.get_by_role("button", name="Pause").click()
    await expect(page.locator(".campaign").first.locator(".state")).to_have_text("paused")
    await page.locator(".campaign").first.get_by_role("button", name="Resume").click()
    await expect(page.locator(".campaign").first.locator(".state")).to_have_text("sending")
    await asked(page, page.locator(".campaign").first.get_by_role("button", name="Cancel"), False)
    await asked(page, page.locator(".campaign").first.get_by_role("button", name="Cancel"), True)
    await expect(page.locator(".campaign").first.locator(".state")).to_have_text("cancelled")
    assert engine.steered == [("cmp_2", "paused"), ("cmp_2", "sending"), ("cmp_2", "cancelled")]

    await page.get_by_role("link", name="API reference").click()
    await expect(page.get_by_role("heading", name="API reference")).to_be_visible()
    await page.goto(url)
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_label("API token")).to_be_visible()


async def test_a_press_is_heard_though_the_page_keeps_itself_up_to_date_meanwhile(
    browser: Browser, url: str, engine: Any, memory: Any
) -> None:
    fill(engine, memory)
    page = await log_in(browser, url)
    button = page.locator(".campaign").first.get_by_role("button", name="Pause")
    await button.hover()
    await page.mouse.down()
    engine.campaigns["cmp_2"] = engine.campaigns["cmp_2"].model_copy(update={"delivered": 7_001})
    for _ in range(2):
        await page.wait_for_event("response", lambda answer: "/live/" in answer.url)
        await page.wait_for_event("response", lambda answer: "/live/" in answer.url)
    await page.mouse.up()
    await expect(page.locator(".campaign").first.locator(".state")).to_have_text("paused")
    assert engine.steered == [("cmp_2", "paused")]


async def test_a_long_queue_is_waited_for_by_nobody_and_says_how_old_its_count_is(
    browser: Browser, url: str, engine: Any, memory: Any
) -> None:
    fill(engine, memory)
    engine.counted.clear()
    page = await log_in(browser, url)
    await expect(page.get_by_text("The queue is being counted.")).to_be_visible()
    await expect(page.get_by_role("heading", name="January news")).to_be_visible()
    engine.counted.set()
    await expect(page.get_by_role("row", name="gmail")).to_be_visible()
    await expect(page.get_by_text("Counted")).to_have_count(0)
    engine.backlog = engine.backlog.model_copy(update={"age_s": 42.0, "further_sites": 1200})
    await expect(page.get_by_text("Counted 42 s ago.")).to_be_visible()
    await expect(page.get_by_text("1,200 more sites with a shorter backlog are not in the table.")).to_be_visible()


async def test_what_strangers_write_stays_text(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    for number, text in enumerate((NASTY, QUOTED, TURNED)):
        engine.campaigns[f"cmp_{number}"] = memory.view_of(
            f"cmp_{number}", name=text, sender=text, state="paused", pause_reason=text
        )
        engine.happen("bounced", text, reply=f"550 5.1.1 {text}")
        engine.happen(text, text, bounce_class=text)
    row = memory.queue_row(NASTY, QUOTED, queued=1, reasons={QUOTED: 1})
    engine.backlog = memory.QueueView(queued=1, deferred=0, leased=0, sites=[row])
    page = await log_in(browser, url)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    await page.reload()
    await expect(page.locator(".events li").first).to_be_visible()
    engine.happen("delivered", NASTY, reply=NASTY)  # also by the way of a swapped-in part
    await expect(page.locator(".events li").first).to_contain_text("<script>")
    assert await page.evaluate("window.hit") is None
    assert await page.locator("main img, main script").count() == 0
    assert "49" not in await page.locator(".campaign").nth(1).locator("h2").inner_text()
    content = await page.locator("main").inner_text()
    assert "\u202e" not in content
    assert "\x1b" not in content
    assert complaints == []  # nothing on the page breaks its own Content-Security-Policy


async def test_a_reader_sees_and_cannot_steer_and_a_sender_cannot_see(
    browser: Browser, url: str, engine: Any, memory: Any
) -> None:
    fill(engine, memory)
    page = await log_in(browser, url, "reader")
    await expect(page.get_by_role("heading", name="January news")).to_be_visible()
    assert await page.get_by_role("button", name="Pause").count() == 0
    page = await log_in(browser, url, "sender")
    await expect(page.get_by_role("alert")).to_contain_text("scope read")


async def test_the_page_says_when_the_server_is_gone(browser: Browser, url: str, engine: Any, memory: Any) -> None:
    fill(engine, memory)
    page = await log_in(browser, url)
    await expect(page.get_by_role("heading", name="January news")).to_be_visible()
    await page.context.set_offline(True)
    await expect(page.get_by_text("What is shown may be old")).to_be_visible()
    await page.context.set_offline(False)
    await expect(page.get_by_text("What is shown may be old")).to_be_hidden()
    del engine.actors["all"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_it_fits_the_screen(
    browser: Browser, url: str, engine: Any, memory: Any, scheme: str, width: int
) -> None:
    fill(engine, memory)
    engine.happen("bounced", "a" * 200 + "@gmail.example", reply="5" * 400)
    page = await log_in(browser, url, color_scheme=scheme, viewport={"width": width, "height": 900})
    await expect(page.get_by_role("heading", name="January news")).to_be_visible()
    folder = os.environ.get("MAILFLEET_SCREENSHOTS")
    paths = {"home": "/", "docs": "/v1/docs"}
    for name, path in paths.items():
        await page.goto(url + path)
        too_wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert too_wide <= 0, name
        if folder:
            await page.screenshot(path=Path(folder) / f"{name}-{width}-{scheme}.png", full_page=name == "home")
    if folder:
        await page.context.clear_cookies()
        await page.goto(url)
        await page.screenshot(path=Path(folder) / f"login-{width}-{scheme}.png")
