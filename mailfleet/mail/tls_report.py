"""TLS reports (RFC 8460): the record that says who wants them, the JSON, and the message that carries it. Pure."""

from __future__ import annotations

import base64
import gzip
import json
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from mailfleet.base.errors import InputError
from mailfleet.mail.address import Address
from mailfleet.mail.dsn_text import fold
from mailfleet.mail.encode import format_date

MEDIA_TYPE = "application/tlsrpt+gzip"
MAX_ENDPOINTS = 4  # that are reported to; whoever publishes a record may name strangers
_VERSION = re.compile(r"v=TLSRPTv1[ \t]*;(.*)", re.S)
_RUA = re.compile(r"[ \t]*rua[ \t]*=(.*)", re.S)


class Endpoints(NamedTuple):
    """Who wants reports: addresses, and pages that take a POST."""

    mailto: tuple[Address, ...]
    https: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failures:
    """Sessions that failed in one way. What is empty is left out."""

    result: str
    sessions: int
    sending_ip: str = ""
    mx_host: str = ""
    receiving_ip: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PolicyResults:
    """Of one policy: its type (``tlsa``, ``sts``, ``no-policy-found``), whose it is, its lines, and its sessions."""

    kind: str
    domain: str
    lines: tuple[str, ...]
    successes: int
    failures: tuple[Failures, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsReport:
    """On a recipient ``domain``, from ``begin_ms`` to before ``end_ms``; ``submitter`` is the domain that reports."""

    domain: str
    submitter: str
    organization: str
    contact: str
    begin_ms: int
    end_ms: int
    policies: tuple[PolicyResults, ...]

    @property
    def report_id(self) -> str:
        """The same for the same report, however often it is made."""
        return f"{self.begin_ms // 1000}.{self.domain}@{self.submitter}"

    @property
    def file_name(self) -> str:
        """RFC 8460 5.1."""
        return f"{self.submitter}!{self.domain}!{self.begin_ms // 1000}!{_last_s(self)}.json.gz"

    def packed(self) -> bytes:
        """The JSON, compressed; the same bytes each time."""
        return gzip.compress(json.dumps(self.document(), ensure_ascii=False).encode(), mtime=0)

    def document(self) -> dict[str, object]:
        """RFC 8460 4.4."""
        return {
            "organization-name": self.organization,
            "date-range": {"start-datetime": _instant(self.begin_ms // 1000), "end-datetime": _instant(_last_s(self))},
            "contact-info": self.contact,
            "report-id": self.report_id,
            "policies": [_policy(one) for one in self.policies],
        }


def endpoints(records: Sequence[str]) -> Endpoints | None:
    """By the TXT records at ``_smtp._tls`` (RFC 8460 3); None where nobody wants reports: not exactly one good record.

    What cannot be reported to is passed over.
    """
    found = [text for text in records if text.startswith("v=TLSRPTv1")]
    whole = _VERSION.fullmatch(found[0].strip()) if len(found) == 1 else None
    if whole is None:
        return None
    rua = next((match[1] for part in whole[1].split(";") if (match := _RUA.fullmatch(part))), "")
    mailto: list[Address] = []
    https: list[str] = []
    for uri in (one.strip() for one in rua.split(",")):
        if len(mailto) + len(https) == MAX_ENDPOINTS:
            break
        address = _address(uri)
        if address is not None and address not in mailto:
            mailto.append(address)
        elif is_https(uri) and uri not in https:
            https.append(uri)
    return Endpoints(tuple(mailto), tuple(https)) if mailto or https else None


def build_message(
    report: TlsReport, *, sender: Address, to: Sequence[Address], now_ms: int, message_id: str, boundary: str
) -> bytes:
    """The whole message (RFC 8460 5.3), to be signed. ``message_id`` has its angle brackets; ``boundary`` is random."""
    top = [
        fold("From", f"<{sender}>"),
        fold("To", ", ".join(f"<{one}>" for one in to)),
        fold(
            "Subject", f"Report Domain: {report.domain} Submitter: {report.submitter} Report-ID: <{report.report_id}>"
        ),
        f"Date: {format_date(now_ms)}\r\n",
        f"Message-ID: {message_id}\r\n",
        f"TLS-Report-Domain: {report.domain}\r\n",
        f"TLS-Report-Submitter: {report.submitter}\r\n",
        "Auto-Submitted: auto-generated\r\n",  # RFC 3834 5
        "MIME-Version: 1.0\r\n",
        f'Content-Type: multipart/report; report-type="tlsrpt";\r\n boundary="{boundary}"\r\n',
    ]
    words = (
        f"This is an aggregate TLS report (RFC 8460) from {report.submitter} on mail\r\n"
        f"to {report.domain}, from {_instant(report.begin_ms // 1000)} to {_instant(_last_s(report))}.\r\n"
    )
    packed = base64.encodebytes(report.packed()).replace(b"\n", b"\r\n").decode("ascii")
    parts = [
        f"Content-Type: text/plain; charset=us-ascii\r\n\r\n{words}",
        f"Content-Type: {MEDIA_TYPE}\r\nContent-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment;\r\n filename="{report.file_name}"\r\n\r\n{packed}',
    ]
    body = "".join(f"--{boundary}\r\n{part}" for part in parts) + f"--{boundary}--\r\n"
    return f"{''.join(top)}\r\n{body}".encode()


def is_https(uri: str) -> bool:
    """Whether a report can be posted there."""
    if not uri.isascii() or not uri.isprintable() or " " in uri or len(uri) > 1000:
        return False
    try:
        split = urllib.parse.urlsplit(uri)
        return split.scheme == "https" and bool(split.hostname) and "@" not in split.netloc and split.port != 0
    except ValueError:
        return False


def _address(uri: str) -> Address | None:
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme.lower() != "mailto":
        return None
    try:
        address = Address.parse(urllib.parse.unquote(rest.partition("?")[0]))
    except InputError:
        return None
    return None if address.domain.startswith("[") or address.needs_smtputf8 else address


def _policy(one: PolicyResults) -> dict[str, object]:
    policy: dict[str, object] = {"policy-type": one.kind}
    if one.lines:
        policy["policy-string"] = list(one.lines)
    policy["policy-domain"] = one.domain
    patterns = [line.partition(":")[2].strip() for line in one.lines if one.kind == "sts" and line.startswith("mx:")]
    if patterns:
        policy["mx-host"] = patterns
    made: dict[str, object] = {
        "policy": policy,
        "summary": {
            "total-successful-session-count": one.successes,
            "total-failure-session-count": sum(failure.sessions for failure in one.failures),
        },
    }
    if one.failures:
        made["failure-details"] = [_failures(failure) for failure in one.failures]
    return made


def _failures(one: Failures) -> dict[str, object]:
    made: dict[str, object] = {"result-type": one.result}
    told = {
        "sending-mta-ip": one.sending_ip,
        "receiving-mx-hostname": one.mx_host,
        "receiving-ip": one.receiving_ip,
        "failure-reason-code": one.reason,
    }
    made |= {name: value for name, value in told.items() if value}
    return {**made, "failed-session-count": one.sessions}


def _last_s(report: TlsReport) -> int:
    """The last second of the time that it is on."""
    return max(report.begin_ms // 1000, -(-report.end_ms // 1000) - 1)


def _instant(at_s: int) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
