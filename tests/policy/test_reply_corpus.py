"""Replies from the field that no rule was made from: the class each gets, every mismatch told at once."""

from __future__ import annotations

from pathlib import Path

from mailfleet.config.bounce_rules import load_rules
from mailfleet.policy.classify import BOUNCE_CLASSES, Classifier
from mailfleet.policy.explain import parse_reply

VECTORS = Path(__file__).parents[1] / "vectors" / "replies.tsv"
ROWS = [line.split("\t") for line in VECTORS.read_text("utf-8").splitlines() if not line.startswith("#")]
CLASSIFIER = Classifier(load_rules())
SAMPLES = {sample for rule in CLASSIFIER.rules for sample in rule.matches}


def test_there_are_enough_of_them_and_none_is_a_rules_own_sample() -> None:
    replies = [parse_reply(row[3]) for row in ROWS]
    assert len(set(replies)) >= 150
    own = {parse_reply(sample) for sample in SAMPLES}
    repeated = [str(reply) for reply in replies if reply in own]
    assert len(set(replies) - own) >= 150
    assert len(repeated) < 20, repeated  # stock sentences of servers, the same everywhere


def test_each_reply_gets_its_class_and_verdict() -> None:
    wrong = []
    for bounce_class, action, provider, text in ROWS:
        assert bounce_class in BOUNCE_CLASSES
        verdict = CLASSIFIER.explain(parse_reply(text), None if provider == "-" else provider).verdict
        if (verdict.bounce_class, verdict.action.value) != (bounce_class, action):
            wrong.append(
                f"{text[:100]}: {verdict.bounce_class} {verdict.action} by {verdict.rule}, not {bounce_class} {action}"
            )
    assert not wrong, "\n" + "\n".join(wrong)


def test_with_no_provider_known_the_class_is_the_same() -> None:
    wrong = []
    for bounce_class, _, _, text in ROWS:
        verdict = CLASSIFIER.explain(parse_reply(text), None).verdict
        if verdict.bounce_class != bounce_class:
            wrong.append(f"{text[:100]}: {verdict.bounce_class} by {verdict.rule}, not {bounce_class}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_only_an_unknown_or_closed_mailbox_is_suppressed() -> None:
    for bounce_class, action, provider, text in ROWS:
        verdict = CLASSIFIER.explain(parse_reply(text), None if provider == "-" else provider).verdict
        expected = action == "bounce" and bounce_class in ("unknown-user", "mailbox-disabled")
        assert verdict.suppress is expected, text
