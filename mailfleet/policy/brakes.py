"""Brakes: what holds mail back, for how long, and how it comes back in steps. Pure.

A brake is put on by a rule (a provider's words), a person, a block list or a reputation threshold. Each field that says *which*
mail narrows it; 0 and empty mean any. Its ``permille`` is the part of the normal rate that is left, 0 for nothing. When its time
is over it does not end but loosens by one step, and only the last step ends it: going back to the full rate at once brings the
next block. A signal on the way tightens it again, for longer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

LADDER = (0, 100, 250, 500, 750)  # permille; beyond the last step nothing holds back any more
MAX_LONGER = 8  # times its first length that signals can make a brake last
CYCLE_MS = 60_000  # a slowed stream or campaign has its turn in a part of each minute


class Decision(NamedTuple):
    """A brake that should be on. ``for_ms`` until it first loosens, ``step_ms`` for each step after that."""

    action: str  # slow | rest | stop | reroute
    permille: int
    for_ms: int
    step_ms: int
    reason: str
    rule: str = ""
    words: str = ""  # the remote's own
    origin: str = "rule"  # rule | person | blocklist | reputation
    egress_id: int = 0
    provider: str = ""
    site_id: int = 0
    stream_id: int = 0
    campaign_id: int = 0

    @property
    def scope(self) -> tuple[int, str, int, int, int]:
        """Which mail it is about."""
        return self.egress_id, self.provider, self.site_id, self.stream_id, self.campaign_id


class Brake(NamedTuple):
    """A brake as it is kept. ``until_ms`` 0: until somebody lifts it. ``ended_ms`` 0: in force."""

    id: int
    action: str
    egress_id: int
    provider: str
    site_id: int
    stream_id: int
    campaign_id: int
    permille: int
    step: int
    reason: str
    rule: str
    words: str
    origin: str
    for_ms: int
    step_ms: int
    since_ms: int
    until_ms: int
    ended_ms: int
    ended_why: str

    @property
    def scope(self) -> tuple[int, str, int, int, int]:
        """Which mail it is about."""
        return self.egress_id, self.provider, self.site_id, self.stream_id, self.campaign_id

    @property
    def on_lane(self) -> bool:
        """It is about lanes, whatever is sent over them."""
        return not self.stream_id and not self.campaign_id

    def covers(self, egress_id: int, provider: str, site_id: int) -> bool:
        """Whether a lane is meant, as far as it says anything of lanes."""
        return self.egress_id in (0, egress_id) and self.provider in ("", provider) and self.site_id in (0, site_id)


def put_on(decision: Decision, brake_id: int, now_ms: int) -> Brake:
    """The brake that a decision asks for; a ``for_ms`` of 0 makes one that stays until it is lifted."""
    return Brake(
        brake_id,
        decision.action,
        *decision.scope,
        decision.permille,
        0,
        decision.reason,
        decision.rule,
        decision.words,
        decision.origin,
        decision.for_ms,
        decision.step_ms,
        now_ms,
        now_ms + decision.for_ms if decision.for_ms else 0,
        0,
        "",
    )


def tighten(brake: Brake, decision: Decision, now_ms: int, *, grace_ms: int) -> Brake | None:
    """What a further signal makes of a brake of the same scope and rule; None when it says nothing new.

    What was on its way when the brake was put on still comes back with the same words: for ``grace_ms`` that is no new
    signal. After that the brake is as tight as the decision asks, and twice as long as last time, within ``MAX_LONGER``.
    """
    if not brake.until_ms:
        return None
    fresh = not brake.step and now_ms - (brake.until_ms - brake.for_ms) < grace_ms
    if fresh and brake.permille <= decision.permille:
        return None
    for_ms = min(2 * brake.for_ms, MAX_LONGER * decision.for_ms)
    return brake._replace(
        permille=min(brake.permille, decision.permille),
        step=0,
        reason=decision.reason,
        words=decision.words,
        for_ms=for_ms,
        until_ms=now_ms + for_ms,
    )


def loosen(brake: Brake, now_ms: int) -> Brake | None:
    """What time makes of a brake; None while nothing changes. One step at a time, however long nobody looked."""
    if not brake.until_ms or now_ms < brake.until_ms or brake.ended_ms:
        return None
    wider = [step for step in LADDER if step > brake.permille]
    if not wider:
        return brake._replace(ended_ms=now_ms, ended_why="its time is over, and it was loosened step by step")
    return brake._replace(permille=wider[0], step=brake.step + 1, until_ms=now_ms + brake.step_ms)


class Effect(NamedTuple):
    """What is left of the normal rate, and the brake that binds."""

    permille: int
    why: Brake | None


FREE = Effect(1000, None)


class Brakes:
    """Those in force, so that thousands of lanes can ask cheaply."""

    def __init__(self, brakes: Iterable[Brake] = ()) -> None:
        self.all = [one for one in brakes if not one.ended_ms]
        self._on_lanes: dict[int, list[Brake]] = defaultdict(list)
        self._on_flows: list[Brake] = []
        for one in self.all:
            if one.on_lane:
                self._on_lanes[one.egress_id].append(one)
            else:
                self._on_flows.append(one)

    def on_lane(self, egress_id: int, provider: str, site_id: int) -> Effect:
        """What holds a lane back."""
        if not self._on_lanes:
            return FREE
        some = [one for key in {0, egress_id} for one in self._on_lanes.get(key, ())]
        return _tightest(one for one in some if one.covers(egress_id, provider, site_id))

    def on_flow(self, stream_id: int, campaign_id: int, egress_id: int, provider: str, site_id: int) -> Effect:
        """What holds a flow back on a lane, beside what holds the lane."""
        if not self._on_flows:
            return FREE
        return _tightest(
            one
            for one in self._on_flows
            if one.stream_id in (0, stream_id)
            and one.campaign_id in (0, campaign_id)
            and one.covers(egress_id, provider, site_id)
        )

    def find(self, decision: Decision) -> Brake | None:
        """The brake that is on for the same mail by the same rule."""
        for one in self.all:
            if one.scope == decision.scope and one.rule == decision.rule and one.origin == decision.origin:
                return one
        return None


def has_its_turn(permille: int, now_ms: int, *, scale: float) -> bool:
    """Whether a slowed flow may be claimed now: in ``permille`` of every minute."""
    return (now_ms * scale) % CYCLE_MS < CYCLE_MS * permille / 1000


def _tightest(brakes: Iterable[Brake]) -> Effect:
    found: Sequence[Brake] = list(brakes)
    if not found:
        return FREE
    why = min(found, key=lambda one: one.permille)
    return Effect(why.permille, why)
