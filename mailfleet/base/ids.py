"""Ids are types: one per noun, time-ordered, 63-bit inside, a prefixed word outside.

Layout: 41 bits of milliseconds since 2024-01-01, 8 bits of worker (which process made it), 14 bits of sequence. Up to
16,384 ids a millisecond a process; beyond that the generator runs ahead of the clock rather than wait. Ids sort by time
of making within a process and, to the millisecond, between processes.

The public form is the noun's prefix, ``_`` and 13 letters of Crockford's base 32 (no I, L, O, U), for example
``dlv_02Q9ZK3M4A5B6``. It hides nothing; what must be unguessable is signed where it is used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NewType

from mailfleet.base.errors import InputError

TenantId = NewType("TenantId", int)
StreamId = NewType("StreamId", int)
DomainId = NewType("DomainId", int)
ContentId = NewType("ContentId", int)
CampaignId = NewType("CampaignId", int)
FlowId = NewType("FlowId", int)
DeliveryId = NewType("DeliveryId", int)
SiteId = NewType("SiteId", int)
EventId = NewType("EventId", int)
LeaseId = NewType("LeaseId", int)
CredentialId = NewType("CredentialId", int)
TokenId = NewType("TokenId", int)

EPOCH_MS = 1_704_067_200_000  # 2024-01-01T00:00:00Z
_WORKER_BITS = 8
_SEQUENCE_BITS = 14
MADE_SHIFT = _WORKER_BITS + _SEQUENCE_BITS  # an id shifted right by this is when it was made, since EPOCH_MS
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_VALUE = {letter: value for value, letter in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}

PREFIX = {
    TenantId: "ten",
    StreamId: "str",
    DomainId: "dom",
    ContentId: "cnt",
    CampaignId: "cmp",
    DeliveryId: "dlv",
    CredentialId: "crd",
    TokenId: "tok",
}


class IdGenerator:
    """Makes ids for one process. ``worker`` (0..255) must differ between processes that run at the same time."""

    def __init__(self, worker: int, now_ms: Callable[[], int] | None = None) -> None:
        if not 0 <= worker < 1 << _WORKER_BITS:
            raise ValueError("worker must be 0..255")
        self._worker = worker << _SEQUENCE_BITS
        self._now_ms = now_ms or (lambda: time.time_ns() // 1_000_000)
        self._last_ms = 0
        self._sequence = 0
        self._lock = threading.Lock()

    def next(self) -> int:
        """The next id."""
        return self.take(1)[0]

    def start_after(self, made: int) -> None:
        """Make none that may have been made before: ``made`` is the greatest id there is, and the clock may have been set back."""
        with self._lock:
            if made >> MADE_SHIFT >= self._last_ms:
                self._last_ms, self._sequence = (made >> MADE_SHIFT) + 1, 0

    def take(self, count: int) -> list[int]:
        """``count`` ids in ascending order; a clock that steps back does not make them repeat."""
        made: list[int] = []
        with self._lock:
            now_ms = self._now_ms() - EPOCH_MS
            if now_ms > self._last_ms:
                self._last_ms, self._sequence = now_ms, 0
            while len(made) < count:
                room = min(count - len(made), (1 << _SEQUENCE_BITS) - self._sequence)
                base = (self._last_ms << (_WORKER_BITS + _SEQUENCE_BITS)) | self._worker | self._sequence
                made.extend(range(base, base + room))
                self._sequence += room
                if self._sequence == 1 << _SEQUENCE_BITS:
                    self._last_ms, self._sequence = self._last_ms + 1, 0
        return made


def made_at_ms(value: int) -> int:
    """When an id was made, in milliseconds since the Unix epoch."""
    return (value >> (_WORKER_BITS + _SEQUENCE_BITS)) + EPOCH_MS


def public(prefix: str, value: int) -> str:
    """``public("dlv", 7)`` -> ``dlv_0000000000007``."""
    pairs, low = _PAIRS, value & 0x3FFFFFFF
    return (
        f"{prefix}_{_ALPHABET[value >> 60]}{pairs[value >> 50 & 1023]}{pairs[value >> 40 & 1023]}"
        f"{pairs[value >> 30 & 1023]}{pairs[low >> 20]}{pairs[low >> 10 & 1023]}{pairs[low & 1023]}"
    )


def from_public(prefix: str, text: str) -> int:
    """Read the public form back; letter case and the look-alikes O, I, L are forgiven. Raises ``InputError``."""
    head, _, tail = text.strip().partition("_")
    try:
        if head.lower() != prefix or len(tail) != 13:
            raise KeyError(text)
        value = 0
        for letter in tail.upper():
            value = value << 5 | _VALUE[letter]
        if value >= 1 << 63:
            raise KeyError(text)
        return value
    except KeyError:
        raise InputError(f"{text!r} is not an id of the form {prefix}_XXXXXXXXXXXXX", mend="copy it whole") from None
