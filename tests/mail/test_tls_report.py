"""TLS reports: who wants them by their record, and the JSON and the message as RFC 8460 has them."""

from __future__ import annotations

import email
import email.policy
import gzip
import json

import pytest

from mailfleet.mail.address import Address
from mailfleet.mail.tls_report import Failures, PolicyResults, TlsReport, build_message, endpoints

APRIL_MS = 1_459_468_800_000  # 2016-04-01
LINES = ("version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400")
REPORT = TlsReport(  # of RFC 8460, appendix B
    "company-y.example",
    "company-x.example",
    "Company-X",
    "sts-reporting@company-x.example",
    APRIL_MS,
    APRIL_MS + 86_400_000,
    (
        PolicyResults(
            "sts",
            "company-y.example",
            LINES,
            5326,
            (
                Failures("certificate-expired", 100, "2001:db8:abcd:0012::1", "mx1.mail.company-y.example"),
                Failures("starttls-not-supported", 200, "2001:db8:abcd:0013::1", "mx2.mail.company-y.example", "203.0.113.56"),
                Failures(
                    "validation-failure", 3, "198.51.100.62", "mx-backup.mail.company-y.example", "203.0.113.58",
                    "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
                ),
            ),
        ),
        PolicyResults("no-policy-found", "company-y.example", (), 7),
    ),
)  # fmt: skip


def test_the_example_of_the_rfc() -> None:
    found = json.loads(gzip.decompress(REPORT.packed()))
    assert found["organization-name"] == "Company-X"
    assert found["date-range"] == {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"}
    assert found["contact-info"] == "sts-reporting@company-x.example"
    assert found["report-id"] == "1459468800.company-y.example@company-x.example"
    first, second = found["policies"]
    assert first["policy"] == {
        "policy-type": "sts",
        "policy-string": list(LINES),
        "policy-domain": "company-y.example",
        "mx-host": ["*.mail.company-y.example"],
    }
    assert first["summary"] == {"total-successful-session-count": 5326, "total-failure-session-count": 303}
    assert first["failure-details"][0] == {
        "result-type": "certificate-expired",
        "sending-mta-ip": "2001:db8:abcd:0012::1",
        "receiving-mx-hostname": "mx1.mail.company-y.example",
        "failed-session-count": 100,
    }
    assert first["failure-details"][2] == {
        "result-type": "validation-failure",
        "sending-mta-ip": "198.51.100.62",
        "receiving-ip": "203.0.113.58",
        "receiving-mx-hostname": "mx-backup.mail.company-y.example",
        "failed-session-count": 3,
        "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
    }
    assert second == {
        "policy": {"policy-type": "no-policy-found", "policy-domain": "company-y.example"},
        "summary": {"total-successful-session-count": 7, "total-failure-session-count": 0},
    }
    assert REPORT.packed() == REPORT.packed(), "the same bytes each time that it is posted"


def test_the_message() -> None:
    sender = Address.parse("sts-reporting@company-x.example")
    to = [Address.parse("tls@company-y.example"), Address.parse("tls@other.example")]
    raw = build_message(
        REPORT, sender=sender, to=to, now_ms=APRIL_MS, message_id="<1@company-x.example>", boundary="b1"
    )
    assert raw.isascii()
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert max(map(len, raw.split(b"\r\n"))) <= 78
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "tlsrpt"
    assert message["TLS-Report-Domain"] == "company-y.example"
    assert message["TLS-Report-Submitter"] == "company-x.example"
    assert message["Subject"] == (
        "Report Domain: company-y.example Submitter: company-x.example"
        " Report-ID: <1459468800.company-y.example@company-x.example>"
    )
    assert [one.addr_spec for one in message["To"].addresses] == ["tls@company-y.example", "tls@other.example"]
    words, report = message.iter_parts()
    assert "company-y.example" in words.get_content()
    assert report.get_content_type() == "application/tlsrpt+gzip"
    assert report.get_filename() == "company-x.example!company-y.example!1459468800!1459555199.json.gz"
    assert json.loads(gzip.decompress(report.get_content())) == REPORT.document()


@pytest.mark.parametrize(
    ("records", "mailto", "https"),
    [
        (["v=TLSRPTv1;rua=mailto:reports@example.com"], ["reports@example.com"], []),
        (["v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt;"], [], ["https://reporting.example.com/v1/tlsrpt"]),
        (
            ["v=spf1 -all", "v=TLSRPTv1; ext=1; rua = MAILTO:a%2Bb@example.com , https://[::1]:8443/x?y=1,mailto:a@@b"],
            ["a+b@example.com"],
            ["https://[::1]:8443/x?y=1"],
        ),
        (["v=TLSRPTv1; rua=" + ",".join(f"mailto:{n}@example.com" for n in range(99))], [f"{n}@example.com" for n in range(4)], []),
    ],
)  # fmt: skip
def test_who_wants_reports(records: list[str], mailto: list[str], https: list[str]) -> None:
    found = endpoints(records)
    assert found is not None
    assert ([str(one) for one in found.mailto], list(found.https)) == (mailto, https)


@pytest.mark.parametrize(
    "records",
    [
        [],
        ["v=TLSRPTv1"],
        ["v=TLSRPTv1; rua="],
        ["v=TLSRPTv2; rua=mailto:a@example.com"],
        ["v=TLSRPTv1; rua=mailto:a@example.com", "v=TLSRPTv1; rua=mailto:b@example.com"],
        [
            "v=TLSRPTv1; rua=http://example.com/, ftp://x/, https:///x, https://u@h/, https://h/a b, https://h:x/, mailto:a@[1.2.3.4]"
        ],
    ],
)
def test_who_wants_none(records: list[str]) -> None:
    assert endpoints(records) is None
