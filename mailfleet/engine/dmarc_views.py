"""What people see of DMARC reports: who sends with a domain in From, how far its policy may go, and the reports themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from mailfleet.base.clock import rfc3339
from mailfleet.mail.dmarc import POLICIES, Policy
from mailfleet.mail.dmarc_report import DAY_S
from mailfleet.policy.dmarc_rollout import Advice, Sender, weighty
from mailfleet.store.dmarc import Reach, Report
from mailfleet.store.sending import SendingDomain

MAX_SENDERS = 100  # that are listed
MAX_STRANGERS = 10  # among them, of those of whom nothing is asked: forgers come from everywhere
MAX_ADDRESSES = 5


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class DmarcSenderView(_View):
    """Somebody who sends mail with the domain in From."""

    who: str = Field(
        description="A source of ours, `forwarders` (of mail with our signature), a domain that it authenticates as,"
        " `selector NAME` (it signs with another key of the domain), an address or an IPv6 /64."
    )
    kind: str = Field(description="`ours`, `forwarders`, `service` or `unknown`.")
    judged: str = Field(description="Whose it is by a person's word: `ours`, `foreign`, `open`.")
    must_judge: bool = Field(description="Enough of its mail fails that the policy waits for a word on it.")
    messages: int
    passed: int
    by_dkim: int
    by_spf: int
    failed: int
    excused: int = Field(description="Of those that failed, let pass by receivers as forwarded.")
    why: str = Field(description="What SPF and DKIM came to for most of those that failed.")
    addresses: list[str] = Field(description="From where, the most frequent first, at most five.")
    host: str = Field(
        description="Of senders that are not ours: what the first of these addresses is called in the DNS, where that name"
        " leads back to it; empty where none does, or the DNS was too slow."
    )
    last_day: str


class DmarcDayView(_View):
    """Messages that were reported on of one day."""

    day: str
    messages: int
    passed: int


class DmarcView(_View):
    """What reports show of a domain, and what that means for its policy."""

    domain: str
    policy: str = Field(
        description="As the DNS has it by the last check, else as receivers found it; empty where neither is known."
    )
    rollout: str = Field(description="`by-hand`, or `auto`: the policy follows what reports show.")
    days: int = Field(description="Days with reports.")
    reporters: int
    messages: int
    passed: int
    state: str = Field(description="`ok`, `warning`, `failed`; `unknown` where there are no reports.")
    found: str
    meaning: str
    next_step: str
    next_policy: str = Field(description="Where it may go, or must go back to; empty: it stays.")
    senders: list[DmarcSenderView] = Field(description="The largest first.")
    others: int = Field(description="Messages of senders that are not listed.")
    other_senders: int = Field(description="How many these are.")
    by_day: list[DmarcDayView]


class DmarcReportView(_View):
    """A report."""

    domain: str = Field(description="Whose policy was found.")
    reporter: str
    report_id: str
    begin: str
    end: str
    policy: str
    messages: int
    passed: int
    received: str


class DmarcTakenView(_View):
    """A report that was given."""

    report: DmarcReportView
    known: bool = Field(description="It was there already, and counts once.")
    problems: list[str] = Field(description="Records of it that make no sense and were passed over.")


class DmarcTaken(_View):
    """Reports of one file."""

    items: list[DmarcTakenView]


class Found(NamedTuple):
    """What the database has on a domain."""

    domain: SendingDomain
    reach: Reach
    senders: Sequence[Sender]
    stages: Sequence[tuple[int, str, int]]
    stage: Policy | None  # that the DNS had when it was looked at last, else as receivers found it last


def report_view(one: Report) -> DmarcReportView:
    """As it is shown."""
    return DmarcReportView(
        domain=one.domain,
        reporter=one.reporter,
        report_id=one.report_id,
        begin=rfc3339(one.begin_s * 1000),
        end=rfc3339(one.end_s * 1000),
        policy=one.policy,
        messages=one.messages,
        passed=one.passed,
        received=rfc3339(one.at_ms),
    )


def listed(found: Found) -> tuple[list[Sender], set[str]]:
    """Those that a view lists, the largest first, and whom of them a person must judge: these are listed, however small."""
    unsure = {one.who for one in weighty(found.senders)} if found.stage != POLICIES[-1] else set()
    return _listed(found.senders, unsure), unsure


def to_name(senders: Sequence[Sender]) -> dict[str, str]:
    """The address by which somebody who is not ours is called, by sender."""
    return {one.who: _first(one)[0] for one in senders if one.kind not in ("ours", "forwarders") and one.addresses}


def view_of(
    found: Found, advice: Advice | None, by_day: Sequence[tuple[int, int, int]], names: Mapping[str, str]
) -> DmarcView:
    """As it is shown. ``by_day``: day, messages, of these passed; ``names``: of addresses."""
    shown, unsure = listed(found)
    hosts = {who: names.get(address, "") for who, address in to_name(shown).items()}
    messages, passed = sum(one[1] for one in by_day), sum(one[2] for one in by_day)
    nothing = "" if found.reach.days else "no report has come in yet"
    return DmarcView(
        domain=found.domain.name,
        policy=found.stage or "",
        rollout=found.domain.dmarc_rollout,
        days=found.reach.days,
        reporters=found.reach.reporters,
        messages=messages,
        passed=passed,
        state=advice.state if advice else "unknown",
        found=advice.found if advice else nothing,
        meaning=advice.meaning if advice else "",
        next_step=advice.next_step if advice else "",
        next_policy=(advice.to or "") if advice else "",
        senders=[_sender_view(one, one.who in unsure, hosts.get(one.who, "")) for one in shown],
        others=messages - sum(one.messages for one in shown),
        other_senders=len(found.senders) - len(shown),
        by_day=[DmarcDayView(day=_day(day), messages=every, passed=good) for day, every, good in by_day],
    )


def _listed(every: Sequence[Sender], unsure: Collection[str]) -> list[Sender]:
    strangers = [one.who for one in every if one.kind == "unknown" and one.judged == "open" and one.who not in unsure]
    small = set(strangers[MAX_STRANGERS:])
    shown = sorted((one for one in every if one.who not in small), key=lambda one: one.who not in unsure)[:MAX_SENDERS]
    return sorted(shown, key=lambda one: (-one.messages, one.who))


def _first(one: Sender) -> list[str]:
    return sorted(one.addresses, key=lambda address: (-one.addresses[address], address))[:MAX_ADDRESSES]


def _sender_view(one: Sender, must_judge: bool, host: str) -> DmarcSenderView:
    return DmarcSenderView(
        who=one.who,
        kind=one.kind,
        judged=one.judged,
        must_judge=must_judge,
        messages=one.messages,
        passed=one.passed,
        by_dkim=one.by_dkim,
        by_spf=one.by_spf,
        failed=one.failed,
        excused=one.excused,
        why=one.why,
        addresses=_first(one),
        host=host,
        last_day=_day(one.last_day),
    )


def _day(day: int) -> str:
    return rfc3339(day * DAY_S * 1000)[:10]
