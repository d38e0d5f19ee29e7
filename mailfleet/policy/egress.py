"""Which way out a delivery takes: what its last attempt asks for, and whose turn it is among the members of a pool. Pure.

A delivery is bound to a way out only when it is claimed. What an attempt leaves behind is its *way*, one number that the queue
is sorted by: ``FRESH``, ``ANYWHERE``, ``only(n)`` after greylisting (the remote waits for the same address) and ``but(n)`` after
words about the address itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mailfleet.mail.address import address_literal

FRESH, ANYWHERE = 0, 1
SLACK = 8  # deliveries that a way out may be ahead of its share: fewer would be lost to rounding
_FULL = 0.8


def ehlo_name(own: str, default: str, hostname: str) -> str:
    """What a source says in EHLO: its own name, else that of all sources (``delivery.ehlo_name``), else the server's."""
    return own or default or hostname


def relay_hosts(host: str) -> tuple[tuple[int, str]]:
    """A relay's host as the hosts of a site: ``(preference, name)``."""
    is_address = ":" in host or host.replace(".", "").isdigit()
    return ((0, address_literal(host) if is_address else host),)


def only(egress_id: int) -> int:
    """Again, from this one."""
    return 2 * egress_id


def but(egress_id: int) -> int:
    """Again, from any but this one."""
    return 2 * egress_id + 1


def named(way: int) -> int:
    """The way out that a way names; 0 for none."""
    return way // 2


def way_after(bounce_class: str, egress_id: int, *, elsewhere: bool) -> int:
    """What a deferral asks of the next attempt. ``elsewhere``: another way out should try."""
    if bounce_class == "greylisted":
        return only(egress_id)
    return but(egress_id) if elsewhere else ANYWHERE


def may_take(way: int, egress_id: int, usable: Iterable[int]) -> bool:
    """Whether a delivery of this way may leave by ``egress_id``; ``usable`` are all that could take it now.

    A wish that nobody can grant is none: a way out that is gone is not waited for, and the only one is used again.
    """
    asked = named(way)
    if not asked:
        return True
    if way == only(asked):
        return egress_id == asked or asked not in usable
    return egress_id != asked or all(one == asked for one in usable)


@dataclass(slots=True)
class Weights:
    """Keeps the members of one pool towards one site to their weights. ``ahead`` is how many each has had beyond its share.

    A member that has all it can take (``full``) holds nobody up: the others go ahead, and nothing is made good later.
    """

    ahead: dict[int, float] = field(default_factory=dict)
    weights: Mapping[int, int] = field(default_factory=dict)

    def limits(self, room: Mapping[int, int], weights: Mapping[int, int], full: Mapping[int, bool]) -> dict[int, int]:
        """How many each member may claim now, of what it has ``room`` for.

        Members that cannot be used now are not in ``room``; the weights count among those that are.
        """
        self.weights = {one: weights[one] for one in room}
        self.ahead = {one: self.ahead.get(one, 0.0) for one in room}
        self._forgive(full)
        total = sum(self.weights.values())
        binding = [one for one in room if not full.get(one)]
        if not binding:
            return dict(room)
        # The longest round for which no binding member lacks room: in it each gets its share and makes good what it is behind.
        rounds = min((room[one] + self.ahead[one]) * total / self.weights[one] for one in binding)
        found = {}
        for one in room:
            share = (rounds + SLACK) * self.weights[one] / total - self.ahead[one]
            alone = all(full.get(other) for other in room if other != one)
            found[one] = room[one] if alone else max(0, min(room[one], int(share)))
        return found

    def claimed(self, taken: Mapping[int, int]) -> None:
        """What each member has claimed since ``limits`` was asked."""
        total, count = sum(self.weights.values()), sum(taken.values())
        for one, weight in self.weights.items():
            self.ahead[one] += taken.get(one, 0) - count * weight / total

    def _forgive(self, full: Mapping[int, bool]) -> None:
        behind = [one for one, ahead in self.ahead.items() if full.get(one) and ahead < 0]
        others = [one for one in self.ahead if one not in behind]
        if behind and others:
            forgiven = sum(self.ahead[one] for one in behind) / len(others)
            for one in behind:
                self.ahead[one] = 0.0
            for one in others:
                self.ahead[one] += forgiven


def is_full(samples: Sequence[bool]) -> bool:
    """Whether a lane that was looked at so often had all it could take nearly every time."""
    return len(samples) > 0 and sum(samples) >= _FULL * len(samples)


def deal(count: int, limits: Mapping[int, int]) -> list[int]:
    """Who gets each of ``count`` deliveries in order, so that all are served evenly from first to last; limits are not exceeded."""
    total = sum(limits.values())
    made: list[tuple[float, int]] = []
    for one, limit in limits.items():
        part = limit if count >= total else limit * count / total
        made += [((number + 0.5) / part, one) for number in range(limit) if part]
    made.sort()
    return [one for _, one in made[:count]]
