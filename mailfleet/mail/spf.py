"""Evaluating SPF (RFC 7208 4): may this address send for this domain? Pure: it yields its DNS questions and is sent the answers.

evaluation = check_host(ip, domain, sender)
question = next(evaluation)                 # StopIteration.value is the result
question = evaluation.send(Answer(...))
"""

from __future__ import annotations

import ipaddress
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mailfleet.base.errors import MailfleetError
from mailfleet.mail.address import is_within
from mailfleet.mail.spf_macro import (
    Address,
    MacroString,
    SpfSyntaxError,
    address_macro,
    parse_macro_string,
    shortened,
)
from mailfleet.mail.spf_record import (
    LOOKUP_MECHANISMS,
    MAX_LOOKUPS,
    QUALIFIERS,
    Directive,
    SpfRecord,
    is_spf,
    parse,
)

MAX_VOID = 2  # RFC 7208 4.6.4
MAX_HOSTS = 10  # addresses looked up for one mx, names for one ptr
Verdict = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]
Kind = Literal["TXT", "A", "AAAA", "MX", "PTR"]


class Question(NamedTuple):
    """What is asked of the DNS."""

    name: str
    kind: Kind


class Answer(NamedTuple):
    """``status``: ``found`` (with records or none), ``missing`` (NXDOMAIN) or ``failed``. MX records are ``preference name``."""

    status: Literal["found", "missing", "failed"]
    records: tuple[str, ...] = ()


@dataclass(slots=True)
class SpfResult:
    """``why``: the term that decided, or what is wrong. ``lookups`` and ``void_lookups`` count as RFC 7208 4.6.4 has it."""

    verdict: Verdict
    why: str = ""
    domain: str = ""  # whose record decided
    explanation: str = ""
    lookups: int = 0
    void_lookups: int = 0


class _EvaluationError(MailfleetError):
    """Evaluation ends here with an error of its own."""

    def __init__(self, verdict: Literal["temperror", "permerror"], why: str) -> None:
        self.verdict: Literal["temperror", "permerror"] = verdict
        super().__init__(why)


Steps = Generator[Question, Answer, SpfResult]


def check_host(ip: str | Address, domain: str, sender: str, *, helo: str = "", receiver: str = "unknown") -> Steps:
    """``sender`` is the reverse-path's address, or the HELO name's with postmaster; ``domain`` is whose record is asked first."""
    address = ipaddress.ip_address(ip) if isinstance(ip, str) else ip
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # RFC 7208 5
    local, _, host = sender.rpartition("@")
    run = _Run(address, f"{local or 'postmaster'}@{host}", helo or host, receiver)
    try:
        result = yield from run.host(domain.rstrip("."))
    except _EvaluationError as broken:
        result = SpfResult(broken.verdict, str(broken), domain)
    result.lookups, result.void_lookups = run.lookups, run.void
    return result


