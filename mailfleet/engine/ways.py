"""The ways out as a delivery process sees them: sources, relays, pools, what holds them back, and which of them a flow may take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mailfleet.engine.catalog import FlowView
from mailfleet.engine.warming import WarmNow, read_warm
from mailfleet.policy.brakes import Brakes, Effect, has_its_turn
from mailfleet.store import brakes as brake_rows
from mailfleet.store import egress, sites
from mailfleet.store.database import Tx
from mailfleet.store.egress import DEFAULT_POOL, Egress

ACTIVE = "active"
HOLDS = (ACTIVE, "draining")  # what was claimed for it still leaves


@dataclass(frozen=True)
class Ways:
    """What one scan found. ``members``: by pool, ``{egress_id: weight}``; ``relay_sites``: the site that stands for a relay."""

    egresses: Mapping[int, Egress] = field(default_factory=dict)
    members: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    overflow: Mapping[int, int] = field(default_factory=dict)
    brakes: Brakes = field(default_factory=Brakes)
    warm: WarmNow = field(default_factory=WarmNow)
    relay_sites: Mapping[int, int] = field(default_factory=dict)

    def pool_of(self, view: FlowView) -> int:
        """The pool that a flow leaves through: its stream's, else its tenant's, else the default."""
        for pool_id in (view.pool_id, view.tenant_pool_id):
            if pool_id in self.members:
                return pool_id
        return DEFAULT_POOL

    def active(self, pool_id: int) -> dict[int, int]:
        """Of a pool, those that take new mail, with their weights."""
        return {
            one: weight
            for one, weight in self.members.get(pool_id, {}).items()
            if weight > 0 and self.egresses[one].state == ACTIVE
        }

    def site_of_lane(self, egress_id: int, site_id: int) -> int:
        """A source's lanes are by the recipients' site; all that leaves by a relay shares the relay's own."""
        return self.relay_sites.get(egress_id, site_id)

    def on_lane(self, egress_id: int, provider: str, site_id: int) -> Effect:
        """What brakes leave of a lane."""
        return self.brakes.on_lane(egress_id, provider, site_id)

    def usable(self, pool_id: int, provider: str, site_id: int) -> dict[int, int]:
        """Of a pool, those that may carry mail to a site now, with their weights: no brake stops them, no warm-up is used up."""
        return {
            one: weight
            for one, weight in self.active(pool_id).items()
            if self.on_lane(one, provider, site_id).permille and self.warm.has_room(one, provider)
        }

    def choices(self, view: FlowView, provider: str, site_id: int) -> tuple[int, dict[int, int]]:
        """The pool and the ways out that a flow may take now; of the overflow pool where its own has no room and it may spill."""
        pool_id = self.pool_of(view)
        found = self.usable(pool_id, provider, site_id)
        seen = {pool_id}
        while not found and view.spill == "overflow":
            pool_id = self.overflow.get(pool_id, 0)
            if not pool_id or pool_id in seen:
                break
            seen.add(pool_id)
            found = self.usable(pool_id, provider, site_id)
        return pool_id, found

    def flow_may_go(
        self, view: FlowView, egress_id: int, provider: str, site_id: int, now_ms: int, scale: float
    ) -> bool:
        """Whether no brake on the stream or campaign holds it back at this moment."""
        permille = self.brakes.on_flow(
            view.flow.stream_id, view.flow.campaign_id, egress_id, provider, site_id
        ).permille
        return permille >= 1000 or (permille > 0 and has_its_turn(permille, now_ms, scale=scale))


def read(tx: Tx, *, day: int, share: float) -> Ways:
    """All of it, as it is now; small, whatever is queued. ``day`` and ``share`` of it: of warm-up."""
    egresses = {one.id: one for one in egress.all_egresses(tx)}
    members: dict[int, dict[int, int]] = defaultdict(dict)
    pools = egress.pools(tx)
    for pool in pools:
        members[pool.id] = {}
    for member in egress.members(tx):
        members[member.pool_id][member.egress_id] = member.weight
    relays = any(one.kind == "relay" for one in egresses.values())
    return Ways(
        egresses,
        dict(members),
        {pool.id: pool.overflow_pool_id for pool in pools},
        Brakes(brake_rows.in_force(tx)),
        read_warm(tx, day, share),
        sites.relay_sites(tx) if relays else {},
    )


def without_site(ways: Ways) -> Iterable[Egress]:
    """Relays that no site stands for yet."""
    return [one for one in ways.egresses.values() if one.kind == "relay" and one.id not in ways.relay_sites]
