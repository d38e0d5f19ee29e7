"""How far a domain's DMARC policy may go, by what reports show: none, quarantine, reject. Pure; days are counted since 1970.

Mail that fails is of three kinds, which reports cannot tell apart: our own that is not right yet, that of services which may speak
for the domain, and what is forged. Whose a sender is, is known of our own addresses; of others that matter a person says it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mailfleet.mail.dmarc import POLICIES, Policy, is_stricter
from mailfleet.policy.dns_checks import Check, State

CHECK = "dmarc-rollout"
POLICY = "dmarc-policy"  # as history calls a change of it
LOOK_DAYS = 30
MIN_DAYS = 14  # with reports at one stage, before the next: two weeks hold what is sent weekly, twice
MIN_MESSAGES = 100
OWN_FAILS = 0.01  # share of good mail that may fail: what forwarding breaks, and receivers' own troubles
WEIGHTY_MESSAGES, WEIGHTY_SHARE, WEIGHTY_DAYS = 10, 0.002, 2  # from these on, a stranger must be judged
RECENT_DAYS, LOST_MESSAGES, LOST_SHARE = 3, 20, 0.02  # from these on, a policy that hurts goes back
FORWARDED = "forwarders"  # everybody who passes on what carries our signature

Kind = Literal["ours", "forwarders", "service", "unknown"]
Judged = Literal["open", "ours", "foreign"]
JUDGED: tuple[Judged, ...] = ("open", "ours", "foreign")
_EXCUSES = frozenset(("forwarded", "mailing_list", "trusted_forwarder", "arc"))


class Seen(NamedTuple):
    """Messages of one kind, as reports have them.

    ``held``: quarantined or rejected; ``signed_by``: selector of a signature that passed and is aligned; ``known_as``: another domain
    by which SPF or DKIM passed; ``reasons``: why a receiver did not keep to the policy, a space between; ``why``: what SPF and DKIM
    came to, where both fail. ``recent``: of ``messages``, those of the last ``RECENT_DAYS``; ``days``: on how many there were some.
    """

    ip: str
    dkim: bool
    spf: bool
    held: bool
    signed_by: str
    known_as: str
    reasons: str
    why: str
    messages: int
    recent: int
    days: int
    last_day: int

    @property
    def passed(self) -> bool:
        """Either is enough."""
        return self.dkim or self.spf


@dataclass(slots=True)
class Sender:
    """Who sends mail with the domain in From. ``who``: a source's name, a domain, an address or an IPv6 /64.

    ``excused``: of ``failed``, what receivers let pass as forwarded; ``failed_days``: on so many days at least.
    """

    who: str
    kind: Kind
    judged: Judged = "open"
    passed: int = 0
    by_dkim: int = 0
    by_spf: int = 0
    failed: int = 0
    excused: int = 0
    recent_passed: int = 0
    recent_lost: int = 0
    last_day: int = 0
    failed_days: int = 0
    addresses: dict[str, int] = field(default_factory=dict)
    whys: dict[str, int] = field(default_factory=dict)

    @property
    def messages(self) -> int:
        """All of them."""
        return self.passed + self.failed

    @property
    def good(self) -> bool:
        """Whether its mail is meant to arrive, as far as is known."""
        return self.kind in ("ours", "forwarders") or self.judged == "ours"

    @property
    def why(self) -> str:
        """How most of what fails does; empty where nothing does."""
        return max(self.whys, key=lambda one: self.whys[one], default="")


def senders(
    seen: Iterable[Seen], own: Mapping[str, str], selectors: Collection[str], judged: Mapping[str, Judged]
) -> list[Sender]:
    """Who is who, the largest first. ``own``: names of our sources by address; ``selectors``: of our keys."""
    found: dict[str, Sender] = {}
    for one in seen:
        who, kind = _who(one, own, selectors)
        _count(found.setdefault(who, Sender(who, kind, judged.get(who, "open"))), one)
    return sorted(found.values(), key=lambda one: (-one.messages, one.who))


def _who(one: Seen, own: Mapping[str, str], selectors: Collection[str]) -> tuple[str, Kind]:
    if one.ip in own:
        return own[one.ip], "ours"
    if one.signed_by in selectors and one.dkim:
        return FORWARDED, "forwarders"
    if one.known_as:
        return one.known_as, "service"
    if one.signed_by:
        return f"selector {one.signed_by}", "service"
    address = ipaddress.ip_address(one.ip)
    if address.version == 4:
        return one.ip, "unknown"
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64))), "unknown"


def _count(sender: Sender, one: Seen) -> None:
    sender.last_day = max(sender.last_day, one.last_day)
    sender.addresses[one.ip] = sender.addresses.get(one.ip, 0) + one.messages
    if one.passed:
        sender.passed += one.messages
        sender.by_dkim += one.messages if one.dkim else 0
        sender.by_spf += one.messages if one.spf else 0
        sender.recent_passed += one.recent
        return
    sender.failed += one.messages
    sender.failed_days = max(sender.failed_days, one.days)
    sender.whys[one.why] = sender.whys.get(one.why, 0) + one.messages
    if _EXCUSES & set(one.reasons.split()):
        sender.excused += one.messages
    if one.held:
        sender.recent_lost += one.recent


class Evidence(NamedTuple):
    """What is known. ``stage``: the policy that the DNS has now; ``stage_days``: days of which reports found it.

    ``wanted``: the policy that is set.
    """

    domain: str
    stage: Policy
    wanted: Policy
    days: int
    stage_days: int
    reporters: int
    senders: Sequence[Sender]


class Advice(NamedTuple):
    """``to``: the policy to go to next, up or back; None: stay. The rest is as a check has it."""

    state: State
    found: str
    meaning: str
    next_step: str = ""
    to: Policy | None = None

    def check(self) -> Check:
        """As one of the domain's checks."""
        return Check(CHECK, self.state, self.found, "all mail of your own passes", self.meaning, self.next_step)


