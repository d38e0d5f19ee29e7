"""Judge: what the outcome of an attempt means. The only place that knows.

Provider rules speak first, then rules for everybody, then the enhanced status, then the bare code in its phase
(docs/decisions/bounce-classification.md). What the verdict leads to follows from four sentences:

- A 4yz is deferred, whatever its class, unless a rule says that it will never change.
- A 5yz bounces, unless its class or rule says that it is temporary in truth: then it is deferred for a number of
  attempts and at most ``MAX_DOUBT_S``, and bounces after that.
- A 5yz before MAIL is about the source, so it never says anything of the recipient and is tried elsewhere first.
- An address is suppressed only by a 5yz to RCPT or to the message that is about the recipient and bounces. A 550
  without words suppresses at RCPT, never at the message; a reply that also speaks of the sender never does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mailfleet.policy.bounce_classes import BOUNCE_CLASSES, BounceClass
from mailfleet.policy.fallback import BEFORE_MAIL, FAILURES, code_class, status_class
from mailfleet.policy.outcome import Action, Failure, Fault, Outcome, Phase, Verdict
from mailfleet.policy.phrases import words_of
from mailfleet.policy.rules import Rule, RuleBook, status_of
from mailfleet.smtp.reply import Reply

__all__ = ["BOUNCE_CLASSES", "MAX_DOUBT_S", "BounceClass", "Classifier", "Explanation", "Rule"]

MAX_DOUBT_S = 86_400
TRIES_BEFORE_MAIL = 3
MAX_RETRY_AFTER_S = 4 * 3600

_DELIVERED = Verdict(Action.DELIVER, "none", Fault.NONE, False, "delivered")
_ABOUT_RECIPIENT = frozenset({Phase.RCPT, Phase.DATA, Phase.MESSAGE})
_ABOUT_SENDER = frozenset({"sender", "senders", "authentication", "authenticated", "credentials"})
_WAIT = re.compile(
    r"(?:again|retry|wait|come back|erneut|réessayer)\D{0,24}(\d{1,5})\s?(s|m|h)(?:ec|in|ou|\b)", re.IGNORECASE
)
_UNIT_S = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict with the rule behind it, None where a table decided, and the sample reply that the rule was made from."""

    verdict: Verdict
    rule: Rule | None
    sample: str


class Classifier:
    """Judges outcomes by a book of rules. Immutable, shared by every lane of a process.

    Raises ``ValueError`` when two rules have one name or a phrase cannot be compiled.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._book = RuleBook(rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, in order."""
        return self._book.rules

    def judge(self, outcome: Outcome, provider: str | None, *, attempts: int, age_s: float) -> Verdict:
        """The verdict on one recipient's outcome.

        ``provider`` is the recipient's, None when it is no known one. ``attempts`` counts those made, this one included;
        ``age_s`` is the age of the delivery. Never raises on anything a remote can say.
        """
        reply = outcome.reply
        if reply is None:
            return _failure_verdict(outcome.failure)
        if outcome.phase is Phase.MESSAGE and 200 <= reply.code < 300:
            return _DELIVERED
        return self._refused(reply, outcome.phase, provider, attempts, age_s)[0]

    def explain(self, reply: Reply, provider: str | None, phase: Phase = Phase.RCPT) -> Explanation:
        """The verdict on a bare reply at its first attempt, and why. A 2yz counts as the answer to the message."""
        if reply.positive:
            return Explanation(_DELIVERED, None, "")
        verdict, rule = self._refused(reply, phase, provider, 1, 0)
        return Explanation(verdict, rule, rule.matches[0] if rule and rule.matches else "")

    def retry_after_s(self, verdict: Verdict, reply: Reply | None) -> int | None:
        """How long the remote wants to be left alone: by the rule that matched, else by its own words; None if neither says."""
        rule = self._book.by_name.get(verdict.rule)
        if rule is not None and rule.retry_after_s is not None:
            return rule.retry_after_s
        found = _WAIT.search(reply.text[:500]) if reply is not None and verdict.action is Action.DEFER else None
        if found is None:
            return None
        return min(int(found[1]) * _UNIT_S[found[2].lower()], MAX_RETRY_AFTER_S)

    def _refused(
        self, reply: Reply, phase: Phase, provider: str | None, attempts: int, age_s: float
    ) -> tuple[Verdict, Rule | None]:
        if not 400 <= reply.code < 600:  # RFC 5321 4.3.2: no other code answers a command in this place
            return Verdict(Action.DEFER, "protocol", Fault.SITE, False, f"code:{reply.code}"), None
        words, status = words_of(reply), status_of(reply)
        rule = self._book.first(reply, words, status, provider)
        by_code = False
        if rule is not None:
            name, said_by = rule.bounce_class, rule.name
        elif status is not None and (by_status := status_class(status)):
            name, said_by = by_status, f"status:{'.'.join(map(str, status))}"
        else:
            name, said_by = code_class(reply, phase, words, status is not None), f"code:{reply.code}"
            by_code = True
        one = _in_phase(BOUNCE_CLASSES[name], phase)
        action = _action(reply, phase, one, rule, attempts, age_s)
        suppress = one.suppress if rule is None or rule.suppress is None else rule.suppress
        suppress = (
            suppress
            and reply.permanent
            and action is Action.BOUNCE
            and phase in _ABOUT_RECIPIENT
            and not (by_code and phase is not Phase.RCPT)
            and _ABOUT_SENDER.isdisjoint(words)
        )
        fault = rule.fault if rule is not None and rule.fault is not None else one.fault
        return Verdict(action, one.name, fault, suppress, said_by), rule


def _in_phase(one: BounceClass, phase: Phase) -> BounceClass:
    """What the words of a class mean in a phase in which the recipient had not been named yet."""
    if one.fault is Fault.RECIPIENT and one.name != "no-mail-host":
        if phase is Phase.MAIL:
            return BOUNCE_CLASSES["sender-rejected"]
        if phase in BEFORE_MAIL:
            return BOUNCE_CLASSES["policy"]
    return one


def _action(reply: Reply, phase: Phase, one: BounceClass, rule: Rule | None, attempts: int, age_s: float) -> Action:
    override = rule.action if rule is not None else None
    if reply.transient:
        return override or Action.DEFER
    wanted = override or one.action
    tries = one.tries if override is None else max(one.tries, 8)
    if phase in BEFORE_MAIL and override is None and one.name != "no-mail-host":
        wanted, tries = Action.DEFER, max(tries, TRIES_BEFORE_MAIL)
    if wanted is Action.DEFER and (attempts >= tries or age_s >= MAX_DOUBT_S):
        return Action.BOUNCE
    return wanted


def _failure_verdict(failure: Failure) -> Verdict:
    meaning = FAILURES[failure]  # NONE without a reply is a bug of the caller's
    fault = BOUNCE_CLASSES[meaning.bounce_class].fault
    return Verdict(meaning.action, meaning.bounce_class, fault, meaning.suppress, f"failure:{failure.value}")
