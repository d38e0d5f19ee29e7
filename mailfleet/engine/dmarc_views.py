"""What people see of DMARC reports: who sends with a domain in From, how far its policy may go, and the reports themselves."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


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
