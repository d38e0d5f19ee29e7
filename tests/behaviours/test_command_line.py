"""The commands that scripts rely on, as processes against a running server: what they print and what their exit codes mean."""

from __future__ import annotations

import gzip
import json
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviours.mail import keys_of_sandbox, signed_well
from tests.behaviours.server import Ran, Server, wait_until

PEOPLE = ["ok-ann@gmail.com", "unknown-bob@yahoo.com", "full-clears@outlook.com", "spam-carl@small.example"]
HTML = "<p>Hello {{ name }}</p>"


@pytest.fixture(scope="module")
def campaign(sandbox: Server) -> str:
    """A campaign that has ended, sent by the command line."""
    ran = send(sandbox, "email,name\n" + "".join(f"{one},Name\n" for one in PEOPLE), "--wait", "--json")
    assert ran.code == 0, ran.err
    name: str = ran.last["campaign"]
    return name


def send(server: Server, recipients: str, *options: str, subject: str = "News") -> Ran:
    (server.folder / "list.csv").write_text(recipients)
    (server.folder / "news.html").write_text(HTML)
    return server.cli(
        *("send", "--from", "news@shop.example", "--subject", subject, "--html", "news.html"),
        *("--recipients", "list.csv", *options),
    )


@pytest.fixture
def waiting(sandbox: Server) -> Iterator[str]:
    """A campaign with a deferred recipient: the mailbox is full for hours of the provider's time."""
    name = sandbox.campaign(["full-for-ever@gmail.com"])["campaign"]
    yield name
    sandbox.cli("campaign", "cancel", name)


def test_connection_json_is_for_its_owner_alone(sandbox: Server) -> None:
    path = sandbox.data / "connection.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(sandbox.connection) == {"http", "smtp", "token", "smtp_user", "smtp_password"}


def test_send_ends_with_the_totals(sandbox: Server, campaign: str) -> None:
    ran = sandbox.cli("campaign", "watch", campaign, "--json")
    assert ran.code == 0
    expected = {"campaign": campaign, "recipients": 4, "invalid": 0, "duplicates": 0, "suppressed": 0}
    outcome = {"delivered": 2, "bounced": 2, "expired": 0, "pending": 0}
    assert {**ran.last, **expected, **outcome} == ran.last
    assert ran.last["seconds"] > 0


def test_a_list_with_broken_rows_is_refused_whole(sandbox: Server) -> None:
    before = sandbox.get("/v1/campaigns")["items"]
    ran = send(sandbox, "email,name\nok-1@gmail.com,A\nbroken,B\nok-2@gmail.com,C\n,D\n", "--json")
    assert ran.code == 1
    assert [problem["line"] for problem in ran.last["problems"]] == [3, 5]
    assert sandbox.get("/v1/campaigns")["items"] == before
    people = send(sandbox, "email,name\nok-1@gmail.com,A\nbroken,B\n")
    assert people.code == 1
    assert "broken" in people.err
    assert "--skip-invalid" in people.err


def test_a_variable_that_nobody_has_is_found_before_anything_leaves(sandbox: Server) -> None:
    ran = send(sandbox, "email,name\nok-1@gmail.com,A\n", "--json", subject="{{ nmae }}")
    assert ran.code == 1
    assert "nmae" in json.dumps(ran.last)


def test_dry_run_and_preview_send_nothing(sandbox: Server, tmp_path: Path) -> None:
    before = sandbox.get("/v1/campaigns")["items"]
    ran = send(sandbox, "email,name\nok-1@gmail.com,Äda\nbroken,B\n", "--dry-run", "--json")
    assert ran.code == 0
    assert (ran.last["rows"], ran.last["invalid"]) == (2, 1)
    ran = send(sandbox, "email,name\nok-1@gmail.com,Äda\n", "--preview", "1", "--out", str(tmp_path), "--json")
    assert ran.code == 0
    (written,) = tmp_path.glob("*.eml")
    assert ran.last["previews"] == [str(written)]
    assert b"Subject: News" in written.read_bytes()
    assert sandbox.get("/v1/campaigns")["items"] == before


