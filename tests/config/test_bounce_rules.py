"""The shipped bounce rules, linted: each answers its own samples through the whole classifier, and none of its rejects."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailfleet.base.errors import ConfigError
from mailfleet.config.bounce_rules import SHIPPED, load_rules
from mailfleet.config.providers import load_providers
from mailfleet.policy.classify import Classifier, Rule
from mailfleet.policy.explain import parse_reply

RULES = load_rules()
CLASSIFIER = Classifier(RULES)
PROVIDERS = load_providers().providers
BY_NAME = {rule.name: rule for rule in RULES}


@pytest.fixture(params=sorted(BY_NAME))
def rule(request: pytest.FixtureRequest) -> Rule:
    return BY_NAME[request.param]


def test_there_are_enough_of_them() -> None:
    assert len(RULES) >= 120


def test_a_rule_answers_its_own_samples(rule: Rule) -> None:
    """Not shadowed by an earlier rule, and a reply whose provider is not known gets the same class."""
    for sample in rule.matches:
        reply = parse_reply(sample)
        assert CLASSIFIER.explain(reply, rule.provider).verdict.rule == rule.name, sample
        assert CLASSIFIER.explain(reply, None).verdict.bounce_class == rule.bounce_class, sample


def test_a_rule_does_not_answer_its_rejects(rule: Rule) -> None:
    for sample in rule.rejects:
        assert CLASSIFIER.explain(parse_reply(sample), rule.provider).verdict.rule != rule.name, sample


def test_a_rule_names_a_known_provider(rule: Rule) -> None:
    assert rule.provider is None or rule.provider in PROVIDERS


def test_only_rules_about_a_closed_or_missing_mailbox_suppress() -> None:
    assert {rule.bounce_class for rule in RULES if rule.suppress} == set()


def test_the_4yz_replies_that_bounce_are_these_and_no_others() -> None:
    bouncing = {
        rule.name
        for rule in RULES
        for sample in rule.matches
        if sample.startswith("4") and CLASSIFIER.explain(parse_reply(sample), rule.provider).verdict.action == "bounce"
    }
    assert bouncing == {"yahoo-permanently-deferred"}


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ('name = "a"\nclass = "nonsense"\ntext = ["x"]', "not a bounce class"),
        ('name = "a"\nclass = "policy"', "needs text or status"),
        ('name = "a"\nclass = "policy"\ntext = ["!!!"]', "no word"),
        ('name = "a"\nclass = "policy"\ntext = ["foo* bar"]', "end of a run"),
        ('name = "a"\nclass = "policy"\nstatus = ["5.7"]', "not a status"),
        ('name = "a"\nclass = "policy"\ntext = ["x"]\ncodes = ["2"]', "4yz or 5yz"),
        ('name = "A b"\nclass = "policy"\ntext = ["x"]', "name"),
        ('name = "a"\nclass = "policy"\ntext = ["x"]\nfoo = 1', "foo"),
        ('name = "a"\nclass = "policy"\ntext = ["x"]\naction = "deliver"', "action"),
    ],
)
def test_a_broken_rule_is_refused_by_name(tmp_path: Path, entry: str, complaint: str) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(f'[[rule]]\n{entry}\nmatches = ["550 x"]\nrejects = ["550 y"]\n', "utf-8")
    with pytest.raises(ConfigError, match=r"rules\.toml: rule 1") as raised:
        load_rules(file)
    assert complaint in str(raised.value)


def test_a_rule_without_samples_and_a_name_twice_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(
        '[[rule]]\nname = "a"\nclass = "policy"\ntext = ["x"]\nmatches = []\nrejects = ["550 y"]\n', "utf-8"
    )
    with pytest.raises(ConfigError, match="matches"):
        load_rules(file)
    one = '[[rule]]\nname = "a"\nclass = "policy"\ntext = ["x"]\nmatches = ["550 x"]\nrejects = ["550 y"]\n'
    file.write_text(one * 2, "utf-8")
    with pytest.raises(ConfigError, match=r"rule 2 \(a\).*same name"):
        load_rules(file)


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(SHIPPED.read_text("utf-8") + "\n[[rule", "utf-8")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_rules(file)
