"""What every test of a page in a browser does: log in, press what asks first, look whether all of it fits."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Dialog, Locator, Page, expect

expect.set_options(timeout=30_000)  # as long as a click is waited for
NASTY = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'


async def log_in(browser: Browser, url: str, token: str = "all", **options: Any) -> Page:
    """A page whose log-in is over: a `reload` or `goto` that meets the navigation of a click fails."""
    page = await (await browser.new_context(**options)).new_page()
    await page.goto(url)
    await page.get_by_label("API token").fill(token)
    async with page.expect_event("load"):
        await page.get_by_role("button", name="Log in").click()
    return page


async def asked(page: Page, button: Locator, answer: bool) -> None:
    """Press a button that asks first, and answer: over when the answer is given, so that the next one meets its own."""
    given: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def reply(dialog: Dialog) -> None:
        await (dialog.accept() if answer else dialog.dismiss())
        given.set_result(None)

    page.once("dialog", reply)
    await button.click()
    await given


async def shown_whole(page: Page, name: str, width: int, scheme: str) -> None:
    """Once all is loaded, nothing is wider than the screen. With ``MAILFLEET_SCREENSHOTS`` a picture goes into that folder."""
    await page.wait_for_load_state()
    if folder := os.environ.get("MAILFLEET_SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}-{width}-{scheme}.png", full_page=True)
    assert await page.evaluate("document.documentElement.scrollWidth") <= width, name
