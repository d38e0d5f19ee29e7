"""DMARC: records, alignment, and what a receiver is asked to do (RFC 7489, RFC 9989). Pure: it yields its DNS questions.

The organisational domain comes from the public suffix list.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from publicsuffixlist import PublicSuffixList

from mailfleet.base.errors import MailfleetError
from mailfleet.mail.spf import Answer, Question

VERSION = "DMARC1"
Policy = Literal["none", "quarantine", "reject"]
POLICIES: tuple[Policy, ...] = ("none", "quarantine", "reject")
Mode = Literal["r", "s"]
_TAG = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*=\s*(.*?)\s*", re.S)
_VERSION = re.compile(r"\s*v\s*=\s*DMARC1\s*(;|$)")
_URI = re.compile(r"(mailto:[^!,;\s]+|https?://[^!,;\s]+)(?:!\d+[kmgt]?)?", re.I)


class DmarcSyntaxError(MailfleetError):
    """A record that says something else than it should; the message names the tag."""


@dataclass(frozen=True, slots=True)
class DmarcRecord:
    """A record. ``subdomain_policy`` and ``missing_policy`` (of names that do not exist) fall back as RFC 9989 has it."""

    policy: Policy
    subdomain_policy: Policy | None = None  # sp
    missing_policy: Policy | None = None  # np, RFC 9989
    dkim_mode: Mode = "r"
    spf_mode: Mode = "r"
    percent: int = 100  # pct, RFC 7489; RFC 9989 has t in its place
    testing: bool = False  # t
    aggregate_to: tuple[str, ...] = ()  # rua
    failure_to: tuple[str, ...] = ()  # ruf
    failure_options: str = "0"  # fo
    other: tuple[tuple[str, str], ...] = ()  # tags that are passed over

    def __str__(self) -> str:
        words = [f"v={VERSION}", f"p={self.policy}"]
        words += [f"sp={self.subdomain_policy}"] if self.subdomain_policy else []
        words += [f"np={self.missing_policy}"] if self.missing_policy else []
        words += ["adkim=s"] if self.dkim_mode == "s" else []
        words += ["aspf=s"] if self.spf_mode == "s" else []
        words += [f"pct={self.percent}"] if self.percent != 100 else []
        words += ["t=y"] if self.testing else []
        words += [f"rua={','.join(self.aggregate_to)}"] if self.aggregate_to else []
        words += [f"ruf={','.join(self.failure_to)}"] if self.failure_to else []
        words += [f"fo={self.failure_options}"] if self.failure_options != "0" else []
        return "; ".join([*words, *(f"{name}={value}" for name, value in self.other)])

    def policy_for(self, *, subdomain: bool, exists: bool = True) -> Policy:
        """What is asked of mail from the domain itself, of a name below it, or of a name below it that does not exist."""
        if not subdomain:
            return self.policy
        if not exists and self.missing_policy is not None:
            return self.missing_policy
        return self.subdomain_policy or self.policy


def is_dmarc(text: str) -> bool:
    """Whether a TXT record is a DMARC record at all: ``v=DMARC1`` comes first (RFC 7489 6.3)."""
    return _VERSION.match(text) is not None


def parse(text: str) -> DmarcRecord:
    """Raises ``DmarcSyntaxError``. A record with ``rua`` and no usable ``p`` stands for ``p=none`` (RFC 7489 6.6.3)."""
    if not is_dmarc(text):
        raise DmarcSyntaxError(f"it does not begin with v={VERSION}")
    tags: dict[str, str] = {}
    for part in text.split(";"):
        if not part.strip():
            continue
        found = _TAG.fullmatch(part)
        if found is None:
            raise DmarcSyntaxError(f"{part.strip()[:60]!r} is no tag: write name=value, with ; between them")
        if found[1].lower() in tags:
            raise DmarcSyntaxError(f"the tag {found[1]} is there twice")
        tags[found[1].lower()] = found[2]
    del tags["v"]
    aggregate = _uris(tags.pop("rua", ""))
    policy = policy_of(tags.pop("p", ""))
    if policy is None and not aggregate:
        raise DmarcSyntaxError("p is missing, or is none of none, quarantine, reject")
    return DmarcRecord(
        policy or "none",
        policy_of(tags.pop("sp", "")),
        policy_of(tags.pop("np", "")),
        "s" if tags.pop("adkim", "r").lower() == "s" else "r",
        "s" if tags.pop("aspf", "r").lower() == "s" else "r",
        _percent(tags.pop("pct", "100")),
        tags.pop("t", "n").lower() == "y",
        aggregate,
        _uris(tags.pop("ruf", "")),
        tags.pop("fo", "0"),
        tuple(tags.items()),
    )


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def organizational_domain(name: str) -> str:
    """The name one label below the public suffix; the name itself where it is a public suffix (RFC 7489 3.2)."""
    name = name.lower().rstrip(".")
    return _suffixes().privatesuffix(name) or name


def aligned(domain: str, from_domain: str, mode: Mode) -> bool:
    """Whether an authenticated domain stands for the one in From (RFC 7489 3.1)."""
    domain, from_domain = domain.lower().rstrip("."), from_domain.lower().rstrip(".")
    if not domain:
        return False
    return domain == from_domain if mode == "s" else organizational_domain(domain) == organizational_domain(from_domain)


class Discovered(NamedTuple):
    """Where a policy was found. ``problem``: why there is none, a sentence."""

    record: DmarcRecord | None
    at: str = ""
    problem: str = ""
    failed: bool = False  # the DNS gave no answer: nothing is known


def discover(from_domain: str) -> Generator[Question, Answer, Discovered]:
    """The record that speaks for a domain: its own, else that of its organisational domain (RFC 7489 6.6.3)."""
    from_domain = from_domain.lower().rstrip(".")
    problem = ""
    for name in dict.fromkeys((from_domain, organizational_domain(from_domain))):
        answer = yield Question(f"_dmarc.{name}", "TXT")
        if answer.status == "failed":
            return Discovered(None, name, f"_dmarc.{name} cannot be looked up at the moment", True)
        found = [text for text in answer.records if is_dmarc(text)]
        if len(found) > 1:  # none of them counts, and the search ends
            return Discovered(None, name, f"_dmarc.{name} has {len(found)} DMARC records: then none of them counts")
        if found:
            try:
                return Discovered(parse(found[0]), name)
            except DmarcSyntaxError as error:
                return Discovered(None, name, f"_dmarc.{name}: {error}")
        problem = f"there is no DMARC record at _dmarc.{name}"
    return Discovered(None, "", problem)


class Judged(NamedTuple):
    """``by``: ``dkim``, ``spf``, both or neither. ``disposition``: what the domain asks for."""

    passed: bool
    by: tuple[str, ...]
    disposition: Policy


def judge(
    found: Discovered,
    from_domain: str,
    *,
    spf_domain: str = "",
    dkim_domains: Iterable[str] = (),
    from_exists: bool = True,
) -> Judged:
    """What a receiver makes of a message whose SPF passed for ``spf_domain`` and whose DKIM did for ``dkim_domains``."""
    record = found.record
    if record is None:
        return Judged(False, (), "none")
    by = []
    if any(aligned(domain, from_domain, record.dkim_mode) for domain in dkim_domains):
        by.append("dkim")
    if aligned(spf_domain, from_domain, record.spf_mode):
        by.append("spf")
    if by:
        return Judged(True, tuple(by), "none")
    below = found.at != from_domain.lower().rstrip(".")
    policy = record.policy_for(subdomain=below, exists=from_exists)
    if record.testing:  # RFC 9989: one step milder while testing
        policy = POLICIES[max(0, POLICIES.index(policy) - 1)]
    return Judged(False, (), policy)


def report_permission(report_to: str, domain: str) -> Question | None:
    """What must be asked before reports about ``domain`` go to an address elsewhere (RFC 7489 7.1); None where nothing must."""
    host = report_to.partition(":")[2].partition("!")[0].rpartition("@")[2].lower().rstrip(".")
    if not host or organizational_domain(host) == organizational_domain(domain):
        return None
    return Question(f"{domain}._report._dmarc.{host}", "TXT")


def permits_reports(records: Sequence[str]) -> bool:
    """Whether the answer to that question is a yes."""
    return any(is_dmarc(text) for text in records)


def is_stricter(one: Policy, other: Policy) -> bool:
    """Whether more is asked of receivers."""
    return POLICIES.index(one) > POLICIES.index(other)


def policy_of(text: str) -> Policy | None:
    """A policy in whatever case; None for anything else."""
    lower = text.lower()
    return next((one for one in POLICIES if one == lower), None)


def _percent(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and int(text) <= 100 else 100


def _uris(text: str) -> tuple[str, ...]:
    return tuple(found.strip() for found in text.split(",") if _URI.fullmatch(found.strip()))
