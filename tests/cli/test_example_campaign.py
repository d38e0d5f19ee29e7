"""examples/newsletter: the list is the one its script makes, has the dirt it promises, and fills the newsletter."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import minijinja

from mailfleet.base.errors import Problem
from mailfleet.cli.files import embed_images, read_text
from mailfleet.mail.address import Address
from mailfleet.mail.recipients import RecipientReader, RecipientRow

ROOT = Path(__file__).parents[2]
NEWSLETTER = ROOT / "examples" / "newsletter" / "newsletter.html"
RECIPIENTS = ROOT / "examples" / "newsletter" / "recipients.csv"


@cache
def read() -> tuple[list[RecipientRow], list[Problem]]:
    reader = RecipientReader("csv")
    found = reader.feed(RECIPIENTS.read_bytes()) + reader.close()
    rows = [one for one in found if isinstance(one, RecipientRow)]
    return rows, [one for one in found if isinstance(one, Problem)]


def test_the_list_is_what_its_script_makes() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make-example-recipients"], capture_output=True, check=True
    )
    assert made.stdout == RECIPIENTS.read_bytes()


def test_ten_thousand_rows_some_broken_some_twice() -> None:
    rows, problems = read()
    assert len(rows) + len(problems) == 10_000
    assert len(problems) == 22
    keys = Counter(Address.parse(row.address).key for row in rows)
    assert sum(keys.values()) - len(keys) == 60


def test_the_dirt_of_real_lists_is_in_it() -> None:
    raw = RECIPIENTS.read_bytes()
    rows, problems = read()
    assert raw.startswith(b"\xef\xbb\xbf")
    assert b"\r\n\r\n" in raw
    assert not raw.endswith(b"\n")
    assert {one.code for one in problems} == {
        "bad-address", "missing-address", "too-many-cells", "stray-quote", "bad-utf8", "nul", "open-quote",
    }  # fmt: skip
    addresses = [Address.parse(row.address) for row in rows]
    assert sum("+" in address.local_part for address in addresses) > 100
    assert sum(address.needs_smtputf8 for address in addresses) == 5
    assert sum(str(address).startswith('"') for address in addresses) >= 5
    assert sum("xn--" in address.domain for address in addresses) > 20
    assert sum("last_name" not in row.fields for row in rows) > 50
    assert any("\u0600" <= str(row.fields.get("first_name", ""))[:1] <= "\u06ff" for row in rows)
    assert any("\n" in str(row.fields.get("note", "")) for row in rows)
    assert any(row.address.isupper() for row in rows)


def test_addresses_at_large_providers_belong_to_nobody() -> None:
    for row in read()[0]:
        address = Address.parse(row.address)
        if not address.domain.endswith(".example") and ".xn--" not in f".{address.domain}":
            assert re.search(r"\.ex\d*(\+|$)", address.local_part.casefold()), row.address


def test_every_usable_row_fills_the_newsletter_with_undefined_variables_forbidden() -> None:
    environment = minijinja.Environment(undefined_behavior="strict")
    environment.add_template("newsletter.html", NEWSLETTER.read_text("utf-8"))
    for row in read()[0]:
        copy = environment.render_template("newsletter.html", **{**row.fields, "email": row.address})
        assert "{{" not in copy
    assert "Good morning, friend" in environment.render_template("newsletter.html", email="ann@example.org")


def test_the_newsletter_is_like_a_real_one() -> None:
    html = read_text(NEWSLETTER, "--html")
    assert 20_000 < len(html.encode()) < 30_000
    assert len(re.findall(r"<a\s[^>]*href=", html)) == 15
    assert "prefers-color-scheme: dark" in html
    embedded, images = embed_images(html, NEWSLETTER)
    assert [image["filename"] for image in images] == ["logo.png"]
    assert f"cid:{images[0]['content_id']}" in embedded
    assert embedded.count('src="https://shop.example/') == 5
