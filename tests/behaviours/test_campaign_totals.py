"""A campaign to recipients of every manner: four accounts of it agree to the last recipient, and every copy is right."""

from __future__ import annotations

import csv
import html
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from mailfleet.mail.address import Address
from tests.behaviours.mail import keys_of_sandbox, parsed, signed_well, text_of
from tests.behaviours.server import Ran, Server, Settings

NAMES = [
    "שרה לוי",
    "محمد علي",
    'Ann "The Boss" O\'Neil',
    "<b>Tom & Jerry</b>",
    "Łukasz Żółć, Jr.",
    "王小明",
    "Zoë 🎉 Ångström",
    "Plain Ann",
    "A very long name that folds " * 4 + "end",
    "back\\slash; semi:colon @ sign",
    "{{ name }} {% if %}",
]
DELIVERED = ("ok", "grey", "full-clears", "later", "ratelimit", "slow", "drop")
BOUNCED = ("unknown", "disabled", "spam", "blocked")
DOMAINS = ("gmail.com", "outlook.com", "yahoo.com", "smallbiz.example", "legacy.example", "workspace.example")
HTML = """<html><head><style>b { color: red }</style></head><body>
<p>Hello <b class="name">{{ name }}</b></p><a href="https://shop.example/?who={{ name | urlencode }}">Go</a></body></html>"""
TEXT = "Hello {{ name }}.\nYour number is {{ number }}.\n"


@dataclass
class Row:
    """A row of the list and what must become of it."""

    address: str
    state: str
    name: str = ""
    number: int = 0


@dataclass
class Campaign:
    """A campaign that has ended, with everybody's account of it."""

    rows: list[Row]
    ran: Ran
    view: dict[str, Any]
    deliveries: list[dict[str, Any]]
    events: list[dict[str, Any]]
    by_key: dict[str, Row] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_key = {key(row.address): row for row in self.rows if row.state not in ("duplicate", "invalid")}


def key(address: str) -> str:
    return Address.parse(address).key


def every_manner() -> Iterator[Row]:
    for domain in DOMAINS:
        for manner in DELIVERED:
            copies = {"ok": 30, "slow": 1}.get(manner, 4)
            yield from (Row(f"{manner}{number}@{domain}", "delivered") for number in range(copies))
        for manner in BOUNCED:
            yield from (Row(f"{manner}{number}@{domain}", "bounced") for number in range(4))
    yield from (Row(f"full{number}@{domain}", "expired") for domain in ("gmail.com", "x.example") for number in "12")
    yield from (Row(f"full{number}@{domain}", "bounced") for domain in ("outlook.com", "yahoo.com") for number in "12")
    yield Row("ann@nullmx.example", "bounced")
    yield Row("ann@nxdomain.example", "bounced")
    yield Row("ann@nomail.example", "bounced")
    yield Row("ok1@implicit.example", "delivered")
    yield Row("ok1@firstdown.example", "delivered")
    yield Row("ok1@down.example", "expired")
    yield Row("ok1@servfail.example", "expired")
    yield Row("ok1@bücher.example", "delivered")
    yield Row("OK2@BÜCHER.example", "delivered")
    yield Row("ok-jörg@gmail.com", "delivered")
    yield Row("ok-用户@smallbiz.example", "delivered")
    yield Row("ok-jörg@yahoo.com", "bounced")  # offers no SMTPUTF8
    yield Row("ok-jörg@legacy.example", "bounced")
    yield Row('"ok quoted"@smallbiz.example', "delivered")
    yield Row("ok+plus.tag@gmail.com", "delivered")
    yield Row("ok1@GMAIL.COM", "duplicate")
    yield Row("OK1@gmail.com", "duplicate")
    yield Row("ok1@xn--bcher-kva.example", "duplicate")
    yield from (Row(f"ok-stopped{number}@outlook.com", "suppressed") for number in range(5))
    yield from (Row(f"many{number}@site{number % 40}.example", "delivered") for number in range(180))
    yield Row("not an address", "invalid")
    yield Row("two@@signs.example", "invalid")


def as_csv(rows: list[Row]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["email", "name", "number"])
    writer.writerows((row.address, row.name, row.number) for row in rows)
    return out.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Two days of retries take 30 seconds: what never gets through has expired by then, and all else has not, on a slow machine too
    settings: Settings = {"sandbox": {"time_scale": 5760}, "retry": {"bulk": {"expire_after_s": 2 * 86400}}}
    with Server(tmp_path_factory.mktemp("totals"), settings) as started:
        yield started


@pytest.fixture(scope="module")
def campaign(server: Server) -> Campaign:
    rows = list(every_manner())
    for number, row in enumerate(rows):
        row.name, row.number = NAMES[number % len(NAMES)], number
        if row.state == "suppressed":
            server.post("/v1/suppressions", {"address": row.address, "reason": "asked us to"})
    (server.folder / "list.csv").write_text(as_csv(rows))
    (server.folder / "news.html").write_text(HTML)
    (server.folder / "news.txt").write_text(TEXT)
    ran = server.cli(
        *("send", "--from", "Shop Ünïcode <news@shop.example>", "--subject", "No {{ number }} for {{ name }}"),
        *("--html", "news.html", "--text", "news.txt", "--recipients", "list.csv", "--skip-invalid"),
        *("--wait", "--json"),
    )
    assert ran.code == 0, ran.err + ran.out
    name = ran.last["campaign"]
    events = server.events(campaign=name)
    return Campaign(rows, ran, server.get(f"/v1/campaigns/{name}"), server.deliveries(name), events)


