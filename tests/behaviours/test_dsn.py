"""Delivery status notifications for submitted mail (RFC 3461, 3464): asked for, owed, sent to the reverse-path, and readable."""

from __future__ import annotations

from email.message import Message
from itertools import count
from typing import Any, cast

import pytest

from tests.behaviours.live import HOSTNAME, Live
from tests.behaviours.mail import as_sent, parsed
from tests.behaviours.network import Network
from tests.behaviours.peer import EXTENSIONS, Peer
from tests.behaviours.server import wait_until
from tests.peers.servers import MailServer

# Four hours are a second; the time to expire is long enough for all that a slow machine does before
SETTINGS = {
    "delivery": {"time_scale": 14400},
    "retry": {
        "transactional": {
            "first_delay_s": 60,
            "max_delay_s": 3600,
            "expire_after_s": 4 * 86400,
            "delay_dsn_after_s": 14400,
        }
    },
}
DOMAINS = (f"site{number}.test" for number in count())
ME = "me@shop.test"
LETTER = (
    b"From: Me <me@shop.test>\r\nTo: ann@site.test\r\nSubject: About DSNs\r\nMessage-ID: <letter@shop.test>\r\n\r\n"
    b"a body that comes back or does not\r\n"
)
REFUSAL = "550 5.1.1 <ann>: no such user here"


@pytest.fixture
def mailbox(network: Network, live: Live, postfix: MailServer) -> MailServer:
    """Where DSNs to shop.test arrive: at Postfix."""
    network.withdraw("shop.test")
    network.withdraw("mx0.shop.test")
    network.mail_domain("shop.test", (10, network.hand_on(postfix.host, postfix.port)))
    return postfix


def host(network: Network, **manners: Any) -> tuple[str, Peer]:
    domain, peer = next(DOMAINS), network.peer(**manners)
    network.mail_domain(domain, (10, peer.host))
    return domain, peer


def refusing(network: Network, reply: str = REFUSAL, **manners: Any) -> str:
    return host(network, answer=lambda verb, line: reply if verb == "RCPT" else None, **manners)[0]


def story_of(live: Live, address: str) -> dict[str, Any]:
    """The story of the last mail to ``address``, once it is over."""
    (newest, *_) = wait_until(lambda: live.get("/v1/trace", what=address)["items"])
    return live.wait_delivery(newest["delivery"]["delivery"])


def told(story: dict[str, Any]) -> list[str]:
    return [event["data"]["action"] for event in story["events"] if event["kind"] == "dsn_sent"]


def read(stored: bytes) -> tuple[dict[str, str], dict[str, str], Message]:
    """The fields about the message, those about the recipient, and the part that was returned."""
    message = parsed(as_sent(stored))
    assert message["Return-Path"] == "<>"
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["To"] == ME
    assert HOSTNAME in message["From"]
    assert not message.defects
    words, status, returned = cast(list[Message], message.get_payload())
    assert words.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    about_message, about_recipient = cast(list[Message], status.get_payload())
    return dict(about_message.items()), dict(about_recipient.items()), returned


def test_a_failure_is_told_with_everything_that_was_asked(live: Live, network: Network, mailbox: MailServer) -> None:
    domain = refusing(network)
    live.submit(
        LETTER,
        ME,
        [f"ann@{domain}"],
        ["RET=FULL", "ENVID=order+2B4711"],
        ["NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;ann+2Btag@list.test"],
    )
    (stored,) = mailbox.wait_for(1)
    message, recipient, returned = read(stored)
    assert message["Reporting-MTA"] == f"dns; {HOSTNAME}"
    assert message["Original-Envelope-Id"] == "order+4711"
    assert "Arrival-Date" in message
    assert recipient["Final-Recipient"].lower() == f"rfc822; ann@{domain}"
    assert recipient["Original-Recipient"].lower() == "rfc822; ann+tag@list.test"
    assert (recipient["Action"], recipient["Status"]) == ("failed", "5.1.1")
    assert recipient["Remote-MTA"] == f"dns; mx0.{domain}"
    assert recipient["Diagnostic-Code"] == f"smtp; {REFUSAL}"
    assert returned.get_content_type() == "message/rfc822"
    assert b"a body that comes back" in returned.as_bytes()
    story = story_of(live, f"ann@{domain}")
    assert story["delivery"]["state"] == "bounced"
    assert told(story) == ["failed"]


