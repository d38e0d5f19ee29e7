"""What came of securing sessions, in the words of TLS reports (RFC 8460 4.3), and the policies that they were under. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Literal, NamedTuple

from mailfleet.mail.mta_sts import StsPolicy

ResultType = Literal[
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]
PolicyType = Literal["tlsa", "sts", "no-policy-found"]
FetchFailure = Literal["fetch", "certificate", "policy"]
"""Why there is no MTA-STS policy: its host says nothing, its host cannot prove its name, what it says is no policy."""

DAY_MS = 86_400_000
MAX_REASON = 120  # characters
MAX_LINES_CHARS = 4000  # of a policy; whole lines are left out beyond
_NAME_MISMATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_OF_FETCH: dict[FetchFailure, ResultType] = {
    "fetch": "sts-policy-fetch-error",
    "certificate": "sts-webpki-invalid",
    "policy": "sts-policy-invalid",
}


class Fault(NamedTuple):
    """Why a session is no success. ``reason``: more of it, for people (failure-reason-code)."""

    result: ResultType
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.result}: {self.reason}" if self.reason else self.result


MX_NOT_NAMED = Fault("validation-failure", "the policy does not name this mail host")


class AppliedPolicy(NamedTuple):
    """``domain``: whose it is, which for TLSA records is the mail host (RFC 8460 1.1). ``lines``: the policy-string."""

    kind: PolicyType
    domain: str
    lines: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """For the event of an attempt: ``tlsa``, ``sts enforce``, ``sts testing``; empty where there is no policy."""
        if self.kind == "no-policy-found":
            return ""
        mode = next((line.partition(":")[2].strip() for line in self.lines if line.startswith("mode:")), "")
        return f"{self.kind} {mode}".rstrip()


def no_policy(domain: str) -> AppliedPolicy:
    """The domain demands nothing."""
    return AppliedPolicy("no-policy-found", domain)


def sts_policy(domain: str, policy: StsPolicy | None) -> AppliedPolicy:
    """An MTA-STS policy; None: one that could not be had."""
    return AppliedPolicy("sts", domain, _bounded(str(policy).splitlines()) if policy is not None else ())


def tlsa_policy(host: str, records: Sequence[str]) -> AppliedPolicy:
    """TLSA records of a mail host, as in a zone file."""
    return AppliedPolicy("tlsa", host, _bounded(records))


def fetch_fault(why: FetchFailure, words: str) -> Fault:
    """Of a policy that cannot be used (RFC 8460 4.3.2.2)."""
    return _fault(_OF_FETCH[why], words)


def session_fault(
    failure: str, *, refusal: str = "", verify_code: int = 0, words: str = "", policy: PolicyType = "no-policy-found"
) -> Fault:
    """Of a session that could not be secured (RFC 8460 4.3.1).

    ``failure`` is spelt as ``policy.outcome.Failure``; ``refusal`` is the reply to STARTTLS where there was one;
    ``verify_code`` is OpenSSL's X509_V_ERR, 0 where it found nothing wrong; ``words`` say more.
    """
    if failure == "tls-required" or refusal:
        return _fault("starttls-not-supported", refusal)
    if verify_code in _NAME_MISMATCH:
        return _fault("certificate-host-mismatch", words)
    if verify_code == _EXPIRED:
        return _fault("certificate-expired", words)
    if verify_code:
        return _fault("certificate-not-trusted", words)
    return _dane_fault(words) if policy == "tlsa" and "certificate" in words else _fault("validation-failure", words)


def day_of(now_ms: int, scale: float) -> int:
    """The UTC day that results are counted under, or a shorter one where time runs faster."""
    return int(now_ms * scale) // DAY_MS


def begin_ms(day: int, scale: float) -> int:
    """When a day begins; it ends where the next one begins."""
    return ceil(day * DAY_MS / scale)


def _dane_fault(words: str) -> Fault:
    """The chain is not what the TLSA records say."""
    why = words.partition(" (encountered processing")[0]
    if "subjectAltName" in why or "matching" in why:
        return _fault("certificate-host-mismatch", why)
    if "validation time" in why:
        return _fault("certificate-expired", why)
    return _fault("certificate-not-trusted", why)


def _fault(result: ResultType, words: str) -> Fault:
    clean = " ".join("".join(one if one.isprintable() else " " for one in words).split())
    return Fault(result, clean[:MAX_REASON].rstrip())


def _bounded(lines: Sequence[str]) -> tuple[str, ...]:
    kept, room = [], MAX_LINES_CHARS
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        kept.append(line)
    return tuple(kept)