def advise(evidence: Evidence) -> Advice | None:
    """What to do; None where there are no reports to go by."""
    if not evidence.days:
        return None
    for look in (_hurts, _behind, _own_fails, _strangers, _young):
        advice = look(evidence)
        if advice is not None:
            return advice
    higher = _step(evidence.stage, 1)
    if higher is None:
        meaning = "forged mail is refused, and your own passes: nothing is left to do"
        return Advice("ok", _found(evidence), meaning)
    return Advice(
        "warning",
        _found(evidence),
        f"your own mail passes: p={evidence.stage} can become p={higher}, which keeps out what is forged",
        _set(evidence, higher),
        higher,
    )


def _hurts(evidence: Evidence) -> Advice | None:
    """A policy that takes our own mail away goes back at once."""
    lower = _step(evidence.stage, -1)
    good = [one for one in evidence.senders if one.good]
    lost, passed = sum(one.recent_lost for one in good), sum(one.recent_passed for one in good)
    if lower is None or lost < LOST_MESSAGES or lost < LOST_SHARE * (lost + passed):
        return None
    worst = max(good, key=lambda one: one.recent_lost)
    return Advice(
        "failed",
        _found(evidence),
        f"p={evidence.stage} takes mail of your own away: in the last {RECENT_DAYS} days of reports {lost:,} of {lost + passed:,}"
        f" messages were held, most from {worst.who} ({worst.why})",
        f"go back until that is mended: mailfleet domain set {evidence.domain} --dmarc {lower}, then mailfleet domain publish"
        f" {evidence.domain}",
        lower,
    )


def _behind(evidence: Evidence) -> Advice | None:
    """What is set is not in the DNS."""
    if not is_stricter(evidence.wanted, evidence.stage):
        return None
    meaning = f"p={evidence.wanted} is set, and the DNS has p={evidence.stage}"
    return Advice("ok", _found(evidence), meaning)  # the check of the record says what to do


def _own_fails(evidence: Evidence) -> Advice | None:
    good = [one for one in evidence.senders if one.good]
    failed, every = sum(one.failed - one.excused for one in good), sum(one.messages for one in good)
    if not failed or failed <= OWN_FAILS * every:
        return None
    worst = max(good, key=lambda one: one.failed - one.excused)
    meaning = f"mail of your own fails: {failed:,} of {every:,} messages, most from {worst.who} ({worst.why})"
    step = "see that it is signed with the domain's key and leaves with its return-path: mailfleet domain check"
    if worst.kind != "ours":
        step = f"have {worst.who} sign with a key of {evidence.domain}, or use a return-path below it, and publish its records"
    return Advice("warning", _found(evidence), meaning, step)


