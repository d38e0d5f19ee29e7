"""Sources, relays, pools and streams: added, changed, paused, drained, retired; each change with a reason and an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import ConflictError, InputError, NotFoundError
from mailfleet.base.ids import from_public
from mailfleet.base.secretbox import SecretBox
from mailfleet.engine import fleet_checks as checks
from mailfleet.engine.fleet_views import CostView, EgressView, LimitsView, MemberView, PoolView, StreamView, TenantView
from mailfleet.engine.requests import Actor
from mailfleet.policy.lifecycle import EventKind
from mailfleet.store import campaigns, egress, streams
from mailfleet.store.database import Database, Tx
from mailfleet.store.egress import Egress, Member, Pool
from mailfleet.store.events import EventRow, append

STATES = ("active", "paused", "draining", "retired")
TLS = ("verified", "required", "opportunistic", "none")
_WORDS = {"active": "resumed", "paused": "paused", "draining": "draining", "retired": "retired"}
SPILLS = ("later", "overflow")


class Fleet:
    """Management of ways out for one process."""

    def __init__(self, database: Database, box: SecretBox, clock: Clock) -> None:
        self._database, self._box, self._clock = database, box, clock

    # Sources and relays

    async def egresses(self, actor: Actor, kind: str) -> list[EgressView]:
        """All of a kind, ``source`` or ``relay``, the retired ones included."""
        return await self._database.read(
            lambda tx: [_view(tx, one) for one in egress.all_egresses(tx) if one.kind == kind and _sees(actor, one)]
        )

    async def egress(self, actor: Actor, kind: str, name: str) -> EgressView:
        """One of them. Raises ``NotFoundError``."""
        return await self._database.read(lambda tx: _view(tx, _found(tx, actor, kind, name)))

    async def add_source(self, actor: Actor, name: str, values: Mapping[str, Any]) -> EgressView:
        """A new source, in no pool yet. Raises ``InputError`` and ``ConflictError``."""
        row = self._new("source", name)
        return await self._database.write(lambda tx: self._insert(tx, actor, self._with(row, values)))

    async def add_relay(self, actor: Actor, name: str, values: Mapping[str, Any]) -> EgressView:
        """A new relay, in no pool yet. Raises ``InputError`` and ``ConflictError``."""
        row = self._new("relay", name)._replace(port=587, tls="verified")
        return await self._database.write(lambda tx: self._insert(tx, actor, self._with(row, values)))

    async def change(self, actor: Actor, kind: str, name: str, values: Mapping[str, Any]) -> EgressView:
        """Change what ``values`` name and nothing else. Raises ``InputError``, ``NotFoundError``, ``ConflictError``."""

        def work(tx: Tx) -> EgressView:
            egress.hold(tx)
            row = _found(tx, actor, kind, name)
            changed = self._with(row, values)
            _check_unique(tx, changed)
            checks.relay_tls(changed.tls, changed.host)
            if changed != row:
                egress.update(tx, changed)
                self._tell(tx, actor, changed.name, "changed", "")
            return _view(tx, changed)

        return await self._database.write(work)

    async def set_state(self, actor: Actor, kind: str, name: str, state: str, reason: str) -> EgressView:
        """Pause, resume, drain or retire; doing it twice changes nothing. Raises ``ConflictError`` for one that is retired."""
        assert state in STATES

        def work(tx: Tx) -> EgressView:
            egress.hold(tx)
            row = _found(tx, actor, kind, name)
            if row.state == state:
                return _view(tx, row)
            if row.state == "retired":
                raise ConflictError(
                    f"{name} is retired, which is for good",
                    mend=f"add it again under another name: mailfleet {kind} add",
                )
            now_ms = self._clock.now_ms()
            changed = row._replace(state=state, reason=reason[:500], since_ms=now_ms)
            egress.update(tx, changed)
            self._tell(tx, actor, name, _WORDS[state], reason)
            return _view(tx, changed)

        return await self._database.write(work)

    # Pools

    async def pools(self, actor: Actor) -> list[PoolView]:
        """Every pool."""
        return await self._database.read(
            lambda tx: [_pool_view(tx, one) for one in egress.pools(tx) if one.tenant_id in (0, actor.tenant_id)]
        )

    async def pool(self, actor: Actor, name: str) -> PoolView:
        """One pool. Raises ``NotFoundError``."""
        return await self._database.read(lambda tx: _pool_view(tx, _pool(tx, actor, name)))

    async def set_pool(
        self, actor: Actor, name: str, members: Sequence[MemberView] | None, overflow: str | None, *, new: bool
    ) -> PoolView:
        """Make a pool, or change what is given of one. Raises ``InputError``, ``NotFoundError``, ``ConflictError``."""

        def work(tx: Tx) -> PoolView:
            egress.hold(tx, "pool")
            pool = self._pool_to_set(tx, actor, name, new=new)
            if members is not None:
                egress.set_members(tx, pool.id, _members(tx, actor, pool, members))
            if overflow is not None:
                egress.set_overflow(tx, pool.id, _overflow(tx, actor, pool, overflow))
            self._tell(tx, actor, name, "pool added" if new else "pool changed", "")
            return _pool_view(tx, _pool(tx, actor, name))

        return await self._database.write(work)

    async def remove_pool(self, actor: Actor, name: str) -> None:
        """Raises ``ConflictError`` while something sends through it, saying what."""

        def work(tx: Tx) -> None:
            egress.hold(tx, "pool")
            pool = _pool(tx, actor, name)
            if pool.id == egress.DEFAULT_POOL:
                raise ConflictError("the default pool stays: what has no pool of its own leaves through it")
            used = streams.using_pool(tx, pool.id)
            others = [one.name for one in egress.pools(tx) if one.overflow_pool_id == pool.id]
            if used or others:
                who = ", ".join(
                    [*(f"stream {one}" for one in used), *(f"the overflow of pool {one}" for one in others)]
                )
                raise ConflictError(f"{name} is used by {who}", mend="have them use another pool first")
            egress.remove_pool(tx, pool.id)
            self._tell(tx, actor, name, "pool removed", "")

        await self._database.write(work)

    # Streams

    async def streams(self, actor: Actor) -> list[StreamView]:
        """Every stream of the tenant."""
        return await self._database.read(
            lambda tx: [_stream_view(tx, one) for one in streams.of_tenant(tx, actor.tenant_id)]
        )

    async def set_stream(self, actor: Actor, name: str, values: Mapping[str, Any]) -> StreamView:
        """Change pool, spill, rates or weight of a stream. Raises ``InputError`` and ``NotFoundError``."""

        def work(tx: Tx) -> StreamView:
            egress.hold(tx, "pool")
            row = checks.stream_row(tx, actor, name)
            if "pool" in values:
                row = row._replace(pool_id=_pool(tx, actor, values["pool"]).id if values["pool"] else 0)
            if "spill" in values:
                row = row._replace(spill=checks.one_of(values["spill"], SPILLS, "spill"))
            if "rates" in values:
                row = row._replace(rates=checks.rates_text(values["rates"], "rates"))
            if "weight" in values:
                row = row._replace(weight=int(values["weight"]))
            streams.update(tx, row)
            self._tell(tx, actor, name, "stream changed", "")
            return _stream_view(tx, row)

        return await self._database.write(work)

    async def tenant(self, actor: Actor, values: Mapping[str, Any] | None = None) -> TenantView:
        """What holds for all of the actor's mail, changed first where ``values`` say so. Raises ``InputError``, ``NotFoundError``."""

        def work(tx: Tx) -> TenantView:
            if values:
                egress.hold(tx, "pool")
            row = streams.tenant(tx, actor.tenant_id)
            if values:
                if "pool" in values:
                    row = row._replace(pool_id=_pool(tx, actor, values["pool"]).id if values["pool"] else 0)
                if "rates" in values:
                    row = row._replace(rates=checks.rates_text(values["rates"], "rates"))
                streams.update_tenant(tx, actor.tenant_id, row)
                self._tell(tx, actor, row.name, "tenant changed", "")
            names = {one.id: one.name for one in egress.pools(tx)}
            return TenantView(name=row.name, pool=names.get(row.pool_id, "default"), rates=row.rates)

        return await (self._database.write(work) if values else self._database.read(work))

    async def set_campaign_rates(self, actor: Actor, campaign: str, rates: str) -> str:
        """How fast a campaign may go from now on; empty for any. Raises ``InputError`` and ``NotFoundError``."""
        wanted, number = checks.rates_text(rates, "rate"), from_public("cmp", campaign)

        def work(tx: Tx) -> None:
            found = campaigns.get(tx, number)
            if found is None or found.tenant_id != actor.tenant_id:
                raise NotFoundError(
                    f"there is no campaign {campaign}", where="campaign", mend="see: mailfleet campaign list"
                )
            campaigns.set_rates(tx, number, wanted)

        await self._database.write(work)
        return wanted

    # Inside

    def _new(self, kind: str, name: str) -> Egress:
        checks.check_name(name)
        now_ms = self._clock.now_ms()
        return Egress(0, kind, name, 0, "", "", "", "", 0, "", "", None, "", "", "active", "", now_ms, now_ms)

    def _insert(self, tx: Tx, actor: Actor, row: Egress) -> EgressView:
        if egress.by_name(tx, row.name) is not None:
            raise ConflictError(
                f"there is a source or relay {row.name} already", where="name", mend="choose another name"
            )
        row = row._replace(id=egress.next_id(tx, "egress"))
        if row.kind == "source" and not row.address:
            raise InputError(
                "a source needs its address", where="address", mend="give the IPv4 or IPv6 address it sends from"
            )
        checks.relay_tls(row.tls, row.host)
        if row.kind == "relay" and not row.host:
            raise InputError("a relay needs its host", where="host", mend="give the name or address of the SMTP server")
        _check_unique(tx, row)
        egress.insert(tx, row)
        self._tell(tx, actor, row.name, "added", "")
        return _view(tx, row)

    def _with(self, row: Egress, values: Mapping[str, Any]) -> Egress:
        """A row with changes, checked. What is None is left as it is."""
        given = {key: value for key, value in values.items() if value is not None}
        for key, value in given.items():
            if key == "address":
                row = row._replace(address=checks.address(value))
            elif key == "ehlo_name":
                row = row._replace(ehlo_name=checks.ehlo_name(value))
            elif key == "host":
                row = row._replace(host=checks.host(value))
            elif key == "tls":
                row = row._replace(tls=checks.one_of(value, TLS, "tls"))
            elif key == "password":
                sealed = self._box.seal(str(value).encode(), relay_label(row.name)) if value else None
                row = row._replace(sealed_secret=sealed)
            elif key == "limits":
                row = row._replace(limits=checks.limits(value))
            elif key == "cost":
                row = row._replace(cost=value.model_dump_json(exclude_defaults=True))
            else:
                assert key in ("port", "username", "node"), key
                row = row._replace(**{key: value})
        return row

    def _pool_to_set(self, tx: Tx, actor: Actor, name: str, *, new: bool) -> Pool:
        if not new:
            return _pool(tx, actor, name)
        checks.check_name(name)
        if any(one.name == name for one in egress.pools(tx)):
            raise ConflictError(
                f"there is a pool {name} already", where="name", mend=f"change it: mailfleet pool set {name}"
            )
        pool = Pool(egress.next_id(tx, "pool"), 0, name, 0, self._clock.now_ms())
        egress.insert_pool(tx, pool)
        return pool

    def _tell(self, tx: Tx, actor: Actor, name: str, what: str, reason: str) -> None:
        data = {"name": name, "change": what, "reason": reason, "by": actor.name}
        text = orjson.dumps({key: value for key, value in data.items() if value}).decode()
        append(tx, [EventRow(self._clock.now_ms(), actor.tenant_id, EventKind.EGRESS_CHANGED, 0, 0, text)])


