"""Which addresses must not be mailed, and for which mail: what to write after a verdict, and when an entry applies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mailfleet.policy.outcome import Outcome, Verdict

MAX_EVIDENCE_CHARS = 500


class Reason(StrEnum):
    """Why an address is suppressed."""

    HARD_BOUNCE = "hard-bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"


_WHOLE_TENANT = frozenset({Reason.HARD_BOUNCE, Reason.MANUAL})


@dataclass(frozen=True, slots=True)
class NewSuppression:
    """An entry to write for the recipient's ``Address.key``. ``stream`` None is the whole tenant; ``evidence`` is bounded."""

    stream: str | None
    reason: Reason
    evidence: str


def suppression_for(reason: Reason, stream: str, evidence: str) -> NewSuppression:
    """The entry for a reason that arose on mail of ``stream``.

    A mailbox that is gone is gone for every kind of mail, so a hard bounce holds for the whole tenant, and so does a
    person's decision; who complains of a newsletter or leaves it still gets the password reset he asks for.
    """
    return NewSuppression(None if reason in _WHOLE_TENANT else stream, reason, bounded(evidence))


def suppression_after(verdict: Verdict, outcome: Outcome, stream: str) -> NewSuppression | None:
    """The entry that a verdict asks for, or None. The evidence is the remote's own words, or ours where no remote spoke."""
    if not verdict.suppress:
        return None
    said = str(outcome.reply) if outcome.reply is not None else outcome.detail or outcome.failure.value
    return suppression_for(Reason.HARD_BOUNCE, stream, said)


def applies(suppression_stream: str | None, stream: str) -> bool:
    """Whether an entry with this scope holds for mail of ``stream``."""
    return suppression_stream is None or suppression_stream == stream


def bounded(text: str) -> str:
    """``text`` on one line, without control characters, of at most ``MAX_EVIDENCE_CHARS`` characters."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= MAX_EVIDENCE_CHARS else line[: MAX_EVIDENCE_CHARS - 1].rstrip() + "…"
