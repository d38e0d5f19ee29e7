"""What the providers remember between tries, in digests; all of it can be rebuilt from the log of decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from mailfleet.sandbox.journal import Decision
from mailfleet.sandbox.manners import GREYLIST_S, REASONS, TRIES, Manner

_COUNTED = frozenset(REASONS[manner] for manner in TRIES)
_GREYLISTED = REASONS[Manner.GREY]


class Memory:
    """Tries per recipient, greylist, and which deliveries are settled. ``time_scale`` divides the greylist's window."""

    def __init__(self, time_scale: float) -> None:
        self._greylist_ms = GREYLIST_S * 1000 / time_scale
        self._tries: dict[int, int] = {}
        self._first_seen_ms: dict[int, int] = {}
        self._accepted: set[int] = set()
        self._refused: set[int] = set()

    def apply(self, decisions: Iterable[Decision]) -> None:
        """Remember decisions, just made or read back from the log."""
        for one in decisions:
            if one.accepted:
                self._accepted.add(delivery_digest(one.message_id, one.recipient))
            elif one.refused:
                self._refused.add(refusal_digest(one))
            elif one.reason == _GREYLISTED:
                self._first_seen_ms.setdefault(_triplet(one.sender, one.recipient), one.at_ms)
            elif one.reason in _COUNTED:
                key = digest(one.recipient.casefold())
                self._tries[key] = self._tries.get(key, 0) + 1

    def put_off(self, manner: Manner, recipient: str) -> bool:
        """Whether a manner that gives way after some tries still stands for ``recipient``."""
        return self._tries.get(digest(recipient.casefold()), 0) < TRIES[manner]

    def greylisted(self, sender: str, recipient: str, now_ms: int) -> bool:
        """Whether this pair is new or came back too early."""
        first_ms = self._first_seen_ms.get(_triplet(sender, recipient))
        return first_ms is None or now_ms - first_ms < self._greylist_ms

    def settled(self, decision: Decision) -> bool:
        """Whether the delivery that is accepted (or refused for good) here was accepted (or refused) before."""
        if decision.accepted:
            return delivery_digest(decision.message_id, decision.recipient) in self._accepted
        return decision.refused and refusal_digest(decision) in self._refused


def digest(text: str) -> int:
    """64 bits that stand for a text; a million of them collide with a chance of 1 in 37 million."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def delivery_digest(message_id: str, recipient: str) -> int:
    """One message for one recipient."""
    return digest(f"{message_id}\0{recipient.casefold()}")


def refusal_digest(decision: Decision) -> int:
    """A refused delivery; at RCPT no Message-ID is known yet, and the reverse-path has to stand for it."""
    return delivery_digest(decision.message_id or f"from:{decision.sender}", decision.recipient)


def _triplet(sender: str, recipient: str) -> int:
    """Greylisting goes by the sender's domain, so that a reverse-path made for one delivery does not look like a stranger."""
    return digest(f"{sender.rpartition('@')[2].lower()}\0{recipient.casefold()}")