def relay_label(name: str) -> str:
    """What a relay's password is sealed under."""
    return f"relay:{name}"


def _check_unique(tx: Tx, row: Egress) -> None:
    for other in egress.all_egresses(tx):
        same = row.address and other.address == row.address and other.node == row.node
        if same and other.id != row.id and other.state != "retired":
            raise ConflictError(
                f"{row.address} is source {other.name} already", where="address", mend="one address is one source"
            )


def _sees(actor: Actor, row: Egress) -> bool:
    return row.tenant_id in (0, actor.tenant_id)


def _found(tx: Tx, actor: Actor, kind: str, name: str) -> Egress:
    row = egress.by_name(tx, name)
    if row is None or row.kind != kind or not _sees(actor, row):
        raise NotFoundError(f"there is no {kind} {name!r}", where=kind, mend=f"see: mailfleet {kind} list")
    return row


def _pool(tx: Tx, actor: Actor, name: str) -> Pool:
    found = next((one for one in egress.pools(tx) if one.name == name and one.tenant_id in (0, actor.tenant_id)), None)
    if found is None:
        raise NotFoundError(f"there is no pool {name!r}", where="pool", mend="see: mailfleet pool list")
    return found


def _members(tx: Tx, actor: Actor, pool: Pool, members: Sequence[MemberView]) -> list[Member]:
    found: dict[int, Member] = {}
    for one in members:
        row = egress.by_name(tx, one.name)
        if row is None or not _sees(actor, row):
            raise NotFoundError(
                f"there is no source or relay {one.name!r}", where="members", mend="see: mailfleet source list"
            )
        if row.state == "retired":
            raise ConflictError(f"{one.name} is retired", where="members", mend="leave it out")
        if row.id in found:
            raise InputError(f"{one.name} is named twice", where="members", mend="name it once, with its weight")
        found[row.id] = Member(pool.id, row.id, one.weight)
    return list(found.values())


