"""From a provider's words to a brake: rules that count what is heard, and say how hard and how long to hold back. Pure.

The words themselves are understood elsewhere (``policy.classify``): a rule here names bounce classes, or single bounce rules
where a provider means something special by them. Greylisting is never a signal: it is how strangers are met.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mailfleet.policy.brakes import Decision

ACTIONS = ("slow", "rest", "reroute", "stop")
SCOPES = ("lane", "provider", "source", "domain", "stream")
MAX_KEYS = 50_000  # of what is counted at a time; the oldest are forgotten
UNHEARD = frozenset({"greylisted", "none"})


class Signal(NamedTuple):
    """What a remote said of one attempt, as it was understood."""

    at_ms: int
    egress_id: int
    provider: str
    site_id: int
    stream_id: int
    phase: str
    bounce_class: str
    rule: str  # of the bounce rules, or what decided
    words: str  # the reply


@dataclass(frozen=True, slots=True)
class ShapingRule:
    """``after`` such signals ``within_s`` lead to ``action`` on ``scope``, if they are ``of_permille`` of the attempts meanwhile.

    Scope ``lane`` is the source at this site, ``provider`` the source at all sites of the provider, ``source`` the source
    everywhere, ``domain`` every source at the provider (it is not about an address), ``stream`` the stream at the provider.
    ``permille`` of the normal rate is left, 0 for nothing, for ``for_s``; then one step of recovery every ``step_s``.
    ``matches`` and ``rejects`` are replies with the provider before them, ``gmail: 421 4.7.28 ...``: tests hold them.
    """

    name: str
    action: str
    scope: str
    permille: int
    for_s: int
    step_s: int
    reason: str
    providers: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    after: int = 1
    within_s: int = 60
    of_permille: int = 0
    matches: tuple[str, ...] = ()
    rejects: tuple[str, ...] = ()

    def hears(self, signal: Signal) -> bool:
        """Whether it is about such a signal."""
        if self.providers and signal.provider not in self.providers:
            return False
        return signal.rule in self.rules or signal.bounce_class in self.classes


class Shaper:
    """Counts signals for one delivery process. ``scale``: how much faster time runs.

    The first rule that hears a signal has it: those of single providers come before those for all.
    """

    def __init__(self, rules: Sequence[ShapingRule], scale: float = 1) -> None:
        self._rules, self._scale = tuple(rules), scale
        self._heard: OrderedDict[tuple[str, tuple[int, str, int, int]], deque[tuple[int, int]]] = OrderedDict()
        self._attempts: OrderedDict[tuple[int, str, int], int] = OrderedDict()

    def attempted(self, egress_id: int, provider: str, site_id: int) -> int:
        """Count an attempt, whatever came of it; how many there were so far at this provider, or site of no known one."""
        key = egress_id, provider, 0 if provider else site_id
        count = self._attempts[key] = self._attempts.get(key, 0) + 1
        if len(self._attempts) > MAX_KEYS:
            self._attempts.popitem(last=False)
        return count

    def heard(self, signal: Signal) -> tuple[Decision, ...]:
        """What follows from one more attempt that was no success, with those before it."""
        attempts = self.attempted(signal.egress_id, signal.provider, signal.site_id)
        if signal.bounce_class in UNHEARD or not signal.words:
            return ()
        rule = self.rule_for(signal)
        if rule is None:
            return ()
        scope = _scope(rule, signal)
        key = rule.name, scope
        times = self._heard.pop(key, None) or deque(maxlen=rule.after)
        times.append((signal.at_ms, attempts))
        self._heard[key] = times
        while len(self._heard) > MAX_KEYS:
            self._heard.popitem(last=False)
        first_ms, before = times[0]
        if len(times) < rule.after or signal.at_ms - first_ms > rule.within_s * 1000 / self._scale:
            return ()
        if len(times) * 1000 < rule.of_permille * (attempts - before + 1):
            return ()
        egress_id, provider, site_id, stream_id = scope
        return (
            Decision(
                rule.action,
                rule.permille,
                self._ms(rule.for_s),
                self._ms(rule.step_s),
                rule.reason,
                rule.name,
                signal.words[:500],
                "rule",
                egress_id,
                provider,
                site_id,
                stream_id,
            ),
        )

    def rule_for(self, signal: Signal) -> ShapingRule | None:
        """The rule that is about a signal, None when none is."""
        return next((rule for rule in self._rules if rule.hears(signal)), None)

    def _ms(self, seconds: int) -> int:
        return max(1, round(seconds * 1000 / self._scale))


def _scope(rule: ShapingRule, signal: Signal) -> tuple[int, str, int, int]:
    if rule.scope == "lane":
        return signal.egress_id, "", signal.site_id, 0
    if rule.scope == "provider":  # a site of no known provider stands for itself
        return signal.egress_id, signal.provider, 0 if signal.provider else signal.site_id, 0
    if rule.scope == "source":
        return signal.egress_id, "", 0, 0
    if rule.scope == "domain":
        return 0, signal.provider, 0 if signal.provider else signal.site_id, 0
    return 0, signal.provider, 0 if signal.provider else signal.site_id, signal.stream_id


def faults(
    rules: Iterable[ShapingRule], classes: Iterable[str], bounce_rules: Iterable[str], providers: Iterable[str]
) -> list[str]:
    """What is wrong with a set of rules: what can never match, what an earlier one takes away, what does nothing."""
    known = {"class": set(classes) - UNHEARD, "bounce rule": set(bounce_rules), "provider": set(providers)}
    found: list[str] = []
    taken: dict[str, list[tuple[str, frozenset[str]]]] = defaultdict(list)
    for rule in rules:
        named = (("class", rule.classes), ("bounce rule", rule.rules), ("provider", rule.providers))
        found += [
            f"{rule.name}: there is no {what} {name!r}"
            for what, names in named
            for name in names
            if name not in known[what]
        ]
        if not rule.classes and not rule.rules:
            found.append(f"{rule.name}: it names neither a class nor a bounce rule, so it can never match")
        if rule.action == "slow" and not 0 < rule.permille < 1000:
            found.append(f"{rule.name}: slow needs a share between 0 and 100 %, or it does nothing")
        of = frozenset(rule.providers)
        for word in (*rule.classes, *rule.rules):
            before = [name for name, others in taken[word] if not others or (of and of <= others)]
            if before:
                found.append(f"{rule.name}: {word} is taken by {before[0]}, which stands before it")
            taken[word].append((rule.name, of))
    return found