def _strangers(evidence: Evidence) -> Advice | None:
    unsure = weighty(evidence.senders)
    if not unsure or _step(evidence.stage, 1) is None:
        return None
    named = ", ".join(f"{one.who} ({one.failed:,})" for one in unsure[:3])
    more = f" and {len(unsure) - 3} more" if len(unsure) > 3 else ""
    return Advice(
        "warning",
        _found(evidence),
        f"senders whose mail fails, and of whom it is not known whether they may speak for the domain: {named}{more}",
        f"say whose they are: mailfleet dmarc judge {evidence.domain} ours|foreign {unsure[0].who}; what is ours must be set"
        " up to pass first",
    )


def _young(evidence: Evidence) -> Advice | None:
    messages = sum(one.messages for one in evidence.senders if one.good)
    higher = _step(evidence.stage, 1)
    if higher is None or (evidence.stage_days >= MIN_DAYS and messages >= MIN_MESSAGES):
        return None
    lacks = f"{MIN_DAYS} days of reports at p={evidence.stage} are wanted, and {evidence.stage_days} are there"
    if evidence.stage_days >= MIN_DAYS:
        lacks = f"{MIN_MESSAGES} messages of your own are wanted, and {messages} were reported on"
    return Advice("ok", _found(evidence), f"nothing speaks against p={higher} so far: {lacks}")


def weighty(found: Iterable[Sender]) -> list[Sender]:
    """Those of whom a person has to say whose they are, the most failures first."""
    every = list(found)
    share = WEIGHTY_SHARE * sum(one.messages for one in every if one.good)
    unsure = [
        one
        for one in every
        if not one.good
        and one.judged == "open"
        and one.failed - one.excused >= max(WEIGHTY_MESSAGES, share)
        and one.failed_days >= WEIGHTY_DAYS
    ]
    return sorted(unsure, key=lambda one: (-one.failed, one.who))


def _found(evidence: Evidence) -> str:
    passed = sum(one.passed for one in evidence.senders)
    every = passed + sum(one.failed for one in evidence.senders)
    share = f", {100 * passed / every:.1f} % pass" if every else ""
    days = f"{evidence.days} day{'' if evidence.days == 1 else 's'} of reports"
    who = f"{evidence.reporters} receiver{'' if evidence.reporters == 1 else 's'}"
    return f"p={evidence.stage}; {days} by {who}: {every:,} messages{share}"


def _set(evidence: Evidence, policy: Policy) -> str:
    return f"mailfleet domain set {evidence.domain} --dmarc {policy}, then mailfleet domain publish {evidence.domain}"


def _step(stage: Policy, by: int) -> Policy | None:
    at = POLICIES.index(stage) + by
    return POLICIES[at] if 0 <= at < len(POLICIES) else None


def stage_of(seen: Sequence[tuple[int, str, int]]) -> Policy | None:
    """The policy that receivers found last; ``seen`` as in ``days_at``."""
    newest = max((day for day, _, _ in seen), default=0)
    last = {policy: messages for day, policy, messages in seen if day == newest}
    return max((one for one in POLICIES if one in last), key=lambda one: last[one], default=None)


def days_at(stage: Policy, seen: Sequence[tuple[int, str, int]]) -> int:
    """Days with reports since receivers find ``stage`` in the DNS; ``seen`` are ``(day, policy, messages)``.

    Right after a change some still find the old policy: a day counts for what most of its mail was held to.
    """
    by_day: dict[int, dict[str, int]] = {}
    for day, policy, messages in seen:
        found = by_day.setdefault(day, {})
        found[policy] = found.get(policy, 0) + messages
    days = 0
    for day in sorted(by_day, reverse=True):
        found = by_day[day]
        if max(found, key=lambda one: (found[one], one == stage)) != stage:
            break
        days += 1
    return days
