"""By what messages in a DMARC report can be told apart: who signed them, and as whom else they are known. Pure."""

from __future__ import annotations

from typing import NamedTuple

from mailfleet.mail.dmarc import organizational_domain
from mailfleet.mail.dmarc_report import ReportRow

MAX_SIGNATURES, MAX_SPF, MAX_WHY = 3, 2, 200  # that ``why`` tells of; its characters


class Marks(NamedTuple):
    """``signed_by``: selector of a signature that passed and is aligned; ``known_as``: another organisational domain by which
    SPF of the reverse-path or DKIM passed; ``why``: what both came to, where neither counts. Each may be empty."""

    signed_by: str
    known_as: str
    why: str


def marks_of(row: ReportRow) -> Marks:
    """Of messages of one kind. Alignment is as the receiver found it."""
    home = organizational_domain(row.header_from)
    good = [one for one in row.signatures if one.result == "pass" and one.domain]
    ours = sorted(one.selector for one in good if organizational_domain(one.domain) == home)
    domains = [one.domain for one in good]
    domains += [one.domain for one in row.spf_seen if one.result == "pass" and one.scope != "helo" and one.domain]
    others = (found for found in map(organizational_domain, domains) if found != home)
    return Marks(ours[0] if ours and row.dkim else "", next(others, ""), "" if row.passed else _why(row))


def _why(row: ReportRow) -> str:
    said = [
        f"DKIM {one.selector or '?'} of {one.domain or '?'}: {one.result or '?'}"
        for one in row.signatures[:MAX_SIGNATURES]
    ]
    said = said or ["no DKIM signature"]
    said += [f"SPF of {one.domain or '?'}: {one.result or '?'}" for one in row.spf_seen[:MAX_SPF]]
    return "; ".join(said)[:MAX_WHY]