@dataclass(slots=True)
class _Run:
    """One evaluation, with what it has used up."""

    ip: Address
    sender: str
    helo: str
    receiver: str
    lookups: int = 0
    void: int = 0
    names: list[str] | None = field(default=None)  # that the address has, confirmed

    def host(self, domain: str, *, included: bool = False) -> Steps:
        if not _is_name(domain) or "." not in domain:
            return SpfResult("none", f"{domain or 'it'} is no domain name", domain)  # RFC 7208 4.3
        answer = yield Question(domain, "TXT")
        if answer.status == "failed":
            raise _EvaluationError("temperror", f"{domain} TXT: no answer")
        found = [text for text in answer.records if is_spf(text)]
        if not found:
            return SpfResult("none", f"{domain} has no SPF record", domain)
        if len(found) > 1:
            raise _EvaluationError("permerror", f"{domain} has {len(found)} SPF records")
        try:
            record = parse(found[0])
        except SpfSyntaxError as error:
            raise _EvaluationError("permerror", f"{domain}: {error}") from None
        return (yield from self.record(record, domain, included=included))

    def record(self, record: SpfRecord, domain: str, *, included: bool) -> Steps:
        for one in record.directives:
            if (yield from self.matches(one, domain)):
                result = SpfResult(QUALIFIERS[one.qualifier], str(one), domain)  # type: ignore[arg-type]  # its values are verdicts
                if result.verdict == "fail" and record.explanation is not None and not included:
                    result.explanation = yield from self.explained(record.explanation, domain)
                return result
        if record.redirect is None:
            return SpfResult("neutral", "nothing matches", domain)
        self.count(f"redirect={record.redirect.text}")
        target = yield from self.filled(record.redirect, domain)
        result = yield from self.host(target, included=included)
        if result.verdict == "none":
            raise _EvaluationError("permerror", f"{domain} redirects to {target}, which has no SPF record")
        return result

    def matches(self, one: Directive, domain: str) -> Generator[Question, Answer, bool]:
        if one.mechanism == "all":
            return True
        if one.network is not None:
            return self.ip in one.network
        if one.mechanism in LOOKUP_MECHANISMS:
            self.count(str(one))
        target = domain if one.domain is None else (yield from self.filled(one.domain, domain))
        if one.mechanism == "include":
            return (yield from self.include(target, domain))
        if one.mechanism == "exists":
            answer = yield from self.ask(target, "A")
            return bool(answer.records)
        if one.mechanism == "ptr":
            names = yield from self.confirmed_names()
            target = target.lower()
            return any(is_within(name, target) for name in names)
        if one.mechanism == "mx":
            hosts = yield from self.mail_hosts(target)
        else:
            hosts = [target]
        for host in hosts:
            if (yield from self.lies_at(host, one)):
                return True
        return False

    def include(self, target: str, domain: str) -> Generator[Question, Answer, bool]:
        result = yield from self.host(target, included=True)
        if result.verdict == "none":  # RFC 7208 5.2
            raise _EvaluationError("permerror", f"{domain} includes {target}: {result.why}")
        return result.verdict == "pass"

    def mail_hosts(self, target: str) -> Generator[Question, Answer, list[str]]:
        answer = yield from self.ask(target, "MX")
        if len(answer.records) > MAX_HOSTS:
            raise _EvaluationError("permerror", f"{target} has more than {MAX_HOSTS} mail hosts")
        ordered = sorted((int(text.split(" ")[0]), text.partition(" ")[2]) for text in answer.records)
        return [name for _, name in ordered if name.rstrip(".")]

    def lies_at(self, host: str, one: Directive) -> Generator[Question, Answer, bool]:
        kind: Kind = "A" if self.ip.version == 4 else "AAAA"
        answer = yield from self.ask(host, kind)
        bits = one.cidr4 if self.ip.version == 4 else one.cidr6
        return any(self.ip in ipaddress.ip_network((text, bits), strict=False) for text in answer.records)

    def confirmed_names(self) -> Generator[Question, Answer, list[str]]:
        """Names of the address that lead back to it (RFC 7208 5.5), in lower case."""
        if self.names is None:
            self.names = []
            answer = yield Question(self.ip.reverse_pointer, "PTR")
            kind: Kind = "A" if self.ip.version == 4 else "AAAA"
            for name in answer.records[:MAX_HOSTS]:
                back = yield Question(name.rstrip("."), kind)
                if any(ipaddress.ip_address(text) == self.ip for text in back.records):
                    self.names.append(name.rstrip(".").lower())
        return self.names

    def ask(self, name: str, kind: Kind) -> Generator[Question, Answer, Answer]:
        name = name.rstrip(".")
        answer = (yield Question(name, kind)) if _is_name(name) else Answer("missing")
        if answer.status == "failed":
            raise _EvaluationError("temperror", f"{name} {kind}: no answer")
        if not answer.records:
            self.void += 1
            if self.void > MAX_VOID:
                raise _EvaluationError(
                    "permerror", f"more than {MAX_VOID} look-ups find nothing, the last is {name} {kind}"
                )
        return answer

    def count(self, term: str) -> None:
        self.lookups += 1
        if self.lookups > MAX_LOOKUPS:
            raise _EvaluationError(
                "permerror", f"more than {MAX_LOOKUPS} terms need a look-up, the first too many is {term}"
            )

    def filled(self, text: MacroString, domain: str, *, explanation: bool = False) -> Generator[Question, Answer, str]:
        values = {
            "s": self.sender,
            "l": self.sender.rpartition("@")[0],
            "o": self.sender.rpartition("@")[2],
            "d": domain,
            "i": address_macro(self.ip),
            "v": "in-addr" if self.ip.version == 4 else "ip6",
            "h": self.helo,
            "c": str(self.ip),
            "r": self.receiver,
            "t": "0",
        }
        if "p" in text.letters:
            values["p"] = yield from self.best_name(domain)
        made = text.filled(values)
        return made if explanation else shortened(made.rstrip("."))

    def best_name(self, domain: str) -> Generator[Question, Answer, str]:
        """``%{p}``: the domain itself or a name below it before any other (RFC 7208 7.3)."""
        names = yield from self.confirmed_names()
        domain = domain.lower()
        below = [name for name in names if name.endswith(f".{domain}")]
        return next((name for name in (*(one for one in names if one == domain), *below, *names)), "unknown")

    def explained(self, spec: MacroString, domain: str) -> Generator[Question, Answer, str]:
        """The domain's own words (RFC 7208 6.2); none where anything is wrong with them."""
        target = yield from self.filled(spec, domain)
        if not _is_name(target):
            return ""
        answer = yield Question(target, "TXT")
        if len(answer.records) != 1 or not answer.records[0].isascii():
            return ""
        try:
            text = parse_macro_string(answer.records[0], explanation=True)
        except SpfSyntaxError:
            return ""
        return (yield from self.filled(text, domain, explanation=True))


def _is_name(name: str) -> bool:
    """One that DNS can hold: at most 253 octets, labels of 1 to 63."""
    labels = name.split(".")
    return 0 < len(name) <= 253 and all(0 < len(label.encode()) <= 63 for label in labels)
