"""Bounce rules as values, and the book that finds the first one that speaks about a reply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mailfleet.policy.bounce_classes import BOUNCE_CLASSES
from mailfleet.policy.outcome import Action, Fault
from mailfleet.policy.phrases import PhraseIndex
from mailfleet.smtp.reply import Reply

# A status stands at the start of a line, or in brackets or after "#" where a server cannot say it otherwise.
_STATUS = re.compile(r"(?:^|[\s(\[#:<])([245])\.(\d)\.(\d{1,3})(?!\.?\d)")

StatusPattern = tuple[int | None, int, int]


@dataclass(frozen=True, slots=True)
class Rule:
    """Words that mean a class.

    It matches a reply when its code starts with one of ``codes`` (any, when empty), its enhanced status is one of
    ``statuses`` (any, when empty) and one of ``phrases`` (see ``policy.phrases``) stands in it. A rule needs phrases or
    statuses. ``provider`` None holds everywhere. The overrides say where a rule differs from its class. ``matches`` are
    real replies that it must answer, ``rejects`` replies that it must not.
    """

    name: str
    bounce_class: str
    provider: str | None = None
    codes: tuple[str, ...] = ()
    statuses: tuple[StatusPattern, ...] = ()
    phrases: tuple[str, ...] = ()
    action: Action | None = None
    fault: Fault | None = None
    suppress: bool | None = None
    retry_after_s: int | None = None
    matches: tuple[str, ...] = ()
    rejects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.bounce_class not in BOUNCE_CLASSES:
            raise ValueError(f"{self.bounce_class!r} is not a bounce class")
        if not self.phrases and not self.statuses:
            raise ValueError("a rule needs text or status")

    def fits(self, code: str, status: tuple[int, int, int] | None) -> bool:
        """Whether code and enhanced status allow it; the words are not looked at."""
        if self.codes and not code.startswith(self.codes):
            return False
        return not self.statuses or (status is not None and any(_agrees(one, status) for one in self.statuses))


def _agrees(pattern: StatusPattern, status: tuple[int, int, int]) -> bool:
    return pattern[1:] == status[1:] and pattern[0] in (None, status[0])


def parse_status_pattern(text: str) -> StatusPattern:
    """``5.7.26``, or ``*.7.26`` for both classes. Raises ``ValueError``."""
    match = re.fullmatch(r"([45*])\.(\d)\.(\d{1,3})", text)
    if not match:
        raise ValueError(f"{text!r} is not a status of the form 5.7.26 or *.7.26")
    return (None if match[1] == "*" else int(match[1]), int(match[2]), int(match[3]))


def status_of(reply: Reply) -> tuple[int, int, int] | None:
    """The first enhanced status in a reply: at the start of a line, else in brackets or behind ``#``, as some servers write it.

    Its class may differ from the reply code's: then the code decides what to do, the status only why.
    """
    for line in reply.lines[:8]:
        match = _STATUS.search(line, 0, 300)
        if match:
            return int(match[1]), int(match[2]), int(match[3])
    return None


class RuleBook:
    """Rules in the order in which they are asked: the recipient's provider's, then those for everybody, then other providers'.

    The last are asked because mail for one provider is often refused in the words of another: filters stand in front,
    forwarders pass words on. With no provider known every provider's rules come first, as their words are the more exact.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        names = [rule.name for rule in rules]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"several rules are named {', '.join(sorted(twice))}")
        self.rules = tuple(rules)
        self.by_name = dict(zip(names, self.rules, strict=True))
        self._phrase_rule = [number for number, rule in enumerate(self.rules) for _ in rule.phrases]
        self._index = PhraseIndex([phrase for rule in self.rules for phrase in rule.phrases])
        self._by_status: dict[tuple[int, int], list[int]] = {}
        for number, rule in enumerate(self.rules):
            if not rule.phrases:
                for _, subject, detail in rule.statuses:
                    self._by_status.setdefault((subject, detail), []).append(number)
        providers = {rule.provider for rule in self.rules}
        self._rank = {provider: self._ranks(provider) for provider in providers}
        self._rank_elsewhere = self._ranks("")
        self.providers = frozenset(provider for provider in providers if provider is not None)

    def _ranks(self, provider: str | None) -> list[tuple[int, int]]:
        def group(rule: Rule) -> int:
            if rule.provider is None:
                return 1
            return 0 if provider is None or rule.provider == provider else 2

        return [(group(rule), number) for number, rule in enumerate(self.rules)]

    def first(
        self, reply: Reply, words: Sequence[str], status: tuple[int, int, int] | None, provider: str | None
    ) -> Rule | None:
        """The rule that speaks about ``reply``, whose words and status have been taken already."""
        candidates = {self._phrase_rule[number] for number in self._index.search(words)}
        if status is not None:
            candidates.update(self._by_status.get(status[1:], ()))
        if not candidates:
            return None
        rank = self._rank.get(provider, self._rank_elsewhere)
        code = str(reply.code)
        for number in sorted(candidates, key=rank.__getitem__):
            if self.rules[number].fits(code, status):
                return self.rules[number]
        return None