def test_ret_hdrs_returns_the_header_alone(live: Live, network: Network, mailbox: MailServer) -> None:
    live.submit(LETTER, ME, [f"ann@{refusing(network)}"], ["RET=HDRS"], ["NOTIFY=FAILURE"])
    (stored,) = mailbox.wait_for(1)
    _, _, returned = read(stored)
    assert returned.get_content_type() == "text/rfc822-headers"
    assert b"<letter@shop.test>" in returned.as_bytes()
    assert b"a body that comes back" not in stored


def test_who_asks_for_nothing_hears_of_a_failure(live: Live, network: Network, mailbox: MailServer) -> None:
    live.submit(LETTER, ME, [f"ann@{refusing(network)}"])
    (stored,) = mailbox.wait_for(1)
    assert read(stored)[1]["Action"] == "failed"


def silent_about(live: Live, network: Network, mailbox: MailServer, story: dict[str, Any]) -> None:
    """No DSN of this story came, although one that was caused later did."""
    assert not told(story)
    domain = refusing(network)
    live.submit(LETTER, ME, [f"last@{domain}"])
    (stored,) = mailbox.wait_for(1)
    assert read(stored)[1]["Final-Recipient"].lower() == f"rfc822; last@{domain}"


def test_never_means_never(live: Live, network: Network, mailbox: MailServer) -> None:
    domain = refusing(network)
    live.submit(LETTER, ME, [f"ann@{domain}"], [], ["NOTIFY=NEVER"])
    silent_about(live, network, mailbox, story_of(live, f"ann@{domain}"))


def test_success_alone_does_not_ask_for_failures(live: Live, network: Network, mailbox: MailServer) -> None:
    domain = refusing(network)
    live.submit(LETTER, ME, [f"ann@{domain}"], [], ["NOTIFY=SUCCESS"])
    silent_about(live, network, mailbox, story_of(live, f"ann@{domain}"))


def test_the_null_reverse_path_gets_none(live: Live, network: Network, mailbox: MailServer) -> None:
    domain = refusing(network)
    live.submit(LETTER, "", [f"ann@{domain}"], [], ["NOTIFY=FAILURE"])
    silent_about(live, network, mailbox, story_of(live, f"ann@{domain}"))


def test_a_dsn_that_bounces_causes_no_other(live: Live, network: Network, mailbox: MailServer) -> None:
    domain = refusing(network)
    live.submit(LETTER, "unknown-me@shop.test", [f"ann@{domain}"])
    assert told(story_of(live, f"ann@{domain}")) == ["failed"]
    about = story_of(live, "unknown-me@shop.test")
    assert about["delivery"]["state"] == "bounced"
    silent_about(live, network, mailbox, about)


def test_success_is_told_where_the_host_cannot(live: Live, network: Network, mailbox: MailServer) -> None:
    domain, peer = host(network, extensions=tuple(one for one in EXTENSIONS if one != "DSN"))
    live.submit(LETTER, ME, [f"ann@{domain}"], ["ENVID=e1"], ["NOTIFY=SUCCESS,FAILURE"])
    (stored,) = mailbox.wait_for(1)
    message, recipient, _ = read(stored)
    assert message["Original-Envelope-Id"] == "e1"
    assert (recipient["Action"], recipient["Status"][0]) == ("relayed", "2")
    assert "NOTIFY" not in peer.messages[0].rcpt
    assert "ENVID" not in peer.messages[0].mail


def test_a_host_that_can_is_asked_to_tell(live: Live, network: Network, mailbox: MailServer) -> None:
    domain, peer = host(network)
    live.submit(
        LETTER,
        ME,
        [f"ann@{domain}"],
        ["RET=HDRS", "ENVID=e2+3Dx"],
        ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;ann+2Btag@list.test"],
    )
    story = story_of(live, f"ann@{domain}")
    assert story["delivery"]["state"] == "delivered"
    mail, rcpt = peer.messages[0].mail, peer.messages[0].rcpt
    assert "RET=HDRS" in mail
    assert "ENVID=e2+3Dx" in mail
    asked = dict(word.split("=", 1) for word in rcpt.split(" ")[2:])
    assert set(asked["NOTIFY"].split(",")) == {"SUCCESS", "DELAY"}
    assert asked["ORCPT"] == "rfc822;ann+2Btag@list.test"
    silent_about(live, network, mailbox, story)


