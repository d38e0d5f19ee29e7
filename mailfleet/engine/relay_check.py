"""Trying a relay before mail depends on it: connect, TLS and login as a delivery would, and no message."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from mailfleet.base.errors import NotFoundError
from mailfleet.engine.connect import Connector, Way
from mailfleet.engine.requests import Actor
from mailfleet.policy.egress import relay_hosts
from mailfleet.policy.outcome import Outcome
from mailfleet.store import egress
from mailfleet.store.database import Database
from mailfleet.store.egress import Egress
from mailfleet.store.sites import Site


class RelayCheckView(BaseModel):
    """What came of trying a relay."""

    model_config = ConfigDict(frozen=True)

    relay: str
    ok: bool
    phase: str = Field("", description="Where it ended: `dns`, `connect`, `greeting`, `ehlo`, `tls`, `auth`.")
    words: str = Field("", description="The relay's own words, or what happened.")
    next_step: str = ""
    peer: str = ""
    tls: str = Field("", description="Protocol and cipher; empty: in the clear.")
    transcript: str = Field("", description="The dialogue, without the password.")


_NEXT = {
    "dns": "correct the host: mailfleet relay change NAME --host",
    "connect": "see that host and port are right and that a firewall lets this machine through",
    "greeting": "the relay does not want this machine: ask whoever runs it",
    "ehlo": "the relay does not want this EHLO name: ask whoever runs it",
    "tls": "correct its certificate, or choose how TLS is demanded: mailfleet relay change NAME --tls",
    "auth": "correct user name and password: mailfleet relay change NAME",
}


class RelayChecker:
    """For one process."""

    def __init__(self, database: Database, connector: Connector, way_of: Callable[[Egress], Way]) -> None:
        self._database, self._connector, self._way_of = database, connector, way_of

    async def check(self, actor: Actor, name: str) -> RelayCheckView:
        """Try it now. Raises ``NotFoundError``."""
        row = await self._database.read(lambda tx: egress.by_name(tx, name))
        if row is None or row.kind != "relay" or row.tenant_id not in (0, actor.tenant_id):
            raise NotFoundError(f"there is no relay {name!r}", where="name", mend="see: mailfleet relay list")
        site = Site(0, "", "relay", relay_hosts(row.host), "", "")
        connection, outcome, transcript = await self._connector.open(site, self._way_of(row), tls="")
        if connection is None:
            assert outcome is not None
            return _failed(name, outcome, transcript)
        try:
            peer = f"{connection.peer.host} ({connection.peer.ip})"
            return RelayCheckView(
                relay=name, ok=True, peer=peer, tls=connection.tls_info, transcript=connection.session_transcript
            )
        finally:
            await connection.quit()


def _failed(name: str, outcome: Outcome, transcript: str) -> RelayCheckView:
    phase = str(outcome.phase)
    words = (
        outcome.detail
        if outcome.reply is None
        else f"{outcome.detail}: {outcome.reply}"
        if outcome.detail
        else str(outcome.reply)
    )
    return RelayCheckView(
        relay=name,
        ok=False,
        phase=phase,
        words=words,
        next_step=_NEXT.get(phase, "").replace("NAME", name),
        peer=f"{outcome.mx_host} ({outcome.remote_ip})" if outcome.remote_ip else "",
        transcript=transcript,
    )