def _overflow(tx: Tx, actor: Actor, pool: Pool, name: str) -> int:
    if not name:
        return 0
    to = _pool(tx, actor, name)
    after = {one.id: one.overflow_pool_id for one in egress.pools(tx)}
    at = to.id
    while at:
        if at == pool.id:
            raise InputError(
                f"{pool.name} would overflow into itself", where="overflow", mend="name a pool that does not lead back"
            )
        at = after[at]
    return to.id


def _view(tx: Tx, row: Egress) -> EgressView:
    names = {one.id: one.name for one in egress.pools(tx)}
    return EgressView(
        name=row.name,
        kind=row.kind,
        state=row.state,
        reason=row.reason,
        since=rfc3339(row.since_ms),
        node=row.node,
        address=row.address,
        ehlo_name=row.ehlo_name,
        host=row.host,
        port=row.port,
        tls=row.tls,
        username=row.username,
        limits=LimitsView.model_validate_json(row.limits or "{}"),
        cost=CostView.model_validate_json(row.cost or "{}"),
        pools=[names[one.pool_id] for one in egress.members(tx) if one.egress_id == row.id],
        leased=egress.leased_by(tx, row.id),
    )


def _pool_view(tx: Tx, pool: Pool) -> PoolView:
    rows = {one.id: one for one in egress.all_egresses(tx)}
    members = [one for one in egress.members(tx) if one.pool_id == pool.id]
    names = {one.id: one.name for one in egress.pools(tx)}
    active = [one for one in members if rows[one.egress_id].state == "active" and one.weight]
    return PoolView(
        name=pool.name,
        members=[MemberView(name=rows[one.egress_id].name, weight=one.weight) for one in members],
        overflow=names.get(pool.overflow_pool_id, ""),
        used_by=streams.using_pool(tx, pool.id),
        warnings=[] if active else ["nothing leaves through it: no member is active with a weight above 0"],
    )


def _stream_view(tx: Tx, row: streams.StreamRow) -> StreamView:
    names = {one.id: one.name for one in egress.pools(tx)}
    pool = names.get(row.pool_id) or names.get(row.tenant_pool_id) or "default"
    return StreamView(name=row.name, kind=row.kind, pool=pool, spill=row.spill, rates=row.rates, weight=row.weight)