def test_five_accounts_of_the_totals_agree(server: Server, campaign: Campaign) -> None:
    expected = Counter(row.state for row in campaign.rows)
    told = campaign.ran.last
    assert told["recipients"] == len(campaign.rows) == campaign.view["rows"]
    assert (told["invalid"], told["duplicates"]) == (expected["invalid"], expected["duplicate"])
    wrong = {
        (row["recipient"], row["state"], row["reason"])
        for row in campaign.deliveries
        if row["state"] != campaign.by_key[key(row["recipient"])].state
    }
    assert not wrong
    for state in ("delivered", "bounced", "expired", "suppressed", "cancelled"):
        by_deliveries = sum(row["state"] == state for row in campaign.deliveries)
        by_events = sum(event["kind"] == state for event in campaign.events)
        assert told[state] == campaign.view[state] == by_deliveries == by_events == expected[state], state
    assert told["pending"] == campaign.view["pending"] == 0
    totals = server.report()["totals"]
    assert totals["accepted"] == expected["delivered"]
    assert totals["repeats"] == totals["bad_signatures"] == 0


def test_each_recipient_has_the_outcome_that_the_provider_gave(server: Server, campaign: Campaign) -> None:
    states = {key(row["recipient"]): row["state"] for row in campaign.deliveries}
    assert len(states) == len(campaign.deliveries) == len(campaign.by_key)
    meant = {"accepted": "delivered", "refused": "bounced", "deferred": "expired"}
    decided = {key(recipient): meant[final] for recipient, _, final in server.outcomes()}
    assert {one: states[one] for one in decided} == decided
    # Whoever no provider has decided on never was at one: no host, no way to say the address, suppressed
    silent = {one: state for one, state in states.items() if one not in decided}
    assert set(silent.values()) == {"bounced", "expired", "suppressed"}
    assert len(silent) == 3 + 2 + 2 + 5  # no host, not reachable, no SMTPUTF8, suppressed


def test_a_refusal_is_asked_again_only_where_it_was_about_us(campaign: Campaign) -> None:
    again = {
        (row["recipient"].rstrip("0123456789@").partition("@")[0].rstrip("0123456789"), row["bounce_class"])
        for row in campaign.deliveries
        if row["state"] == "bounced" and row["attempts"] > 1
    }
    assert {manner for manner, _ in again} <= {"blocked", "full"}, again


def test_each_state_has_its_events(campaign: Campaign) -> None:
    kinds: dict[str, list[str]] = {}
    for event in campaign.events:
        if event["delivery"]:
            kinds.setdefault(event["delivery"], []).append(event["kind"])
    finals = {"delivered", "bounced", "expired", "suppressed", "cancelled"}
    for row in campaign.deliveries:
        told = kinds[row["delivery"]]
        assert [kind for kind in told if kind in finals] == [row["state"]], (row, told)
        assert told[0] == ("suppressed" if row["state"] == "suppressed" else "accepted")
        assert told.count("deferred") == (row["attempts"] - 1 if row["state"] != "suppressed" else 0), (row, told)
    assert sum(event["kind"] == "campaign_finished" for event in campaign.events) == 1


def test_only_who_is_gone_for_good_is_suppressed(server: Server, campaign: Campaign) -> None:
    found = {row["address"] for row in server.pages("/v1/suppressions") if row["reason"] == "hard-bounce"}
    gone = {row.address for row in campaign.rows if row.address.startswith(("unknown", "disabled"))}
    assert found >= gone
    others = {one for one in found - gone if not one.endswith(("nullmx.example", "nxdomain.example", "nomail.example"))}
    assert not others


def test_every_accepted_copy_is_there_once_signed_and_personal(server: Server, campaign: Campaign) -> None:
    key_of = keys_of_sandbox(server)
    found = server.inbox()
    assert Counter(key(one.recipient) for one in found) == {
        one: 1 for one, row in campaign.by_key.items() if row.state == "delivered"
    }
    ids = set()
    for one in found:
        row = campaign.by_key[key(one.recipient)]
        assert signed_well(one.data, key_of), one.recipient
        message = parsed(one.data)
        name = " ".join(row.name.split())
        assert message["Subject"] == f"No {row.number} for {row.name}"
        (to,) = message["To"].addresses
        spec = to.addr_spec.encode(
            "utf-8", "surrogateescape"
        ).decode()  # SMTPUTF8 is beyond the standard library's parser
        assert (" ".join(to.display_name.split()), key(spec)) == (name, key(row.address))
        (sender,) = message["From"].addresses
        assert (sender.display_name, sender.addr_spec) == ("Shop Ünïcode", "news@shop.example")
        assert f"Hello {row.name}.\nYour number is {row.number}." in text_of(one.data).replace("\r\n", "\n")
        told = re.search(r'<b class="name"[^>]*>(.*?)</b>', text_of(one.data, "html"), re.DOTALL)
        assert told is not None
        assert "<" not in told[1]
        assert html.unescape(told[1]) == row.name
        assert not message.defects
        ids.add(message["Message-ID"])
    assert len(ids) == len(found)


def test_the_story_of_a_recipient_who_came_back_is_told(server: Server, campaign: Campaign) -> None:
    (story,) = server.get("/v1/trace", what="full-clears1@gmail.com")["items"]
    assert [event["kind"] for event in story["events"]] == ["accepted", "deferred", "deferred", "delivered"]
    deferred = story["events"][1]["data"]
    assert deferred["class"] == "mailbox-full"
    assert "out of storage space" in deferred["reply"]
    assert "RCPT TO:<full-clears1@gmail.com>" in deferred["transcript"]
