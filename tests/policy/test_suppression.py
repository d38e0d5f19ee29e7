"""Suppressions: what a verdict writes, and for which mail an entry holds."""

from __future__ import annotations

import pytest

from mailfleet.policy.outcome import Action, Failure, Fault, Outcome, Phase, Verdict
from mailfleet.policy.suppression import (
    MAX_EVIDENCE_CHARS,
    Reason,
    applies,
    bounded,
    suppression_after,
    suppression_for,
)
from mailfleet.smtp.reply import Reply

HARD = Verdict(Action.BOUNCE, "unknown-user", Fault.RECIPIENT, True, "rule")
SOFT = Verdict(Action.BOUNCE, "content-spam", Fault.CONTENT, False, "rule")


def test_a_hard_bounce_holds_for_the_whole_tenant_with_the_remotes_words() -> None:
    outcome = Outcome(Phase.RCPT, Reply(550, ("5.1.1 <ann@example.org>: User unknown",)))
    written = suppression_after(HARD, outcome, "bulk")
    assert written is not None
    assert written.stream is None
    assert written.reason == "hard-bounce"
    assert written.evidence == "550 5.1.1 <ann@example.org>: User unknown"
    assert suppression_after(SOFT, outcome, "bulk") is None


def test_without_a_reply_the_evidence_is_our_finding() -> None:
    found = suppression_after(HARD, Outcome(Phase.DNS, failure=Failure.NULL_MX), "bulk")
    assert found is not None
    assert found.evidence == "null-mx"
    told = suppression_after(
        HARD, Outcome(Phase.DNS, failure=Failure.NO_SUCH_DOMAIN, detail="nosuch.example does not exist"), "bulk"
    )
    assert told is not None
    assert told.evidence == "nosuch.example does not exist"


@pytest.mark.parametrize(
    ("reason", "stream"),
    [
        (Reason.HARD_BOUNCE, None),
        (Reason.MANUAL, None),
        (Reason.COMPLAINT, "bulk"),
        (Reason.UNSUBSCRIBE, "bulk"),
    ],
)
def test_the_scope_follows_the_reason(reason: Reason, stream: str | None) -> None:
    assert suppression_for(reason, "bulk", "x").stream == stream


@pytest.mark.parametrize(
    ("scope", "stream", "holds"),
    [(None, "bulk", True), (None, "transactional", True), ("bulk", "bulk", True), ("bulk", "transactional", False)],
)
def test_an_entry_applies_to_its_scope(scope: str | None, stream: str, holds: bool) -> None:
    assert applies(scope, stream) is holds


def test_evidence_is_one_bounded_line() -> None:
    assert bounded("a\r\nb\x00c\td") == "a b c d"
    assert len(bounded("word " * 400)) <= MAX_EVIDENCE_CHARS
    assert bounded("é" * 600).endswith("…")
