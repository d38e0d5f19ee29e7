"""What the simulated providers say is judged as it is meant, by the rules that judge the real ones."""

from __future__ import annotations

import pytest

from mailfleet.config.bounce_rules import load_rules
from mailfleet.policy.classify import Classifier
from mailfleet.policy.outcome import Action, Phase
from mailfleet.sandbox import catalogue
from mailfleet.sandbox.catalogue import ProviderSpec
from mailfleet.smtp.reply import Reply

CLASSES = {
    "unknown": {"unknown-user"},
    "full": {"mailbox-full"},
    "full-clears": {"mailbox-full"},
    "disabled": {"mailbox-disabled"},
    "grey": {"greylisted"},
    "later": {"rate-limited", "remote-down"},
    "ratelimit": {"rate-limited", "mailbox-busy"},
    "blocked": {"ip-blocklisted", "ip-reputation", "rate-limited"},
    "spam": {"content-spam"},
    "too-large": {"message-too-large"},
    "connections": {"too-many-connections"},
    "connection-rate": {"too-many-connections", "rate-limited", "remote-down"},
    "messages": {"too-many-connections", "rate-limited", "remote-down"},
}
PHASES = {"connections": Phase.GREETING, "connection-rate": Phase.GREETING, "messages": Phase.MAIL}
PROVIDERS = {"gmail": "gmail", "outlook": "outlook", "yahoo": "yahoo", "smallbiz": None, "legacy": None}


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(load_rules())


@pytest.mark.parametrize("spec", catalogue.load(), ids=lambda spec: spec.name)
@pytest.mark.parametrize("key", CLASSES)
def test_words(classifier: Classifier, spec: ProviderSpec, key: str) -> None:
    words = spec.words[key]
    values = {
        "recipient": "ann@gmail.com",
        "domain": "gmail.com",
        "host": spec.host,
        "id": "1a2b",
        "client": "127.0.0.1",
    }
    wire = words.encode(**values).decode()
    reply = Reply(words.code, tuple(line[4:] for line in wire.removesuffix("\r\n").split("\r\n")))
    late = key == "spam" or key in spec.late
    verdict = classifier.explain(
        reply, PROVIDERS[spec.name], PHASES.get(key, Phase.MESSAGE if late else Phase.RCPT)
    ).verdict
    assert verdict.bounce_class in CLASSES[key], (reply.text, verdict.rule)
    if words.code < 500:
        assert verdict.action is Action.DEFER
    elif key != "blocked":  # a block of the source is worth a try from another one
        assert verdict.action is Action.BOUNCE
    assert verdict.suppress == (key in ("unknown", "disabled"))
