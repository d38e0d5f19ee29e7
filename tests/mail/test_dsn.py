"""Delivery status notifications: when one is owed, and that the standard library reads out what was put in."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet.base.errors import InputError
from mailfleet.mail import xtext
from mailfleet.mail.dsn import DsnRecipient, Event, build_dsn, dsn_owed

HEADER = b"From: Shop <news@shop.example>\r\nSubject: =?utf-8?q?Caf=C3=A9?= opens\r\nMessage-ID: <m1@shop.example>\r\n"
BODY = b"Come in.\r\n"
FAILED = DsnRecipient(
    final_recipient="ann@example.org",
    action="failed",
    status="5.1.1",
    original_recipient="rfc822;ann.old@example.net",
    remote_mta="mx1.example.org",
    reply="550 5.1.1 No such user here",
    last_attempt_ms=1_767_225_700_000,
)
DELAYED = DsnRecipient(
    final_recipient="bob@example.org",
    action="delayed",
    status="4.4.1",
    detail="no answer from mx.example.org",
    last_attempt_ms=1_767_225_700_000,
    will_retry_until_ms=1_767_325_700_000,
)


def build(*recipients: DsnRecipient, **changed: Any) -> bytes:
    arguments: dict[str, Any] = {
        "reporting_mta": "mail.shop.example",
        "from_domain": "shop.example",
        "to": "bounces@shop.example",
        "envid": "",
        "arrival_ms": 1_767_225_600_000,
        "recipients": recipients,
        "original_header": HEADER,
        "original_body": None,
        "now_ms": 1_767_225_800_000,
        "message_id": "<dsn1@shop.example>",
        "boundary": "=_boundary1",
        "utf8": False,
    }
    return build_dsn(**(arguments | changed))


def parts(raw: bytes) -> tuple[EmailMessage, str, list[Any], Any]:
    """The message, its text, the groups of the status part, and the returned part, as the standard library reads them."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message.get_content_type() == "multipart/report"
    assert message["Content-Type"].params["report-type"] == "delivery-status"
    text, status, original = message.iter_parts()
    assert not any(part.defects for part in message.walk())
    return message, text.get_content(), list(status.get_payload()), original


def test_failure_says_everything_to_people_and_to_programs() -> None:
    raw = build(FAILED, envid="QQ314159+x")
    message, text, (about, told), original = parts(raw)
    assert raw.isascii()
    assert message["From"].addresses[0].addr_spec == "MAILER-DAEMON@shop.example"
    assert message["To"].addresses[0].addr_spec == "bounces@shop.example"
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == "<m1@shop.example>"
    assert message["Date"].datetime.isoformat() == "2026-01-01T00:03:20+00:00"
    assert message["Message-ID"] == "<dsn1@shop.example>"
    for words in ("ann@example.org", "ann.old@example.net", "Not delivered", "no such mailbox", "Café opens"):
        assert words in text
    assert "mx1.example.org said:\r\n        550 5.1.1 No such user here\r\n" in text
    assert dict(about) == {
        "Original-Envelope-Id": "QQ314159+x",
        "Reporting-MTA": "dns; mail.shop.example",
        "Arrival-Date": "Thu, 01 Jan 2026 00:00:00 +0000",
    }
    assert dict(told) == {
        "Original-Recipient": "rfc822; ann.old@example.net",
        "Final-Recipient": "rfc822; ann@example.org",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx1.example.org",
        "Diagnostic-Code": "smtp; 550 5.1.1 No such user here",
        "Last-Attempt-Date": "Thu, 01 Jan 2026 00:01:40 +0000",
    }
    assert original.get_content_type() == "text/rfc822-headers"
    assert original.get_content().encode() == HEADER


def test_delay_says_that_we_go_on_and_until_when() -> None:
    message, text, (_, told), original = parts(build(DELAYED, original_body=BODY))
    assert message["Subject"] == "Mail is delayed"
    assert "go on trying until 2026-01-02 03:48 UTC" in " ".join(text.split())
    assert "no answer from mx.example.org" in text
    assert told["Will-Retry-Until"] == "Fri, 02 Jan 2026 03:48:20 +0000"
    assert told["Diagnostic-Code"] == "X-Mailfleet; no answer from mx.example.org"
    # RFC 3461 4.3: RET=FULL counts for failures only
    assert original.get_content_type() == "text/rfc822-headers"


@pytest.mark.parametrize(("action", "subject"), [("delivered", "Mail was delivered"), ("relayed", "Mail was relayed")])
def test_success(action: Event, subject: str) -> None:
    message, text, (_, told), _ = parts(
        build(DsnRecipient(final_recipient="a@example.org", action=action, status="2.1.5"))
    )
    assert message["Subject"] == subject
    assert told["Action"] == action
    assert "status" not in text


def test_each_recipient_has_its_group_and_the_worst_gives_the_subject() -> None:
    message, text, groups, _ = parts(build(DELAYED, FAILED))
    assert message["Subject"] == "Mail could not be delivered"
    assert [group["Final-Recipient"] for group in groups[1:]] == ["rfc822; bob@example.org", "rfc822; ann@example.org"]
    assert text.index("bob@") < text.index("ann@")


