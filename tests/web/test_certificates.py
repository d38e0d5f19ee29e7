"""The page of certificates in a real browser: how each stands; renewing, importing and removing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from playwright.async_api import Browser, Page, expect

from mailfleet.base.clock import SystemClock
from mailfleet.base.secretbox import SecretBox
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.domain_views import DomainSettings
from mailfleet.engine.issuing import LocalIssuer
from mailfleet.net.tls_keys import LocalAuthority, new_key
from mailfleet.store import certificates as rows
from mailfleet.store.certificates import Certificate
from mailfleet.store.database import Tx
from tests.web.browsing import NASTY, asked, log_in, shown_whole
from tests.web.test_domains import fill

pytestmark = pytest.mark.asyncio(loop_scope="session")  # one browser for all
HOST = "mail.us.test"
DAY_MS = 86_400_000


@pytest.fixture
def engine(engine: Any, tmp_path: Path) -> Any:
    """With an authority of its own."""
    engine.certificates = Certificates(
        engine.database, SecretBox(bytes(32)), LocalIssuer(tmp_path / "authority"),
        hostname=HOST, next_key_ms=3_600_000, clock=SystemClock(), time_scale=1,
    )  # fmt: skip
    return engine


def made(*hosts: str) -> tuple[str, str]:
    """A chain and its key, as somebody else's authority makes them."""
    authority = LocalAuthority(*LocalAuthority.make(datetime.now(UTC)))
    key = new_key()
    return authority.issue([x509.DNSName(host) for host in hosts], key, datetime.now(UTC)), key.decode()


async def open_page(browser: Browser, url: str, **options: Any) -> Page:
    page = await log_in(browser, url, **options)
    await page.get_by_role("link", name="Certificates").click()
    return page


async def test_a_certificate_is_made_renewed_and_removed(browser: Browser, url: str, engine: Any) -> None:
    page = await open_page(browser, url)
    row = page.locator(".certificate").filter(has_text=HOST)
    await expect(row.locator(".standing")).to_have_text("waiting")
    await expect(row.get_by_role("button", name="Remove")).to_have_count(0)
    await engine.certificates.run_due()
    await expect(row.locator(".standing")).to_have_text("ok")  # without a click
    await expect(row).to_contain_text("sandbox")
    await expect(row).to_contain_text("in 89 d")
    first = await engine.certificates.pairs()
    await row.get_by_role("button", name=f"Renew {HOST} now").click()
    await expect(page.locator(".note")).to_contain_text("asked for")
    assert await engine.certificates.run_due() == 1
    second = await engine.certificates.pairs()
    assert first[HOST][0] != second[HOST][0]
    assert first[HOST][1] == second[HOST][1]
    await row.get_by_role("button", name=f"Renew {HOST} with a new key").click()
    await expect(page.locator(".note")).to_contain_text("the next key is used from")
    await expect(row).to_contain_text("another key waits")
    await expect(row).to_contain_text("Next: publish the TLSA record of its next key")
    await asked(page, row.get_by_role("button", name="Remove"), False)
    assert HOST in await engine.certificates.pairs()
    await asked(page, row.get_by_role("button", name="Remove"), True)
    await expect(row.locator(".standing")).to_have_text("waiting")
    assert await engine.certificates.pairs() == {}


async def test_a_time_that_the_authority_asks_for_is_told_as_such(browser: Browser, url: str, engine: Any) -> None:
    await engine.certificates.run_due()
    page = await open_page(browser, url)
    row = page.locator(".certificate").filter(has_text=HOST)
    await expect(row).not_to_contain_text("as the authority asks")
    (kept,) = await engine.database.read(rows.every)
    at_ms = SystemClock().now_ms() + 10 * DAY_MS
    assert await engine.database.write(lambda tx: rows.plan(tx, kept, at_ms))
    await expect(row).to_contain_text("in 9 d, as the authority asks")


async def test_a_certificate_is_imported(browser: Browser, url: str, engine: Any) -> None:
    page = await open_page(browser, url)
    chain, key = made(HOST, "*.us.test")
    await page.get_by_label("Certificate chain").fill(chain)
    await page.locator("#key_file").set_input_files(
        {"name": "key.pem", "mimeType": "text/plain", "buffer": key.encode()}
    )
    await page.get_by_role("button", name="Import").click()
    await expect(page.locator(".note")).to_contain_text(f"{HOST} shows it until")
    for host in (HOST, "*.us.test"):
        row = page.locator(".certificate").filter(has=page.get_by_text(host, exact=True))
        await expect(row.locator(".standing")).to_have_text("ok")
        await expect(row).to_contain_text("imported")
        await expect(row.get_by_role("button", name="Renew")).to_have_count(0)
    assert {host: pair[0] for host, pair in (await engine.certificates.pairs()).items()} == {
        HOST: chain.strip(),
        "*.us.test": chain.strip(),
    }


