"""The lanes of one delivery process: made when they are needed, kept to limits and brakes, gone when nothing waits for them."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from mailfleet.engine.catalog import Catalog
from mailfleet.engine.ceiling import Ceiling
from mailfleet.engine.connect import Way
from mailfleet.engine.envelope import Envelope
from mailfleet.engine.lane import Lane
from mailfleet.engine.lane_edges import LaneEdges
from mailfleet.engine.limits import LaneLimits
from mailfleet.engine.manners import beside
from mailfleet.engine.sharing import Sharing
from mailfleet.engine.ways import HOLDS, Ways
from mailfleet.policy.egress import relay_hosts
from mailfleet.policy.rates import scaled
from mailfleet.policy.transport import TlsDemand, TlsManner
from mailfleet.store.egress import Egress
from mailfleet.store.queue import Claimed
from mailfleet.store.sites import Site

LimitsFor = Callable[[Egress, str], LaneLimits]
"""What a way out keeps to towards the sites of a provider; empty for no known one."""
WayOf = Callable[[Egress], Way]


class Lanes:
    """``ways`` is what the last scan found. ``demands``: a person's own, by recipient domain."""

    def __init__(
        self,
        catalog: Catalog,
        edges: LaneEdges,
        sharing: Sharing,
        *,
        way_of: WayOf,
        limits_for: LimitsFor,
        slots: int,
        demands: Mapping[str, TlsDemand],
    ) -> None:
        self._demands = demands
        self._catalog, self._edges, self._sharing, self._slots = catalog, edges, sharing, slots
        self._way_of, self._limits_for = way_of, limits_for
        self._lanes: dict[tuple[int, int], Lane] = {}
        self._made: dict[int, tuple[Egress, Way]] = {}
        self.ways = Ways()
        self._followed: tuple[object, ...] = ()
        self._ceilings: dict[tuple[int, str], Ceiling] = {}
        self._narrow: tuple[frozenset[str], Mapping[int, Egress], set[str]] = (frozenset(), {}, set())

    @property
    def all(self) -> list[Lane]:
        """Every one, those beside another included."""
        return [one for lane in self._lanes.values() for one in (lane, *lane.beside.values())]

    def by_site(self) -> dict[int, list[Lane]]:
        """By the recipients' site; those of relays and those beside another are not here."""
        found: dict[int, list[Lane]] = defaultdict(list)
        for (_, site_id), lane in self._lanes.items():
            if not lane.way.relay:
                found[site_id].append(lane)
        return dict(found)

    async def of(self, egress_id: int, site_id: int) -> Lane | None:
        """The lane by which a way out serves a recipients' site; None where another process does, or nobody yet."""
        row = self.ways.egresses[egress_id]
        lane_site = self.ways.site_of_lane(egress_id, site_id)
        if row.kind == "relay":
            if egress_id not in self.ways.relay_sites or not self._takes_relay(row, lane_site, site_id):
                return None
        elif not self._sharing.ours(site_id):
            return None
        lane = self._lanes.get((egress_id, lane_site))
        if lane is not None:
            return lane
        site = await self._catalog.site(lane_site)
        if site is None:
            return None
        limits = self._limits(row, site.provider, lane_site)
        lane = Lane(self._way(row), _towards(row, site), limits, self._edges, self._ceiling(row, site.provider, limits))
        permille = self.ways.on_lane(egress_id, site.provider, lane_site).permille
        lane.keep_to(lane.limits, permille)
        self._lanes[egress_id, lane_site] = lane
        return lane

    def offer(self, lane: Lane, priority: int, claims: Sequence[Claimed]) -> None:
        """Hand claimed deliveries to a lane; those that want another manner of TLS go to the lane for it beside that one."""
        aside: set[int] = set()
        for one in claims:
            if one.envelope is not None and (manner := self._manner(lane, one)):
                other = beside(lane, manner)
                other.others = lane.others
                other.offer(priority, [one])
                aside.add(one.id)
        rest = [one for one in claims if one.id not in aside] if aside else claims
        if rest:
            lane.offer(priority, rest)

    def _manner(self, lane: Lane, claimed: Claimed) -> TlsManner:
        """Nobody passes over what a person demands for a domain; and of a relay no policy of the domain demands anything."""
        manner = Envelope.manner_of(claimed.envelope)
        if manner == "any" and (lane.way.relay or claimed.address.rpartition("@")[2] in self._demands):
            return ""
        return manner

    def follow(self, ways: Ways) -> list[Claimed]:
        """Keep to what a scan found; returns what lanes have to let go, for others to take."""
        self.ways = ways
        # Ten thousand lanes are not asked ten times a second when nothing has changed for any of them.
        now = (ways.egresses, ways.brakes.all, self._sharing.state)
        if now == self._followed:
            return []
        self._followed = now
        for (egress_id, provider), ceiling in self._ceilings.items():
            if egress_id in ways.egresses:
                out = ways.egresses[egress_id]
                self._keep(ceiling, out, provider, self._limits_for(out, provider))
        left: list[Claimed] = []
        for (egress_id, lane_site), lane in self._lanes.items():
            row = ways.egresses.get(egress_id)
            if row is None or row.state not in HOLDS:
                left += lane.let_go()
                continue
            permille = ways.on_lane(egress_id, lane.site.provider, lane_site).permille
            lane.way, lane.site = self._way(row), _towards(row, lane.site)
            for other in lane.beside.values():
                other.way, other.site = lane.way, lane.site
            lane.keep_to(self._limits(row, lane.site.provider, lane_site), permille)
            if not permille:
                left += lane.let_go()
        return left

    def homes(self, providers: Mapping[int, str], ways: Ways) -> dict[int, int]:
        """Which process has each site (``site_id -> provider``) whose provider allows fewer connections than there are processes."""
        seen = frozenset(providers.values()) - {""}
        if self._narrow[:2] != (seen, ways.egresses):
            narrow = {name for name in seen if any(self._few(row, name) for row in ways.egresses.values())}
            self._narrow = (seen, ways.egresses, narrow)
        narrow = self._narrow[2]
        if not narrow:
            return {}
        return {
            site_id: zlib.crc32(provider.encode()) % self._slots
            for site_id, provider in providers.items()
            if provider in narrow
        }

    def _few(self, row: Egress, provider: str) -> bool:
        return 0 < self._limits_for(row, provider).provider_connections < self._slots

    def forget_idle(self, waiting: set[int]) -> None:
        """Lanes without work, of sites that nothing waits for."""
        for key in [key for key, lane in self._lanes.items() if not lane.busy and key[1] not in waiting]:
            del self._lanes[key]

    @property
    def takes_any(self) -> bool:
        """It has a relay that takes mail for the sites of every process."""
        for egress_id, lane_site in self.ways.relay_sites.items():
            row = self.ways.egresses[egress_id]
            if self._too_few(row) and self._sharing.owns(lane_site):
                return True
        return False

    def _too_few(self, relay: Egress) -> bool:
        """It allows fewer connections than there are processes: one of them takes mail for all sites."""
        return self._limits_for(relay, "").connections < self._slots

    def _takes_relay(self, relay: Egress, lane_site: int, site_id: int) -> bool:
        return self._sharing.owns(lane_site) if self._too_few(relay) else self._sharing.ours(site_id)

    def _limits(self, row: Egress, provider: str, lane_site: int) -> LaneLimits:
        whole = self._limits_for(row, provider)
        if row.kind == "relay":
            return whole if self._too_few(row) else self._sharing.split(lane_site, whole)
        return self._sharing.part(lane_site, whole)

    def _ceiling(self, row: Egress, provider: str, limits: LaneLimits) -> tuple[Ceiling, ...]:
        """What a way out shares over the sites of a provider; none where there is no such limit."""
        if not provider or not (limits.provider_connections or limits.provider_rates):
            return ()
        found = self._ceilings.get((row.id, provider))
        if found is None:
            clock = self._edges.clock
            found = self._ceilings[row.id, provider] = Ceiling(lambda: clock.monotonic_s() * 1000)
            self._keep(found, row, provider, limits)
        return (found,)

    def _keep(self, ceiling: Ceiling, row: Egress, provider: str, limits: LaneLimits) -> None:
        """This process's part of it, of which a brake on the provider leaves some."""
        connections, rates = limits.provider_connections, limits.provider_rates
        if not 0 < connections < self._slots:
            connections, rates = self._sharing.portion(zlib.crc32(provider.encode()), connections, rates)
        permille = max(1, self.ways.on_lane(row.id, provider, 0).permille)
        ceiling.keep_to(
            -(-connections * permille // 1000), scaled(rates, permille=permille, scale=self._edges.time_scale)
        )

    def _way(self, row: Egress) -> Way:
        """Made anew when the row has changed."""
        made = self._made.get(row.id)
        if made is None or made[0] != row:
            made = self._made[row.id] = (row, self._way_of(row))
        return made[1]


def _towards(row: Egress, site: Site) -> Site:
    """A relay's site stays the same one when the relay gets another host."""
    return site._replace(hosts=relay_hosts(row.host)) if row.kind == "relay" else site