def test_trace_by_address_id_and_message_id(sandbox: Server, campaign: str) -> None:
    (story,) = sandbox.cli("trace", "full-clears@outlook.com", "--json").objects
    assert [event["kind"] for event in story["events"]] == ["accepted", "deferred", "deferred", "delivered"]
    delivery = story["delivery"]
    assert delivery["campaign"] == campaign
    for name in (delivery["delivery"], delivery["message_id"], "FULL-CLEARS@OUTLOOK.com"):
        assert sandbox.cli("trace", name, "--json").objects == [story]
    told = sandbox.cli("trace", "full-clears@outlook.com").out
    assert "452 4.2.2 Mailbox full" in told
    assert "RCPT TO:<full-clears@outlook.com>" in told
    nobody = sandbox.cli("trace", "nobody-knows@gmail.com", "--json")
    assert (nobody.code, nobody.last["error"]) == (1, "nothing is known of it")


def test_queue_says_what_waits_and_why(sandbox: Server, waiting: str) -> None:
    def site() -> dict[str, object] | None:
        sites = sandbox.cli("queue", "--json").last["sites"]
        return next((one for one in sites if one["provider"] == "gmail" and one["reasons"]), None)

    found = wait_until(site)
    assert found["reasons"] == {"mailbox-full": 1}
    assert (found["queued"], found["deferred"]) == (1, 1)
    assert sandbox.cli("queue").code == 0


def test_events_one_object_a_line(sandbox: Server, campaign: str) -> None:
    found = sandbox.cli("events", "--campaign", campaign, "--json").objects
    kinds = Counter(event["kind"] for event in found)
    assert kinds["accepted"] == 4
    assert (kinds["delivered"], kinds["bounced"], kinds["campaign_finished"]) == (2, 2, 1)
    assert [event["id"] for event in found] == sorted({event["id"] for event in found})
    assert found == sandbox.events(campaign=campaign)
    bounced = sandbox.cli("events", "--campaign", campaign, "--kind", "bounced", "--json").objects
    assert {event["recipient"] for event in bounced} == {PEOPLE[1], PEOPLE[3]}
    followed = sandbox.cli("events", "--follow", "--last", "3", "--limit", "3", "--json").objects
    assert len(followed) == 3


def test_explain_reply(sandbox: Server) -> None:
    lines = "550 5.1.1 User unknown\ngmail\t421-4.7.28 Gmail has detected an unusual rate\n\n250 2.0.0 Ok\n"
    ran = sandbox.cli("explain", "reply", "--json", text=lines, data=False)
    assert ran.code == 0
    unknown, rate, accepted = ran.objects
    assert (unknown["class"], unknown["verdict"], unknown["fault"]) == ("unknown-user", "bounce", "recipient")
    assert unknown["suppress"] is True
    assert unknown["rule"]
    assert (rate["verdict"], rate["suppress"]) == ("defer", False)
    assert accepted["verdict"] == "deliver"
    wrong = sandbox.cli("explain", "reply", "--json", text="550 5.1.1 no\nhello\n", data=False)
    assert wrong.code == 1
    assert len(wrong.objects) == 2
    assert "error" in wrong.last


def test_what_a_bounce_was_explained_as_is_what_happened(sandbox: Server, campaign: str) -> None:
    told = [event["data"] for event in sandbox.events(campaign=campaign, kind="bounced")]
    lines = [f"{data.get('provider', '')}\t{data['reply'].splitlines()[0]}".strip() for data in told]
    explained = sandbox.cli("explain", "reply", "--json", text="\n".join(lines), data=False).objects
    assert [(one["class"], one["verdict"]) for one in explained] == [(data["class"], "bounce") for data in told]


def test_sandbox_report(sandbox: Server, campaign: str) -> None:
    ran = sandbox.cli("sandbox", "report", "--json")
    assert ran.code == 0
    (found,) = ran.objects
    assert set(found["providers"]) == {"gmail", "outlook", "yahoo", "smallbiz", "legacy"}
    for counts in found["providers"].values():
        assert {"accepted", "refused", "repeats", "bad_signatures"} <= set(counts)
        assert counts["repeats"] == counts["bad_signatures"] == 0
    assert found["providers"]["yahoo"]["refused"] == {"unknown-user": 1}
    assert found == sandbox.report()


