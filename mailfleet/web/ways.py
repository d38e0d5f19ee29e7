"""The page of ways out: sources and relays with what came of their mail, what holds them back and why, and how far they are warm."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mailfleet.engine.fleet_views import EgressView, WarmupView
from mailfleet.web.frame import Frame, Part
from mailfleet.web.sessions import Session

HOURS = 24
SHOWN_BRAKES = 50
SHOWN_INCIDENTS = 20
SHOWN_WARMUPS = 100
_STATES = {"pause": "paused", "resume": "active", "drain": "draining"}
_MOVES = {"active": ("pause", "drain"), "paused": ("resume",), "draining": ("resume",)}


class WaysOut:
    """For one process."""

    def __init__(self, frame: Frame) -> None:
        self._frame, self._services = frame, frame.services
        self.parts: dict[str, Part] = {
            "ways": self._ways,
            "brakes": self._brakes,
            "warmups": self._warmups,
            "incidents": self._incidents,
        }

    async def show(self, request: Request) -> Response:
        """All of it."""
        return await self._frame.page(request, "ways_out.html", self.parts)

    async def steer_way(self, request: Request) -> Response:
        """Pause, resume or drain a source or relay."""
        kind, name, move = (request.path_params[part] for part in ("kind", "name", "move"))

        async def change(session: Session) -> object:
            reason = f"on the page, by {session.actor.name or 'a token'}"
            return await self._services.fleet.set_state(session.actor, kind, name, _STATES[move], reason)

        moves = {move: change} if kind in ("source", "relay") and move in _STATES else {}
        return await self._frame.steer(request, "manage", moves, "/ways-out")

    async def steer_brake(self, request: Request) -> Response:
        """Lift a brake."""
        brake = request.path_params["brake"]
        moves = {"lift": lambda session: self._services.steer.lift(session.actor, brake, "on the page")}
        return await self._frame.steer(request, "manage", moves, "/ways-out")

    async def _ways(self, session: Session) -> dict[str, Any]:
        fleet, actor = self._services.fleet, session.actor
        found = [*await fleet.egresses(actor, "source"), *await fleet.egresses(actor, "relay")]
        pools = await fleet.pools(actor)
        weights = {(pool.name, one.name): one.weight for pool in pools for one in pool.members}
        rates = {one.of["source"]: one for one in await self._services.reputation.rates(actor, ["source"], HOURS)}
        warm = await self._services.steer.warmups(actor)
        return {
            "ways": [
                {
                    "view": view,
                    "pools": [{"name": pool, "weight": weights.get((pool, view.name), 0)} for pool in view.pools],
                    "rate": rates.get(view.name),
                    "warm": _how_warm(view, warm),
                    "moves": _MOVES.get(view.state, ()),
                }
                for view in found
                if view.state != "retired"
            ],
            "warnings": [f"Pool {pool.name}: {text}" for pool in pools for text in pool.warnings],
            "hours": HOURS,
            "may_manage": "manage" in actor.scopes,
        }

    async def _brakes(self, session: Session) -> dict[str, Any]:
        page = await self._services.steer.brakes(session.actor, ended=False, after=None, limit=SHOWN_BRAKES)
        return {
            "brakes": page.items[:SHOWN_BRAKES],
            "more_brakes": max(0, len(page.items) - SHOWN_BRAKES),
            "may_manage": "manage" in session.actor.scopes,
        }

    async def _warmups(self, session: Session) -> dict[str, Any]:
        """Those that have something under way or behind them today; the rest is a number."""
        found = [one for one in await self._services.steer.warmups(session.actor) if one.state != "warm"]
        busy = [one for one in found if one.delivered or one.deferred or one.under_way or one.stage or one.held_until]
        busy.sort(key=lambda one: (one.source, -(one.delivered + one.deferred), one.provider))
        return {
            "warmups": [
                {"view": one, "width": f"{min(100, 100 * one.delivered / max(1, one.cap)):.2f}"}
                for one in busy[:SHOWN_WARMUPS]
            ],
            "more_warmups": len(found) - len(busy[:SHOWN_WARMUPS]),
        }

    async def _incidents(self, session: Session) -> dict[str, Any]:
        incidents, _ = await self._services.blocklists.incidents(session.actor, None, SHOWN_INCIDENTS)
        lists = await self._services.blocklists.lists(session.actor)
        return {
            "incidents": incidents,
            "watched": len(lists),
            "doubted": [one for one in lists if one.believed not in ("yes", "not yet")],
        }


def _how_warm(view: EgressView, warmups: list[WarmupView]) -> str:
    """In words: with how many providers it is known."""
    if view.kind == "relay":
        return "has its own"
    states = [one.state for one in warmups if one.source == view.name]
    if not states:
        return "no warm-up"
    warm = states.count("warm")
    return "warm" if warm == len(states) else f"{warm} of {len(states)} warm"
