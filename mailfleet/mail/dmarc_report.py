"""DMARC aggregate reports (RFC 9990, RFC 7489 7.2): what receivers saw of mail that says it is from a domain. Pure.

Reporters write XML by many hands. What they get wrong (no closing tags, stray angle brackets, bytes of another encoding) is passed
over where it does no harm: elements of the format are looked for by name, and nothing else of XML is understood, so a document
cannot make the reader expand, fetch or nest anything.
"""

from __future__ import annotations

import html
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from mailfleet.base.errors import InputError
from mailfleet.mail.address import domain_to_ascii
from mailfleet.mail.dmarc import Policy, policy_of

MAX_ROWS = 200_000
MAX_DAYS = 40  # that one report may speak of; most speak of one
MAX_COUNT = 10**12
MAX_TEXT = 200  # characters that are kept of what a reporter says in its own words
DAY_S = 86_400

_LEAF_NAMES = (
    "version|org_name|email|extra_contact_info|report_id|begin|end|error|generator|domain|p|sp|np|adkim|aspf|pct|fo|testing"
    "|discovery_method|source_ip|count|disposition|type|comment|header_from|envelope_from|envelope_to|selector|result"
    "|human_result|scope"
)
_BRANCH_NAMES = (
    "feedback|report_metadata|date_range|policy_published|record|row|policy_evaluated|reason|identifiers|identities"
    "|auth_results|dkim|spf|extension"
)
_LEAVES = frozenset(_LEAF_NAMES.split("|"))
_TAG = re.compile(rf"<(/?)(?:[A-Za-z_][\w.-]{{0,60}}:)?({_LEAF_NAMES}|{_BRANCH_NAMES})(?:\s[^<>]{{0,1000}})?(/?)>")
MAX_DEPTH = 12
_MEND = "give it as the reporter sent it"


class Signature(NamedTuple):
    """What a receiver made of a DKIM signature. ``result`` in lower case, as ``pass``."""

    domain: str
    selector: str
    result: str


class SpfSeen(NamedTuple):
    """What a receiver made of SPF. ``scope``: ``mfrom`` or ``helo``."""

    domain: str
    scope: str
    result: str


@dataclass(frozen=True, slots=True)
class ReportRow:
    """Messages of one kind: from one address, treated alike. ``dkim`` and ``spf``: passed, and aligned with From."""

    ip: str
    count: int
    disposition: Policy
    dkim: bool
    spf: bool
    header_from: str
    reasons: tuple[str, ...] = ()  # why the policy was not kept to, as ``mailing_list``; ``arc`` where a chain was good
    signatures: tuple[Signature, ...] = ()
    spf_seen: tuple[SpfSeen, ...] = ()

    @property
    def passed(self) -> bool:
        """Either is enough (RFC 9989 4.1)."""
        return self.dkim or self.spf


@dataclass(frozen=True, slots=True)
class AggregateReport:
    """One report. Times in seconds since 1970, ``end_s`` included; ``problems`` say what was passed over."""

    reporter: str
    contact: str
    report_id: str
    begin_s: int
    end_s: int
    domain: str  # whose policy was found
    policy: Policy
    subdomain_policy: Policy | None
    testing: bool
    rows: tuple[ReportRow, ...]
    problems: tuple[str, ...] = ()


def parse_report(text: str) -> AggregateReport:
    """Read a report's XML. Raises ``InputError`` naming the element that is missing or makes no sense.

    Records that make no sense are passed over and named in ``problems``, unless none is left.
    """
    reader = _Reader()
    for path, value in _elements(text):
        reader.take(path, value)
    return reader.report()


# Elements