def test_full_return_carries_the_whole_message() -> None:
    eight = "Grüße\r\n".encode()
    for body in (BODY, eight):
        raw = build(FAILED, original_body=body)
        message, _, _, original = parts(raw)
        assert original.get_content_type() == "message/rfc822"
        assert HEADER + b"\r\n" + body in raw
        assert message["Content-Transfer-Encoding"] == ("7bit" if body is BODY else "8bit")


HOSTILE = DsnRecipient(
    final_recipient="ann@example.org",
    action="failed",
    status="5.0.0",
    remote_mta="mx\r\nX-Evil: 1",
    reply="550 \x00bad\r\n\r\n--=_boundary\r\nX-Evil: yes\r\n" + "long" * 2000 + " é\udcff",
    original_recipient="rfc822;a\r\nX-Evil: 2",
)


def test_remote_words_cannot_break_out() -> None:
    raw = build(HOSTILE, envid="a\r\nX-Evil: 3\r\n\r\n")
    message, _, groups, _ = parts(raw)
    assert len(groups) == 2
    assert "X-Evil" not in message
    assert not any("X-Evil" in group for group in groups)
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert raw.isascii()
    assert b"\x00" not in raw


def test_international_recipient_in_a_plain_notification_is_escaped() -> None:
    recipient = DsnRecipient(
        final_recipient="rené@example.org", action="failed", status="5.6.7", original_recipient="utf-8;rené@example.org"
    )
    raw = build(recipient)
    _, text, (_, told), _ = parts(raw)
    assert raw.isascii()
    assert "rené@example.org" in text
    kind, _, address = told["Final-Recipient"].partition("; ")
    assert (kind, xtext.decode_utf8_address(address)) == ("utf-8", "rené@example.org")
    assert told["Original-Recipient"] == told["Final-Recipient"]


def test_international_notification() -> None:
    header = "Subject: é\r\n".encode()
    recipient = DsnRecipient(final_recipient="rené@example.org", action="failed", status="5.1.1", reply="550 größer")
    raw = build(recipient, utf8=True, to="zoë@shop.example", original_header=header, original_body=BODY)
    assert "To: <zoë@shop.example>\r\n".encode() in raw
    assert b"Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n" in raw
    assert "\r\nFinal-Recipient: utf-8; rené@example.org\r\n".encode() in raw
    assert "Diagnostic-Code: smtp; 550 größer".encode() in raw
    assert b"Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + header in raw
    headers_only = build(recipient, utf8=True, original_header=header)
    assert b"Content-Type: message/global-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + header in headers_only
    assert build(recipient, original_header=header, original_body=BODY).isascii()
    with pytest.raises(InputError):
        build(recipient, to="zoë@shop.example")


def test_header_that_is_no_unicode_or_too_long_is_still_shown() -> None:
    assert build(FAILED, original_header=b"Subject: caf\xe9\r\n", original_body=BODY).isascii()
    long = b"".join(b"X-%d: %b\r\n" % (index, b"x" * 70) for index in range(2000))
    raw = build(FAILED, original_header=long)
    _, _, _, original = parts(raw)
    assert len(raw) < 70_000
    assert original.get_content().endswith("x" * 70 + "\r\n")
    parts(build(FAILED, original_header=b""))
    parts(build(FAILED, original_header=b"no header at all"))


def test_a_boundary_that_occurs_in_the_message_is_a_bug() -> None:
    with pytest.raises(ValueError, match="boundary"):
        build(FAILED, original_body=b"--=_boundary1\r\n")
    with pytest.raises(ValueError, match="status"):
        build(DsnRecipient(final_recipient="a@example.org", action="failed", status="550"))


anything = st.text(max_size=80)


@settings(max_examples=80)
@given(anything, anything, anything, anything, st.booleans())
def test_whatever_is_told_the_structure_holds(reply: str, detail: str, orcpt: str, envid: str, utf8: bool) -> None:
    recipient = DsnRecipient(
        final_recipient="ann@example.org",
        action="failed",
        status="5.0.0",
        reply=reply,
        detail=detail,
        original_recipient=orcpt,
    )
    raw = build(recipient, envid=envid, utf8=utf8, boundary="=_unguessable")
    assert raw.count(b"\r\n") == raw.count(b"\n") == raw.count(b"\r")
    assert b"\x00" not in raw
    assert raw.count(b"--=_unguessable") == 4
    if not utf8:
        assert raw.isascii()
        _, _, groups, _ = parts(raw)
        assert len(groups) == 2
        assert groups[1]["Final-Recipient"] == "rfc822; ann@example.org"


@pytest.mark.parametrize(
    ("notify", "owed"),
    [
        (None, {"failed"}),
        ({"NEVER"}, set()),
        ({"FAILURE"}, {"failed"}),
        ({"DELAY"}, {"delayed"}),
        ({"SUCCESS"}, {"delivered", "relayed"}),
        ({"SUCCESS", "FAILURE", "DELAY"}, {"failed", "delayed", "delivered", "relayed"}),
    ],
)
def test_what_is_owed(notify: set[str] | None, owed: set[str]) -> None:
    events: tuple[Event, ...] = ("failed", "delayed", "delivered", "relayed")
    wanted = None if notify is None else frozenset(notify)
    assert {event for event in events if dsn_owed(wanted, event, "ann@example.org")} == owed
    assert not any(dsn_owed(wanted, event, "") for event in events)
