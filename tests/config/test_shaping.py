"""Every shipped shaping rule hears its own sample, not the other one, and none stands in another's way."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailfleet.base.errors import ConfigError
from mailfleet.config.bounce_rules import load_rules
from mailfleet.config.providers import load_providers
from mailfleet.config.shaping import load_shaping
from mailfleet.policy.classify import BOUNCE_CLASSES, Classifier
from mailfleet.policy.outcome import Outcome, Phase
from mailfleet.policy.shaping import Shaper, ShapingRule, Signal, faults
from mailfleet.smtp.reply import Reply

RULES = load_shaping()
CLASSIFIER = Classifier(load_rules())


def heard(sample: str) -> ShapingRule | None:
    provider, _, text = sample.partition(": ")
    reply = Reply(int(text[:3]), (text[4:],))
    verdict = CLASSIFIER.judge(Outcome(Phase.MAIL, reply), provider or None, attempts=1, age_s=0)
    return Shaper(RULES).rule_for(Signal(0, 1, provider, 1, 1, "mail", verdict.bounce_class, verdict.rule, str(reply)))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_hears_what_it_is_for(rule: ShapingRule) -> None:
    for sample in rule.matches:
        found = heard(sample)
        assert found is not None, sample
        assert found.name == rule.name, sample
    for sample in rule.rejects:
        found = heard(sample)
        assert found is None or found.name != rule.name, sample


def test_no_rule_is_in_vain() -> None:
    assert faults(RULES, BOUNCE_CLASSES, [one.name for one in load_rules()], load_providers().providers) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('classes = ["nonsense"]', "no class 'nonsense'"),
        ('classes = ["greylisted"]', "no class 'greylisted'"),
        ('bounce_rules = ["nonsense"]', "no bounce rule"),
        ('providers = ["nobody"]\nclasses = ["policy"]', "no provider"),
        ("", "can never match"),
        ('classes = ["rate-limited"]', "taken by rate-limited"),
    ],
)
def test_the_linter_says_what_is_in_vain(tmp_path: Path, change: str, said: str) -> None:
    path = tmp_path / "shaping.toml"
    path.write_text(
        f'[[rule]]\nname = "own"\n{change}\naction = "slow"\nscope = "lane"\nshare = 50\nfor = "1h"\nstep = "1h"\n'
        'reason = "x"\nmatches = ["x"]\nrejects = ["y"]\n'
    )
    rules = (*RULES, *load_shaping(path))
    found = faults(rules, BOUNCE_CLASSES, [one.name for one in load_rules()], load_providers().providers)
    assert len(found) == 1
    assert found[0].startswith("own: ")
    assert said in found[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule", "cannot be read"),
        ('[[rule]]\nname = "a"\nfor = "soon"', "rule 1 (a)"),
        ("[[rule]]\nshare = 100", "rule 1 (no name)"),
    ],
)
def test_a_broken_file_names_the_rule(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "shaping.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_shaping(path)
    assert said in f"{caught.value.where} {caught.value}"