def _elements(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """``(path below feedback, text)`` of each element that has no others in it, and ``(path, "")`` at the end of others."""
    text = _between(_between(text, "<!--", "-->", keep=False), "<![CDATA[", "]]>", keep=True)
    path: list[str] = []
    starts = 0
    for found in _TAG.finditer(text):
        closing, name, empty = found[1], found[2], found[3]
        if closing:
            if name not in path:
                continue
            while path:
                at = tuple(path)
                if path.pop() == name:
                    break
            yield at, _words(text[starts : found.start()]) if _is_leaf(at) else ""
            continue
        if path and _is_leaf(tuple(path)):  # it was not closed
            yield tuple(path), _words(text[starts : found.start()])
            path.pop()
        if not empty and len(path) < MAX_DEPTH:
            path.append(name)
            starts = found.end()


def _words(text: str) -> str:
    """On one line."""
    return " ".join(html.unescape(text).split())


def _is_leaf(path: tuple[str, ...]) -> bool:
    """``dkim`` and ``spf`` are leaves below ``policy_evaluated``."""
    return path[-1] in _LEAVES or (path[-2:-1] == ("policy_evaluated",) and path[-1] != "reason")


def _between(text: str, begin: str, end: str, *, keep: bool) -> str:
    """Without what stands between two marks, or without the marks; an open one ends the search."""
    pieces, at = [], 0
    while (start := text.find(begin, at)) >= 0:
        stop = text.find(end, start)
        if stop < 0:
            break
        pieces.append(text[at:start])
        if keep:
            pieces.append(html.escape(text[start + len(begin) : stop]))
        at = stop + len(end)
    return "".join([*pieces, text[at:]])


class _Reader:
    """Gathers elements until the report is whole."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._record: dict[str, str] = {}
        self._result: dict[str, str] = {}
        self._reasons: list[str] = []
        self._signatures: list[Signature] = []
        self._spf: list[SpfSeen] = []
        self._rows: list[ReportRow] = []
        self._problems: list[str] = []
        self._records = 0
        self._seen = False

    def take(self, path: tuple[str, ...], value: str) -> None:
        """The next element."""
        self._seen = self._seen or path[0] == "feedback"
        if "extension" in path:
            return
        match path[1:]:
            case ("report_metadata" | "policy_published" as part, name) | (
                "report_metadata" as part,
                "date_range",
                name,
            ):
                self._values.setdefault(f"{part}.{name}", value)
            case ("record", "auth_results", "dkim" | "spf" as kind):
                self._authenticated(kind)
            case ("record", "auth_results", _, name):
                self._result.setdefault(name, value)
            case ("record", "row", "policy_evaluated", "reason"):
                self._reason()
            case ("record", *_, name):
                self._record.setdefault(name, value)
            case ("record",):
                self._end_of_record()

    def _reason(self) -> None:
        """Google says ``local_policy`` of mail that a chain of ARC (RFC 8617) speaks for; its comment says so."""
        kind, comment = self._record.pop("type", "").lower()[:40], self._record.pop("comment", "").lower()
        if kind:
            self._reasons.append("arc" if kind == "local_policy" and "arc=pass" in comment else kind)

    def _authenticated(self, kind: str) -> None:
        one, self._result = self._result, {}
        domain, result = _domain(one.get("domain", "")), one.get("result", "").lower()[:20]
        if kind == "dkim":
            self._signatures.append(Signature(domain, one.get("selector", "")[:MAX_TEXT], result))
        else:
            self._spf.append(SpfSeen(domain, one.get("scope", "mfrom").lower()[:10], result))

    def _end_of_record(self) -> None:
        self._records += 1
        if self._records > MAX_ROWS:
            raise InputError(f"it has more than {MAX_ROWS} records", where="record", mend="give fewer days at once")
        try:
            self._rows.append(self._row())
        except InputError as error:
            self._problems.append(f"{error.where}: {error.what}")
        self._record, self._reasons, self._signatures, self._spf = {}, [], [], []

    def _row(self) -> ReportRow:
        where = f"record {self._records}"
        one = self._record
        try:
            ip = str(ipaddress.ip_address(one.get("source_ip", "")))
        except ValueError:
            raise InputError(f"{one.get('source_ip', '')[:60]!r} is no IP address", where=where, mend=_MEND) from None
        header_from = _domain(one.get("header_from", "") or self._values.get("policy_published.domain", ""))
        if not header_from:
            raise InputError(f"{one.get('header_from', '')[:60]!r} is no domain", where=where, mend=_MEND)
        return ReportRow(
            ip,
            _whole(one.get("count", ""), 0, MAX_COUNT, where, "count"),
            policy_of(one.get("disposition", "")) or "none",  # RFC 9990 has "pass" where DMARC passed
            one.get("dkim", "").lower() == "pass",
            one.get("spf", "").lower() == "pass",
            header_from,
            tuple(dict.fromkeys(self._reasons)),
            tuple(self._signatures),
            tuple(self._spf),
        )

    def report(self) -> AggregateReport:
        """All of it. Raises ``InputError``."""
        if not self._seen:
            raise InputError("it has no feedback element: this is no aggregate report", where="feedback", mend=_MEND)
        values = self._values
        domain = _domain(values.get("policy_published.domain", ""))
        if not domain:
            what = "it does not say whose policy was found"
            raise InputError(what, where="policy_published, domain", mend=_MEND)
        reporter = values.get("report_metadata.org_name", "") or values.get("report_metadata.email", "")
        report_id = values.get("report_metadata.report_id", "")
        for name, value in (("org_name", reporter), ("report_id", report_id)):
            if not value:
                raise InputError(f"{name} is missing", where=f"report_metadata, {name}", mend=_MEND)
        begin_s, end_s = (self._instant(name) for name in ("begin", "end"))
        if not begin_s <= end_s <= begin_s + MAX_DAYS * DAY_S:
            what = f"it speaks of the time from {begin_s} to {end_s}"
            raise InputError(what, where="report_metadata, date_range", mend=_MEND)
        if not self._rows and self._problems:
            raise InputError(f"none of its records can be read; {self._problems[0]}", where="record", mend=_MEND)
        return AggregateReport(
            reporter[:MAX_TEXT],
            values.get("report_metadata.email", "")[:MAX_TEXT],
            report_id[:MAX_TEXT],
            begin_s,
            end_s,
            domain,
            policy_of(values.get("policy_published.p", "")) or "none",
            policy_of(values.get("policy_published.sp", "")),
            values.get("policy_published.testing", "").lower() == "y",
            tuple(self._rows),
            tuple(self._problems),
        )

    def _instant(self, name: str) -> int:
        text = self._values.get(f"report_metadata.{name}", "")
        return _whole(text, 1, 2**33, "report_metadata, date_range", name)


def _domain(text: str) -> str:
    """As an A-label name; empty where it is none."""
    try:
        return domain_to_ascii(text.strip().rstrip(".")) if text else ""
    except InputError:
        return ""


def _whole(text: str, least: int, most: int, where: str, name: str) -> int:
    """Some write ``1704067200.0``."""
    digits = text.partition(".")[0]
    if digits.isascii() and digits.isdigit() and len(digits) <= 15 and least <= int(digits) <= most:
        return int(digits)
    raise InputError(f"{text[:40]!r} cannot be {name}", where=f"{where}, {name}", mend=_MEND)
