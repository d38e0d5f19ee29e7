"""How a simulated provider treats a recipient: by the start of the local-part, else by a hash against the provider's shares.

Pure: no state and no clock. What has to be remembered between tries lives in ``memory``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum

from mailfleet.mail.address import Address


class Manner(StrEnum):
    """One way to treat a recipient. The value is the name of its share in ``rates`` and of its words."""

    OK = "ok"
    UNKNOWN = "unknown"
    FULL = "full"  # for ever
    FULL_CLEARS = "full-clears"  # for two tries
    DISABLED = "disabled"
    GREY = "grey"  # until GREYLIST_S after the first try
    LATER = "later"  # first try: 421 and the connection closes
    RATELIMIT = "ratelimit"  # first try: 4xx for this recipient, the connection stays
    BLOCKED = "blocked"  # the client's address is on a block list
    SLOW = "slow"  # SLOW_S before the reply to the message
    DROP = "drop"  # first try: the connection closes in the middle of the message
    SPAM = "spam"  # refused after the final dot


# Longer prefixes stand before the shorter ones that they begin with.
PREFIXES: tuple[tuple[str, Manner], ...] = (
    ("unknown", Manner.UNKNOWN),
    ("nobody", Manner.UNKNOWN),
    ("full-clears", Manner.FULL_CLEARS),
    ("full", Manner.FULL),
    ("disabled", Manner.DISABLED),
    ("grey", Manner.GREY),
    ("later", Manner.LATER),
    ("ratelimit", Manner.RATELIMIT),
    ("blocked", Manner.BLOCKED),
    ("slow", Manner.SLOW),
    ("drop", Manner.DROP),
    ("spam", Manner.SPAM),
    ("ok", Manner.OK),
)
_FIRST_LETTERS = frozenset(prefix[0] for prefix, _ in PREFIXES)

# The word in log and report for each manner that refuses; the same words as the bounce classes where there is one.
REASONS: Mapping[Manner, str] = {
    Manner.UNKNOWN: "unknown-user",
    Manner.FULL: "mailbox-full",
    Manner.FULL_CLEARS: "mailbox-full",
    Manner.DISABLED: "mailbox-disabled",
    Manner.GREY: "greylisted",
    Manner.LATER: "try-later",
    Manner.RATELIMIT: "rate-limited",
    Manner.BLOCKED: "ip-blocked",
    Manner.DROP: "connection-dropped",
    Manner.SPAM: "content-spam",
}

# How many tries of one recipient are put off before it is let through.
TRIES: Mapping[Manner, int] = {Manner.FULL_CLEARS: 2, Manner.LATER: 1, Manner.RATELIMIT: 1, Manner.DROP: 1}

GREYLIST_S = 300  # provider's time: divided by sandbox.time_scale
SLOW_S = 3.0  # real time: what a slow remote does to a sender does not shrink


def manner_of(address: Address, provider: str, seed: int, rates: Mapping[Manner, float]) -> Manner:
    """The manner for one recipient; the same arguments always give the same answer.

    ``rates`` maps manners to shares (0..1) of the recipients whose local-part asks for nothing; they are laid end to end
    in the order of ``Manner``, so a change of one share moves only recipients at its borders.
    """
    local_part = address.local_part.casefold()
    if local_part[:1] in _FIRST_LETTERS:
        for prefix, manner in PREFIXES:
            if local_part.startswith(prefix):
                return manner
    if not rates:
        return Manner.OK
    # Not for secrecy: only to spread recipients evenly and the same way on every machine.
    digest = hashlib.blake2b(f"{seed}\0{provider}\0{local_part}@{address.domain}".encode(), digest_size=8).digest()
    point = int.from_bytes(digest, "big") / 2**64
    for manner, share in rates.items():
        point -= share
        if point < 0:
            return manner
    return Manner.OK