def test_a_real_host_that_can_tells_by_itself(live: Live, network: Network, mailbox: MailServer) -> None:
    live.submit(LETTER, ME, ["somebody@shop.test"], ["ENVID=e3"], ["NOTIFY=SUCCESS"])
    found = mailbox.wait_for(2)
    (report,) = [stored for stored in found if b"multipart/report" in stored]
    assert b"Reporting-MTA: dns; peer.test" in report  # Postfix's, not ours
    assert b"Original-Envelope-Id: e3" in report
    assert not told(story_of(live, "somebody@shop.test"))


@pytest.mark.parametrize("notify", ["NOTIFY=DELAY", "NOTIFY=FAILURE"])
def test_a_delay_is_told_once_and_only_to_who_asked(
    live: Live, network: Network, mailbox: MailServer, notify: str
) -> None:
    busy = [True]
    domain, peer = host(network, answer=lambda v, line: "451 4.3.2 too busy" if v == "RCPT" and busy else None)
    address = f"{notify[7:].lower()}@{domain}"
    live.submit(LETTER, ME, [address], ["ENVID=late"], [notify])
    (newest,) = wait_until(lambda: live.get("/v1/trace", what=address)["items"])
    name = newest["delivery"]["delivery"]

    def attempts() -> int:
        return int(live.get(f"/v1/deliveries/{name}")["delivery"]["attempts"])

    if notify == "NOTIFY=DELAY":
        message, recipient, _ = read(mailbox.wait_for(1)[0])
        assert (recipient["Action"], recipient["Status"][0]) == ("delayed", "4")
        assert recipient["Diagnostic-Code"] == "smtp; 451 4.3.2 too busy"
        assert "Will-Retry-Until" in recipient
        assert message["Original-Envelope-Id"] == "late"
        after = attempts() + 2
        wait_until(lambda: attempts() >= after)
    else:
        wait_until(lambda: attempts() >= 9)  # well over the four hours
    busy.clear()
    story = live.wait_delivery(name)
    assert story["delivery"]["state"] == "delivered"
    assert told(story) == (["delayed"] if notify == "NOTIFY=DELAY" else [])
    assert len(peer.messages) == 1


def test_what_expires_is_told_as_a_failure_in_time(live: Live, network: Network, mailbox: MailServer) -> None:
    domain = refusing(network, "451 4.2.0 the mailbox is asleep")
    live.submit(LETTER, ME, [f"ann@{domain}"], [], ["NOTIFY=FAILURE"])
    (stored,) = mailbox.wait_for(1)
    _, recipient, _ = read(stored)
    assert (recipient["Action"], recipient["Status"]) == ("failed", "5.4.7")  # RFC 3463 3.5: delivery time expired
    assert recipient["Diagnostic-Code"] == "smtp; 451 4.2.0 the mailbox is asleep"
    story = story_of(live, f"ann@{domain}")
    assert story["delivery"]["state"] == "expired"
    assert [event["kind"] for event in story["events"]].count("deferred") > 3


def test_each_of_several_recipients_has_an_ending_of_its_own(live: Live, network: Network, mailbox: MailServer) -> None:
    bad, (good, peer) = refusing(network), host(network)
    live.submit(LETTER, ME, [f"ann@{bad}", f"bob@{good}", "carl@nowhere-at-all.test"])
    found = [read(stored)[1] for stored in mailbox.wait_for(2)]
    assert {(one["Final-Recipient"].lower(), one["Action"]) for one in found} == {
        (f"rfc822; ann@{bad}", "failed"),
        ("rfc822; carl@nowhere-at-all.test", "failed"),
    }
    assert story_of(live, f"bob@{good}")["delivery"]["state"] == "delivered"
    assert len(peer.messages) == 1


def test_mail_by_the_api_tells_by_events_and_not_by_dsn(live: Live, network: Network, mailbox: MailServer) -> None:
    domain = refusing(network)
    story = live.to(f"ann@{domain}")
    assert story["delivery"]["state"] == "bounced"
    silent_about(live, network, mailbox, story)
