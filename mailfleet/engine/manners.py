"""Lanes beside a lane, for what wants another manner of TLS: messages with REQUIRETLS, and those to which policies do not apply.

A connection is made for one manner, so each has lines of its own. Connections and rates they have together with the lane that they
stand beside: from the first such message on all of them are under one ceiling.
"""

from __future__ import annotations

from mailfleet.engine.attempt import Attempt
from mailfleet.engine.ceiling import Ceiling
from mailfleet.engine.connect import NO_PATH
from mailfleet.engine.envelope import Envelope
from mailfleet.engine.lane import Lane
from mailfleet.engine.line import Item
from mailfleet.policy.outcome import Action, Outcome
from mailfleet.policy.transport import TlsDemand, TlsManner
from mailfleet.store.queue import Claimed
from mailfleet.store.tenants import URGENT


def beside(main: Lane, manner: TlsManner) -> Lane:
    """The lane for a manner beside ``main``, made when it is first asked for."""
    found = main.beside.get(manner)
    if found is None:
        found = main.beside[manner] = MannerLane(main, manner, main.family())
        found.keep_to(main.limits, main.permille)
    return found


class MannerLane(Lane):
    """A lane of one manner to the site of ``main`` by the same way out."""

    def __init__(self, main: Lane, manner: TlsManner, ceilings: tuple[Ceiling, ...]) -> None:
        super().__init__(main.way, main.site, main.limits, main.edges, ceilings)
        self.manner, self._main = manner, main
        if manner == "any" and main.site.kind == "temporary":
            self.unreachable = None  # perhaps a policy says so

    @property
    def tls(self) -> TlsDemand:
        """What a connection must have: of ``any`` only what a person demands for the provider."""
        return self.limits.tls if self.manner == "any" else super().tls

    async def unfit(self, claimed: Claimed) -> Outcome | None:
        """For REQUIRETLS the names of the domain's mail hosts must be proven."""
        if self.manner != "require":
            return None
        return await self.edges.connector.unproven(self.site, self.way, claimed.address.rpartition("@")[2])

    async def settle(self, attempt: Attempt) -> Action:
        """Hand over what came of an attempt. A notification is not lost for want of REQUIRETLS (RFC 8689 5): it goes without."""
        if attempt.outcome.failure in NO_PATH and Envelope.load(attempt.claimed.envelope).reverse_path == "":
            self._is_over(attempt.claimed.id)
            self._main.offer(URGENT, [attempt.claimed])
            return Action.BOUNCE
        return await super().settle(attempt)

    async def not_connected(self, item: Item, outcome: Outcome, transcript: str, started_s: float) -> None:
        """No mail host would talk to us, or none as it must: that holds for all that wait here."""
        await super().not_connected(item, outcome, transcript, started_s)
        if outcome.failure in NO_PATH:
            waiting, self._heap = self._heap, []
            for other in waiting:
                await self.settle(Attempt(other.claimed, outcome, self.site.provider, transcript=transcript))
