"""Block lists: what to ask, what an answer means, whether a list can be believed, and when to look again. Pure.

A list answers with addresses in 127.0.0.0/8 for what it lists and with nothing for the rest (RFC 5782). Some codes mean something
else: "your resolver is refused", "too many questions". And a list that is dead may answer for everything or for nothing, so each is
tested with what it must list and what it must not before it is believed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

CONFIRM_S = 300  # a listing is believed when it is there a second time
REFUSED_S = 86_400  # a list that refuses us is left alone so long
ACTIONS = ("rest", "drain", "watch")
TEST_ADDRESS, FREE_ADDRESS = "127.0.0.2", "127.0.0.1"  # RFC 5782 5


@dataclass(frozen=True, slots=True)
class BlockList:
    """One list. ``codes`` name what its answers mean, all others of 127.0.0.0/8 count as listed when it is empty.

    ``errors`` are codes that say nothing of the target. ``listed`` and ``free`` are what its test must find and must not.
    ``action`` is what a listing of a source leads to. ``private``: addresses that are not public are looked up too.
    """

    name: str
    label: str
    zone: str
    kind: str  # ip | domain
    action: str = "watch"
    ipv6: bool = False
    codes: dict[str, str] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    listed: str = TEST_ADDRESS
    free: str = FREE_ADDRESS
    every_s: int = 3600
    page: str = ""
    delist: str = ""
    private: bool = False


class Meaning(NamedTuple):
    """What an answer says: ``listed``, ``clear``, ``refused`` (it is about us, the askers) or ``broken``."""

    outcome: str
    codes: tuple[str, ...] = ()
    words: str = ""


def query_name(one: BlockList, target: str) -> str:
    """The name to ask for (RFC 5782 2.1, 2.4): an address backwards, a domain as it is, under the zone."""
    if one.kind == "domain":
        return f"{target}.{one.zone}"
    reverse = ipaddress.ip_address(target).reverse_pointer
    return f"{reverse.removesuffix('.in-addr.arpa').removesuffix('.ip6.arpa')}.{one.zone}"


def takes(one: BlockList, target: str) -> bool:
    """Whether a list is asked about a target at all."""
    try:
        address = ipaddress.ip_address(target)
    except ValueError:
        return one.kind == "domain"
    if one.kind != "ip" or (address.version == 6 and not one.ipv6):
        return False
    return address.is_global or one.private


def meaning(one: BlockList, records: Sequence[str]) -> Meaning:
    """What A records say; none at all is clear."""
    if not records:
        return Meaning("clear")
    codes = tuple(sorted(records))
    for code in codes:
        if code in one.errors:
            return Meaning("refused", codes, one.errors[code])
    if any(not code.startswith("127.") for code in codes):
        return Meaning("broken", codes, f"it answers {codes[0]}, which no block list does")
    known = [one.codes[code] for code in codes if code in one.codes]
    if one.codes and not known:
        return Meaning("clear", codes, f"it answers {', '.join(codes)}, which means nothing bad here")
    return Meaning("listed", codes, ", ".join(known))


def distrust(one: BlockList, listed: Meaning, free: Meaning) -> str:
    """Why a list is not believed, from what it says of its two test entries; empty when it is."""
    for found in (listed, free):
        if found.outcome in ("refused", "broken"):
            return found.words
    if listed.outcome != "listed":
        return f"it does not list {one.listed}, as every such list must: it does not answer us"
    if free.outcome == "listed":
        return f"it lists {one.free}, which no list may: it answers for everything"
    return ""


def next_look_s(one: BlockList, outcome: str, changed: bool, jitter: float) -> float:
    """When to look again, seconds; ``jitter`` from [0, 1) spreads looks. Sooner after a change, much later when refused."""
    if outcome == "refused":
        return REFUSED_S * (1 + jitter / 10)
    if changed:
        return min(CONFIRM_S, one.every_s) * (1 + jitter / 10)
    return one.every_s * (0.9 + jitter / 5)