def test_sandbox_dmarc_reports_pass_for_mail_that_mailfleet_sent(
    sandbox: Server, campaign: str, tmp_path: Path
) -> None:
    (found,) = sandbox.cli("sandbox", "dmarc-reports", str(tmp_path), "--json").objects
    assert sorted(one["file"] for one in found["files"]) == sorted(str(path) for path in tmp_path.iterdir())
    assert {one["provider"] for one in found["files"]} >= {"gmail", "outlook", "smallbiz"}
    assert all(one["passed"] == one["messages"] > 0 for one in found["files"])
    totals, left_out = sandbox.report()["totals"], found["left_out"]
    assert (left_out["no_policy"], left_out["no_domain"]) == ({}, 0)
    assert found["messages"] + left_out["not_seen"] == totals["accepted"] + sum(totals["refused"].values())
    for one in found["files"]:
        document = gzip.decompress(Path(one["file"]).read_bytes()).decode()
        assert document.count("<dkim>pass</dkim>") == document.count("<spf>pass</spf>") == document.count("<record>")
    # And they are taken in as a receiver's are
    taken = sandbox.cli("dmarc", "add", str(tmp_path), "--json")
    assert (taken.code, len(taken.objects)) == (0, len(found["files"]))
    view = sandbox.get("/v1/domains/shop.example/dmarc")
    assert (view["messages"], view["passed"]) == (found["messages"], found["messages"])
    assert [(one["who"], one["kind"]) for one in view["senders"]] == [("default", "ours")]
    assert "100.0 % pass" in sandbox.cli("dmarc", "show", "shop.example").out


def test_sandbox_inbox_saves_byte_for_byte(sandbox: Server, campaign: str, tmp_path: Path) -> None:
    ran = sandbox.cli("sandbox", "inbox", "--save", str(tmp_path), "--json")
    assert ran.code == 0
    files = sorted(tmp_path.glob("*.eml"))
    assert ran.last["saved"] == len(files) >= 2
    key_of = keys_of_sandbox(sandbox)
    assert all(signed_well(path.read_bytes(), key_of) for path in files)
    (one,) = sandbox.cli("sandbox", "inbox", "--address", "OK-ann@gmail.com", "--json").objects
    assert (one["recipient"], one["provider"]) == ("ok-ann@gmail.com", "gmail")


def test_domain_add_prints_what_to_publish_and_can_send_at_once(sandbox: Server) -> None:
    ran = sandbox.cli("domain", "add", "brand.example", "--json")
    assert ran.code == 0
    (view,) = ran.objects
    kinds = {(record["type"], record["name"].partition(".brand")[0]) for record in view["records"]}
    assert any(kind == "TXT" and "_domainkey" in name for kind, name in kinds)
    again = sandbox.cli("domain", "add", "brand.example", "--json")
    assert (again.code, again.last["error"]) == (1, "brand.example is a sending domain already")
    story = sandbox.wait_delivery(sandbox.message("ok-brand@gmail.com", **{"from": "hello@brand.example"}))
    assert story["delivery"]["state"] == "delivered"
    assert sandbox.report()["totals"]["bad_signatures"] == 0
    assert sandbox.cli("domain", "add", "not a domain", "--json").code == 1


def test_codes_of_wrong_use_and_of_a_server_that_is_not_there(sandbox: Server, tmp_path: Path) -> None:
    assert sandbox.cli("send", "--from", "news@shop.example").code == 2
    assert sandbox.cli("no-such-command", data=False).code == 2
    unknown = sandbox.cli("campaign", "show", "cmp_0000000000000", "--json")
    assert unknown.code == 1
    gone = sandbox.cli("queue", "--json", "--data", str(tmp_path), data=False)
    assert gone.code == 3
    assert "no server has been started" in gone.last["error"]
    foreign = send(sandbox, "email,name\nok-1@gmail.com,A\n", "--from", "news@elsewhere.example", "--json")
    assert foreign.code == 1
    assert "mailfleet domain add elsewhere.example" in json.dumps(foreign.last)


def test_what_the_sandbox_has_in_its_dns_of_itself_is_right(sandbox: Server) -> None:
    domain, server = (
        sandbox.cli(*words, "--json") for words in (("domain", "check", "shop.example"), ("server", "check"))
    )
    assert (domain.code, server.code) == (0, 0), domain.err + server.err + server.out
    assert domain.last["ready_for_bulk"] is True
    for ran in (domain, server):
        assert {one["state"] for one in ran.last["checks"]} == {"ok"}, ran.last
