"""Steering the DNS of a domain on its page, in a real browser and a real Knot: seen, published as it was seen, keys changed."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.listen import memory_engine
from tests.peers.knot import KEY, SECRET, Knot
from tests.web.browsing import asked, log_in, shown_whole
from tests.web.test_domains import fill

pytestmark = pytest.mark.asyncio(loop_scope="session")  # one browser for all
HOSTILE = "v=spf1 ip4:192.0.2.0/24 x=<img/src=x/onerror=window.hit=1> -all"
ZONE = ["@ MX 10 office", "office A 127.0.0.9", '@ TXT "some-site-verification=1"']
SPF, MX = f'@ TXT "{HOSTILE}"', "bounce MX 5 elsewhere"


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    zones = {"shop.example": ZONE, "us.test": ["mail A 127.0.0.1"]}
    made = Knot(tmp_path / "knot", zones, secret=SECRET)
    yield made
    made.close()


@pytest.fixture
def engine(upgraded: Path, tmp_path: Path, knot: Knot) -> Iterator[Any]:
    """One that asks Knot, and writes to it where it may."""
    shutil.copy(upgraded, tmp_path / "mailfleet.db")
    made = memory_engine.MemoryEngine(tmp_path, ("127.0.0.1", knot.port))
    yield made
    made.database.close()


async def may_write(engine: Any, secret: str = SECRET) -> None:
    await engine.dns_zones.add_dynamic(
        engine.actors["all"], "shop.example", server="127.0.0.1", key_name=KEY, secret=secret, algorithm="hmac-sha256"
    )


async def open_domain(browser: Browser, url: str, token: str = "all", **options: Any) -> Page:
    page = await log_in(browser, url, token, **options)
    await page.goto(f"{url}/domains/shop.example")
    return page


def ours(knot: Knot) -> list[str]:
    """What is in the zone beside what others have there."""
    theirs = ("10 office", "office.shop.example. ", "ns.shop.example. ", "some-site", "elsewhere", HOSTILE)
    return [line for line in knot.everything("shop.example") if not any(one in line for one in theirs)]


async def test_nothing_is_published_but_what_was_seen(
    browser: Browser, url: str, engine: Any, memory: Any, knot: Knot
) -> None:
    """Without script."""
    await fill(engine, memory)
    await may_write(engine)
    page = await open_domain(browser, url, java_script_enabled=False)
    await page.get_by_role("button", name="See what would change").click()
    part = page.locator("#publish")
    await expect(part.locator(".changes > li")).to_have_count(5)
    await expect(part.locator(".changes > li").first).to_contain_text("Add DKIM")
    assert ours(knot) == []
    knot.replace("shop.example", [*ZONE, SPF, MX])
    await part.get_by_role("button", name="Publish these 5 changes").click()
    await expect(part.get_by_role("alert")).to_contain_text("the changes are not those any more that were shown")
    assert ours(knot) == []
    refused = part.get_by_role("heading", name="Left alone").locator("+ ol > li")
    await expect(refused).to_have_count(2)
    await expect(refused.first).to_contain_text("5 elsewhere.shop.example")
    await expect(refused.last).to_contain_text(HOSTILE)
    await expect(refused.last).to_contain_text(
        HOSTILE.replace("x=", "include:bounce.shop.example -all x=").removesuffix(" -all")
    )
    assert await page.locator("img[src=x]").count() == 0
    await part.get_by_role("button", name="Publish these 3 changes").click()
    await expect(part.get_by_role("status")).to_have_text("Published. Every name server that answers has it.")
    done = part.locator(".changes").first.locator("> li")
    await expect(done.locator(".verb")).to_have_text(["Added"] * 3)
    await expect(done.first.locator(".standing")).to_have_text("ok")
    await done.first.get_by_text("What each name server has").click()
    await expect(done.first.get_by_text("ns.shop.example (127.0.0.1): v=DKIM1")).to_be_visible()
    assert len(ours(knot)) == 3
    await expect(page.locator("#checks h2 .standing")).to_have_text("failed")
    await page.reload()
    await expect(part.get_by_role("status")).to_have_count(0)
    await page.get_by_role("button", name="Check shop.example now").click()
    await expect(page.locator(".note")).to_have_text(re.compile(r"Looked now: 1 failed, .*\d ok"))


async def test_records_of_others_are_replaced_when_somebody_says_so(
    browser: Browser, url: str, engine: Any, memory: Any, knot: Knot
) -> None:
    await fill(engine, memory)
    await may_write(engine, base64.b64encode(b"another secret").decode())
    knot.replace("shop.example", [*ZONE, SPF, MX])
    page = await open_domain(browser, url)
    part = page.locator("#publish")
    await page.get_by_role("button", name="See what would change").click()
    await part.get_by_role("button", name="Show the changes with theirs replaced").click()
    await expect(part.locator(".verb")).to_have_text(["Add", "Replace", "Add", "Replace", "Add"])
    button = part.get_by_role("button", name="Publish these 5 changes")
    await asked(page, button, False)
    await asked(page, button, True)
    await expect(part.get_by_role("alert")).to_contain_text("does not accept the key")
    assert ours(knot) == []
    await engine.dns_zones.remove("shop.example")
    await may_write(engine)
    await asked(page, button, True)
    await expect(part.get_by_role("status")).to_have_text("Published. Every name server that answers has it.")
    lines = knot.everything("shop.example")
    assert len(ours(knot)) == 5
    assert not any("elsewhere" in one or HOSTILE in one for one in lines)
    assert any("include:bounce.shop.example -all x=<img" in one for one in lines)
    assert await page.evaluate("window.hit") is None
    await part.get_by_role("button", name="See what would change").click()
    await expect(part).to_contain_text("The DNS holds all of it already")


async def test_a_key_waits_for_its_record_and_a_leaked_one_goes(
    browser: Browser, url: str, engine: Any, memory: Any, knot: Knot
) -> None:
    await fill(engine, memory)
    page = await open_domain(browser, url)
    part, keys = page.locator("#publish"), page.locator("#keys")
    await expect(part).to_contain_text("The domain is published by hand")
    await part.get_by_role("button", name="See what would change").click()
    await expect(part.get_by_role("heading")).to_have_text(["Publish", "By hand, where the zone is run"])
    assert await part.locator("button.main").count() == 0
    await keys.get_by_role("button", name="Rotate the key").click()
    await expect(keys.get_by_role("status")).to_contain_text("signs as soon as every name server has its record.")
    upcoming = keys.locator("li", has_text="next")
    await expect(upcoming).to_contain_text("which you put there by hand")
    await expect(upcoming).to_contain_text("ns.shop.example (127.0.0.1): nothing")
    await expect(keys.get_by_role("button", name="Rotate the key")).to_have_count(0)
    checks = {
        one.name: one.state for one in (await engine.domains.standing(engine.actors["all"], "shop.example")).checks
    }
    assert checks.pop("dkim:mf1") == "failed"
    assert [state for name, state in checks.items() if name.startswith("dkim:")] == ["warning"]
    await asked(page, keys.get_by_role("button", name="The key has leaked"), False)
    await expect(keys.locator(".standing")).to_have_text(["active", "next"])
    await asked(page, keys.get_by_role("button", name="The key has leaked"), True)
    await expect(keys.locator(".standing")).to_have_text(["leaked", "next"])
    await expect(keys.get_by_role("button")).to_have_count(0)
    await may_write(engine)
    await engine.rotation.run()
    await expect(keys.locator(".standing")).to_have_text(["revoked", "active"])
    await expect(keys.locator("li").first).to_contain_text("Its record goes at")
    await keys.get_by_role("button", name="Rotate the key").click()
    await expect(keys.get_by_role("status")).to_contain_text("signs now, and")
    await expect(keys.locator(".standing")).to_have_text(["revoked", "old", "active"])
    await asked(page, keys.get_by_role("button", name="The key has leaked"), True)
    await expect(keys.get_by_role("status")).to_contain_text("signs now. To go at once: ")
    await expect(keys.locator(".standing")).to_have_text(["revoked", "revoked", "revoked", "active"])


async def test_name_servers_that_take_too_long_are_not_waited_for(
    browser: Browser, url: str, engine: Any, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailfleet.web.domain_dns.LOOK_WITHIN_S", 0)
    await fill(engine, memory)
    page = await open_domain(browser, url)
    await page.get_by_role("button", name="See what would change").click()
    await expect(page.locator("#publish")).to_contain_text("The name servers did not answer in time")
    assert await page.locator("#publish button.main").count() == 0


async def test_a_reader_steers_nothing(browser: Browser, url: str, engine: Any, memory: Any, knot: Knot) -> None:
    await fill(engine, memory)
    await may_write(engine)
    page = await open_domain(browser, url, "reader")
    await page.goto(f"{url}/domains/shop.example?publish=look")
    await expect(page.locator("#keys")).to_contain_text("Signs since")
    assert await page.locator("#publish, #keys button, #checks button").count() == 0
    csrf = await page.locator("[name=csrf]").first.get_attribute("value") or ""
    for move in ("publish", "rotate", "check"):
        answer = await page.request.post(f"{url}/domains/shop.example/{move}", form={"csrf": csrf, "shown": "x"})
        assert answer.status == 403
    manager = await open_domain(browser, url)
    csrf = await manager.locator("[name=csrf]").first.get_attribute("value") or ""
    answer = await manager.request.post(f"{url}/domains/shop.example/publish", form={"csrf": csrf})
    assert (answer.status, "see first what would change" in await answer.text()) == (409, True)
    assert ours(knot) == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits(
    browser: Browser, url: str, engine: Any, memory: Any, knot: Knot, width: int, scheme: Any
) -> None:
    await fill(engine, memory)
    knot.replace("shop.example", [*ZONE, SPF, MX])
    page = await open_domain(browser, url, viewport={"width": width, "height": 900}, color_scheme=scheme)
    part = page.locator("#publish")
    await part.get_by_role("button", name="See what would change").click()
    await shown_whole(page, "publish-by-hand", width, scheme)
    await may_write(engine)
    await page.reload()
    await shown_whole(page, "publish-seen", width, scheme)
    await part.get_by_role("button", name="Publish these").click()
    await part.get_by_text("What each name server has").first.click()
    await shown_whole(page, "publish-done", width, scheme)
    await page.locator("#keys").get_by_role("button", name="Rotate the key").click()
    await expect(page.locator("#keys").get_by_role("status")).to_be_visible()
    await shown_whole(page, "keys-changed", width, scheme)