@pytest.mark.parametrize("script", [True, False])
async def test_what_is_wrong_with_an_import_is_said_beside_its_field(
    browser: Browser, url: str, engine: Any, script: bool
) -> None:
    page = await open_page(browser, url, java_script_enabled=script)
    chain, _ = made(HOST)
    key = made(HOST)[1].strip()
    for given, field, words in (
        ((chain, "nothing"), "key", "there is no usable private key in it"),
        ((chain, key), "key", "the key is not the certificate's"),
        (("nothing", key), "chain", "there is no certificate in it"),
    ):
        await page.get_by_label("Certificate chain").fill(given[0])
        await page.get_by_label("Private key").fill(given[1])
        await page.get_by_role("button", name="Import").click()
        await expect(page.locator(f"#{field}-wrong")).to_contain_text(words)
        await expect(page.locator(f"#{field}")).to_have_attribute("aria-invalid", "true")
        await expect(page.locator("[aria-invalid]")).to_have_count(1)
        assert (await page.get_by_label("Certificate chain").input_value()).strip() == given[0].strip()
        assert await page.get_by_label("Private key").input_value() == (given[1] if script else "")  # never sent back
    assert await engine.certificates.pairs() == {}
    chain, key = made(HOST)
    for field, text in (("chain", chain), ("key", key)):  # a file is taken in place of what stands there still
        chosen: Any = {"name": "x.pem", "mimeType": "text/plain", "buffer": text.encode()}
        await page.locator(f"#{field}_file").set_input_files(chosen)
        if script:
            await expect(page.locator(f"#{field}")).to_have_value("")
    await page.get_by_role("button", name="Import").click()
    await expect(page.locator(".note")).to_contain_text("shows it until")
    assert (await engine.certificates.pairs())[HOST][0] == chain.strip()


async def test_nothing_is_there_and_a_reader_changes_nothing(browser: Browser, url: str, engine: Any) -> None:
    engine.certificates._issuer = None
    page = await open_page(browser, url, token="reader")
    await expect(page.get_by_text("No certificate.")).to_be_visible()
    await expect(page.get_by_role("button", name="Import")).to_have_count(0)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_state_fits(browser: Browser, url: str, engine: Any, memory: Any, width: int, scheme: Any) -> None:
    await fill(engine, memory)
    actor, now_ms = engine.actors["all"], time.time_ns() // 1_000_000
    await engine.domain_options.set(
        actor, "shop.example", DomainSettings(public_host="assets.shop.example", mta_sts="testing", mta_sts_mx=["mx.a"])
    )
    problem = f"the authority refuses: urn:ietf:params:acme:error:unauthorized {NASTY} " + "x" * 200

    def row(host: str, issuer: str, left_days: float, **changes: Any) -> Certificate:
        end_ms = now_ms + round(left_days * DAY_MS)
        one = Certificate(host, issuer, "x", None, None, 0, end_ms - 90 * DAY_MS, end_ms, now_ms, 0, "", 0)
        return one._replace(**changes)

    def work(tx: Tx) -> None:
        rows.put(tx, row(HOST, "acme", 60, next_try_ms=now_ms + 30 * DAY_MS))
        rows.put(tx, row("assets.shop.example", "acme", 3, problem=problem, next_try_ms=now_ms + 3_600_000))
        rows.put(tx, row("w" * 60 + "." + "long-name" * 6 + ".example", "own", -2))

    await engine.database.write(work)
    page = await open_page(browser, url, viewport={"width": width, "height": 900}, color_scheme=scheme)
    await expect(page.locator(".certificate .standing")).to_have_text(["expired", "expiring", "waiting", "ok"])
    await expect(page.locator(".certificate").first).to_contain_text("Next: import its successor")
    await expect(page.locator(".certificate").nth(1)).to_contain_text("Next: put that right, then renew it")
    assert await page.evaluate("window.hit") is None
    await page.get_by_role("button", name="Import").click()
    await expect(page.locator("#chain-wrong")).to_be_visible()
    await shown_whole(page, "certificates", width, scheme)
    await page.goto(f"{url}/domains/shop.example")
    await expect(page.locator("#certificates .standing")).to_have_text(["expiring", "waiting"])
    await shown_whole(page, "domain-certificates", width, scheme)
