"""A rehearsal put together: a model, a plan for each source and provider, and the shipped rules that understand replies."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from mailfleet.base.errors import ConfigError
from mailfleet.config.bounce_rules import load_rules
from mailfleet.config.models import load_model
from mailfleet.config.shaping import load_shaping
from mailfleet.config.warmup import load_plans
from mailfleet.policy.classify import Classifier
from mailfleet.policy.outcome import Action, Outcome, Phase
from mailfleet.policy.shaping import Shaper
from mailfleet.rehearse.model import Model, OneByOne
from mailfleet.rehearse.plans import PUBLISHED, Adaptive, Calendar, Warmer
from mailfleet.rehearse.play import Played, Understand, play
from mailfleet.smtp.reply import Reply

ADAPTIVE = "adaptive"  # the plan that a source gets where a person names none
ADAPTIVE_PLAN = "standard"


def understanding() -> Understand:
    """Replies as the shipped rules understand them."""
    classifier = Classifier(load_rules())

    @lru_cache(maxsize=1000)
    def understand(provider: str, words: str) -> tuple[str, str, bool]:
        reply = Reply(int(words[:3]), (words[4:],))
        verdict = classifier.judge(Outcome(Phase.RCPT, reply), provider, attempts=1, age_s=0)
        return verdict.bounce_class, verdict.rule, verdict.action is Action.DEFER

    return understand


def rehearse(
    *,
    model: str,
    plan: str,
    target: int,
    days: int,
    sources: int,
    seed: int,
    understand: Understand,
    one_by_one: bool = False,
) -> Played:
    """Play ``plan`` against ``model``, in cohorts or message by message. Raises ``ConfigError`` where one of them is not there."""
    names = [f"s{number}" for number in range(1, sources + 1)]
    loaded = load_model(model, seed)
    made: Model = OneByOne(loaded) if one_by_one else loaded
    warmers: dict[tuple[str, str], Warmer] = {}
    for number, source in enumerate(names, start=1):
        for provider, share in made.providers.items():
            warmers[source, provider] = _warmer(plan, provider, share, number)
    return play(made, warmers, understand, target=target, days=days, sources=names)


def plans() -> list[str]:
    """Every plan that can be named."""
    return [ADAPTIVE, *load_plans(), *PUBLISHED]


def _warmer(plan: str, provider: str, share: float, source: int) -> Warmer:
    if plan in PUBLISHED:
        caps, needs = PUBLISHED[plan]
        return Calendar(caps, share, needs)
    known = load_plans(*([Path(plan)] if plan.endswith(".toml") else []))
    name = ADAPTIVE_PLAN if plan == ADAPTIVE else list(known)[-1] if plan.endswith(".toml") else plan
    if name not in known:
        raise ConfigError(f"there is no plan {plan!r}", where="plan", mend=f"a file, or one of {', '.join(plans())}")
    return Adaptive(known[name], Shaper(load_shaping()), provider, source)
