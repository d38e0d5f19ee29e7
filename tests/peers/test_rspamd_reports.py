"""What a receiver that runs rspamd makes of signed mail, and the DMARC aggregate report that it mails about it."""

from __future__ import annotations

import email
import gzip
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mailfleet.mail.dkim import Signer, SigningKey, sign
from tests.peers.knot import Knot
from tests.peers.rspamd import REPORTER, Rspamd

HEADER = (
    b"From: Shop <news@shop.test>\r\nTo: Ann <ann@receiver.test>\r\nSubject: New lamps\r\n"
    b"Date: Mon, 05 Jan 2026 10:00:00 +0000\r\nMessage-ID: <1@shop.test>\r\n"
)
BODY = b"There are new lamps.\r\n"
UNSIGNED = HEADER + b"\r\n" + BODY
OURS, FORWARDERS, FORGERS = "192.0.2.10", "198.51.100.7", "203.0.113.9"


@pytest.fixture
def signer() -> Signer:
    return Signer("shop.test", "mf2026a", SigningKey.generate())


@pytest.fixture
def rspamd(tmp_path: Path, signer: Signer) -> Iterator[Rspamd]:
    key = signer.key.public_record()
    pieces = " ".join(f'"{key[at : at + 255]}"' for at in range(0, len(key), 255))
    zone = [
        f"{signer.selector}._domainkey TXT {pieces}",
        f'bounce TXT "v=spf1 ip4:{OURS} -all"',
        '_dmarc TXT "v=DMARC1; p=quarantine; rua=mailto:dmarc@shop.test"',
    ]
    knot = Knot(tmp_path / "knot", {"shop.test": zone})
    try:
        receiver = Rspamd(tmp_path / "rspamd", dns=knot.address)
        yield receiver
        receiver.close()
    finally:
        knot.close()


def symbols(rspamd: Rspamd, message: bytes, ip: str) -> set[str]:
    """The verdicts on ``message`` as it comes from ``ip``."""
    found = rspamd.scan(
        message, ip=ip, helo="mta.shop.test", mail_from="b+1@bounce.shop.test", rcpt="ann@receiver.test"
    )
    return set(found["symbols"])


def attachment(message: Message) -> Message:
    """The one part that is a report."""
    (part,) = [part for part in message.walk() if part.get_content_disposition() == "attachment"]
    return part


def rows(feedback: ElementTree.Element) -> set[tuple[str, ...]]:
    """Of each record: source, count, disposition, whether DKIM and SPF are aligned and pass, domain and result of SPF."""
    paths = (
        "row/source_ip",
        "row/count",
        "row/policy_evaluated/disposition",
        "row/policy_evaluated/dkim",
        "row/policy_evaluated/spf",
        "auth_results/spf/domain",
        "auth_results/spf/result",
    )
    return {tuple(record.findtext(path, "") for path in paths) for record in feedback.iter("record")}


def test_the_report_tells_what_passed_by_dkim_what_by_spf_and_what_by_neither(rspamd: Rspamd, signer: Signer) -> None:
    signed = sign(HEADER, BODY, [signer], now_ms=int(time.time() * 1000)) + UNSIGNED
    assert symbols(rspamd, signed, FORWARDERS) >= {"R_DKIM_ALLOW", "R_SPF_FAIL", "DMARC_POLICY_ALLOW"}
    assert symbols(rspamd, UNSIGNED, OURS) >= {"R_DKIM_NA", "R_SPF_ALLOW", "DMARC_POLICY_ALLOW"}
    assert symbols(rspamd, UNSIGNED, FORGERS) >= {"R_DKIM_NA", "R_SPF_FAIL", "DMARC_POLICY_QUARANTINE"}

    # One, unless midnight came between: then each of the days has its own.
    messages = [email.message_from_bytes(received) for received in rspamd.reports()]
    reports = []
    for message in messages:
        assert message["To"] == "dmarc@shop.test"
        assert REPORTER in message["From"]
        part = attachment(message)
        assert part.get_content_type() == "application/gzip"
        assert str(part.get_filename()).startswith("receiver.test!shop.test!")
        packed = part.get_payload(decode=True)
        assert isinstance(packed, bytes)
        reports.append(ElementTree.fromstring(gzip.decompress(packed)))
    assert {report.findtext("policy_published/domain") for report in reports} == {"shop.test"}
    assert {report.findtext("policy_published/p") for report in reports} == {"quarantine"}
    assert set().union(*map(rows, reports)) == {
        (FORWARDERS, "1", "none", "pass", "fail", "bounce.shop.test", "fail"),
        (OURS, "1", "none", "fail", "pass", "bounce.shop.test", "pass"),
        (FORGERS, "1", "quarantine", "fail", "fail", "bounce.shop.test", "fail"),
    }
    signatures = [signature for report in reports for signature in report.iterfind("record/auth_results/dkim")]
    assert [(one.findtext("domain"), one.findtext("result")) for one in signatures] == [("shop.test", "pass")]

    assert rspamd.reports() == [], "what was reported is not reported again"
    symbols(rspamd, UNSIGNED, FORGERS)
    assert rspamd.reports(datetime.now(UTC).date() - timedelta(days=9)) == [], "another day"
    assert len(rspamd.reports()) == 1
