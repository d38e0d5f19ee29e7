"""Answers from a zone in memory, for evaluations that yield their questions."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TypeVar

from mailfleet.mail.spf import Answer, Question

T = TypeVar("T")
Zone = Mapping[str, Mapping[str, list[str] | None]]
"""Name, type, values; a type that is None gives no answer at all. A CNAME is followed."""


def answer(zone: Zone, question: Question) -> Answer:
    """What a resolver would say."""
    found = zone.get(question.name.lower())
    if found is None:
        return Answer("missing")
    if "CNAME" in found:
        return answer(zone, Question((found["CNAME"] or [""])[0], question.kind))
    records = found.get(question.kind, [])
    return Answer("failed") if records is None else Answer("found", tuple(records))


def run(steps: Generator[Question, Answer, T], zone: Zone) -> T:
    """The end of an evaluation."""
    try:
        question = next(steps)
        while True:
            question = steps.send(answer(zone, question))
    except StopIteration as end:
        result: T = end.value
        return result
