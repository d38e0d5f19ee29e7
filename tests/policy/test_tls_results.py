"""What OpenSSL, DANE and SMTP say of a session becomes the one result type of RFC 8460 that fits."""

from __future__ import annotations

import pytest

from mailfleet.mail.mta_sts import StsPolicy
from mailfleet.policy.tls_results import (
    DAY_MS,
    MAX_LINES_CHARS,
    MAX_REASON,
    begin_ms,
    day_of,
    fetch_fault,
    no_policy,
    session_fault,
    sts_policy,
    tlsa_policy,
)


@pytest.mark.parametrize(
    ("failure", "code", "words", "result"),
    [
        ("tls-required", 0, "", "starttls-not-supported"),
        ("tls-handshake", 62, "Hostname mismatch", "certificate-host-mismatch"),
        ("tls-handshake", 64, "IP address mismatch", "certificate-host-mismatch"),
        ("tls-handshake", 10, "certificate has expired", "certificate-expired"),
        ("tls-handshake", 9, "certificate is not yet valid", "certificate-not-trusted"),
        ("tls-handshake", 20, "unable to get local issuer certificate", "certificate-not-trusted"),
        ("tls-handshake", 0, "no shared cipher", "validation-failure"),
    ],
)
def test_what_openssl_says(failure: str, code: int, words: str, result: str) -> None:
    fault = session_fault(failure, verify_code=code, words=words)
    assert (fault.result, fault.reason) == (result, words if failure == "tls-handshake" else "")


def test_a_refused_starttls() -> None:
    fault = session_fault("", refusal="454 4.7.0 TLS not available\r\nnow " + "x" * 500)
    assert fault.result == "starttls-not-supported"
    assert fault.reason.startswith("454 4.7.0 TLS not available now x")
    assert len(fault.reason) == MAX_REASON


@pytest.mark.parametrize(
    ("words", "result"),
    [
        ("its certificate is not the one that the TLSA records name", "certificate-not-trusted"),
        (
            "its chain does not lead to the authority: leaf certificate has no matching subjectAltName",
            "certificate-host-mismatch",
        ),
        (
            "its certificate chain: cert is not valid at validation time (encountered processing <x>)",
            "certificate-expired",
        ),
        ("wrong version number", "validation-failure"),
    ],
)
def test_what_dane_says(words: str, result: str) -> None:
    fault = session_fault("tls-handshake", words=words, policy="tlsa")
    assert fault.result == result
    assert "encountered" not in fault.reason


def test_policies_that_cannot_be_used() -> None:
    assert fetch_fault("fetch", "no address").result == "sts-policy-fetch-error"
    assert fetch_fault("certificate", "self-signed").result == "sts-webpki-invalid"
    assert str(fetch_fault("policy", "no mode")) == "sts-policy-invalid: no mode"


def test_policies_as_reports_and_events_have_them() -> None:
    policy = StsPolicy("testing", ("*.mail.example.net",), 86400)
    applied = sts_policy("example.net", policy)
    assert applied.lines == ("version: STSv1", "mode: testing", "mx: *.mail.example.net", "max_age: 86400")
    assert applied.label == "sts testing"
    assert sts_policy("example.net", None).label == "sts"
    assert tlsa_policy("mx.example.net", ["3 1 1 ab"]).label == "tlsa"
    assert no_policy("example.net").label == ""
    long = sts_policy("example.net", StsPolicy("enforce", tuple(f"mx{n}.example.net" for n in range(9999)), 1))
    assert sum(len(line) + 1 for line in long.lines) <= MAX_LINES_CHARS


@pytest.mark.parametrize("scale", [1, 7, 1440, 3600])
def test_days_follow_each_other(scale: float) -> None:
    day = day_of(1_800_000_000_123, scale)
    first, after = begin_ms(day, scale), begin_ms(day + 1, scale)
    assert first <= 1_800_000_000_123 < after
    assert (day_of(first, scale), day_of(after, scale), day_of(first - 1, scale)) == (day, day + 1, day - 1)
    assert abs((after - first) * scale - DAY_MS) <= scale
