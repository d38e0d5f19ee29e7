"""Who is logged in to the pages: random ids in a cookie, everything else here in memory, bounded and expiring.

The API token that opened a session stays on this side and is asked about again now and then, so removing a token ends the
sessions that it opened. A restart ends them all.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from mailfleet.base.clock import Clock
from mailfleet.engine.requests import Actor
from mailfleet.engine.services import ManageService

MAX_SESSIONS = 1000
IDLE_S = 2 * 3600.0
LIFETIME_S = 12 * 3600.0
RECHECK_S = 30.0


@dataclass(slots=True)
class Session:
    """One browser. ``csrf`` must come back with every form (no other site can read it).

    ``note``: what the next page says was done; ``done``: the same, for what shows it in its own place.
    """

    actor: Actor
    csrf: str
    bearer: str
    opened_s: float
    used_s: float
    checked_s: float
    note: str = ""
    done: dict[str, Any] = field(default_factory=dict)

    def admits(self, csrf: str) -> bool:
        """The form was made by a page of this session."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())

    def __repr__(self) -> str:
        return f"Session({self.actor.name!r})"  # never the token


class Sessions:
    """All sessions of this process."""

    def __init__(self, manage: ManageService, clock: Clock) -> None:
        self._manage = manage
        self._clock = clock
        self._open: OrderedDict[str, Session] = OrderedDict()  # least recently used first

    async def open(self, bearer: str) -> str | None:
        """Log in with an API token; the new session's id, or None when the token is not one."""
        actor = await self._manage.authenticate(bearer) if bearer else None
        if actor is None:
            return None
        now_s = self._clock.monotonic_s()
        name = secrets.token_urlsafe(32)
        self._open[name] = Session(actor, secrets.token_urlsafe(32), bearer, now_s, now_s, now_s)
        while len(self._open) > MAX_SESSIONS:
            self._open.popitem(last=False)
        return name

    async def get(self, name: str) -> Session | None:
        """The session of this id while it lasts and its token does."""
        session = self._open.get(name)
        if session is None:
            return None
        now_s = self._clock.monotonic_s()
        if now_s - session.used_s > IDLE_S or now_s - session.opened_s > LIFETIME_S:
            self.close(name)
            return None
        if now_s - session.checked_s > RECHECK_S:
            actor = await self._manage.authenticate(session.bearer)
            if actor is None:
                self.close(name)
                return None
            session.actor, session.checked_s = actor, now_s
        session.used_s = now_s
        if name in self._open:
            self._open.move_to_end(name)
        return session

    def close(self, name: str) -> None:
        """Log out."""
        self._open.pop(name, None)
