"""Watching block lists: looking, believing, opening and closing incidents, and what a listing leads to."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

import orjson
import structlog
from pydantic import BaseModel

from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.ids import IdGenerator, from_public, public
from mailfleet.engine import braking
from mailfleet.engine.requests import Actor
from mailfleet.net.dns_query import Answered, DnsTemporary
from mailfleet.policy.blocklists import BlockList, Meaning, distrust, meaning, next_look_s, query_name, takes
from mailfleet.policy.brakes import Decision
from mailfleet.policy.lifecycle import EventKind
from mailfleet.policy.warmup import Plan
from mailfleet.store import brakes, egress, listings, sending, tenants, warmups
from mailfleet.store.database import Database, Tx
from mailfleet.store.egress import Egress
from mailfleet.store.events import EventRow, append
from mailfleet.store.listings import Listing, Look

log = structlog.get_logger()
MAX_LOOKS = 200  # targets of one round: the rest is in the next


class Asks(Protocol):
    """What is needed of a resolver."""

    async def ask(self, name: str, kind: str) -> Answered:
        """Records of a name. Raises ``DnsTemporary``."""
        ...


class ListView(BaseModel):
    """A block list as it is watched."""

    name: str
    label: str
    zone: str
    kind: str
    action: str
    believed: str
    """``yes``, ``not yet``, or why not."""
    looked: str
    listed: list[str]


class IncidentView(BaseModel):
    """A listing."""

    incident: str
    list: str
    target: str
    source: str
    state: str
    codes: str
    words: str
    action: str
    page: str
    delist: str
    since: str
    seen: str
    ended: str
    ended_why: str


class Blocklists:
    """For one process. The ``jobs`` role calls ``run_due``; the rest is for people."""

    def __init__(
        self,
        database: Database,
        resolver: Asks,
        lists: Mapping[str, BlockList],
        plans: Mapping[str, Plan],
        *,
        clock: Clock,
        ids: IdGenerator,
        rng: random.Random,
        time_scale: float,
    ) -> None:
        self._database, self._resolver, self._lists, self._plans = database, resolver, lists, plans
        self._clock, self._ids, self._rng, self._time_scale = clock, ids, rng, time_scale

    async def run_due(self) -> int:
        """Look at what is due; returns how many targets were looked at."""
        now_ms = self._clock.now_ms()
        known, targets = await self._database.read(lambda tx: (listings.looks(tx), _targets(tx)))
        count = 0
        for one in self._lists.values():
            due = [
                target for target in targets if takes(one, target) and self._due(known.get((one.name, target)), now_ms)
            ]
            if not due or count >= MAX_LOOKS:
                continue
            doubt = await self._doubt(one)
            await self._note(one, "", Meaning("broken", (), doubt) if doubt else Meaning("clear"), known)
            for target in due[: MAX_LOOKS - count]:
                count += 1
                if doubt:
                    await self._note(one, target, Meaning("refused", (), doubt), known)
                else:
                    await self._look(one, target, targets[target], known)
        return count

    @staticmethod
    def _due(look: Look | None, now_ms: int) -> bool:
        return look is None or look.next_ms <= now_ms

    async def _ask(self, one: BlockList, target: str) -> tuple[Meaning, str]:
        """What a list says of a target, and its own words (TXT) where it lists it."""
        name = query_name(one, target)
        try:
            found = meaning(one, (await self._resolver.ask(name, "A")).records)
        except DnsTemporary as error:
            return Meaning("silent", (), str(error)), ""
        if found.outcome != "listed":
            return found, ""
        try:
            words = " ".join((await self._resolver.ask(name, "TXT")).records)
        except DnsTemporary:
            words = ""
        return found, words[:500]

    async def _doubt(self, one: BlockList) -> str:
        listed, _ = await self._ask(one, one.listed)
        if listed.outcome == "silent":
            return listed.words
        free, _ = await self._ask(one, one.free)
        return free.words if free.outcome == "silent" else distrust(one, listed, free)

    async def _look(self, one: BlockList, target: str, egress_id: int, known: Mapping[tuple[str, str], Look]) -> None:
        found, words = await self._ask(one, target)
        before = known.get((one.name, target))
        again = before is not None and before.outcome == found.outcome
        now_ms = self._clock.now_ms()

        def work(tx: Tx) -> None:
            listings.put_look(tx, self._look_row(one, target, found, words, before, now_ms))
            listing = listings.open_listing(tx, one.name, target)
            if found.outcome == "listed" and listing is not None:
                listings.put(tx, listing._replace(seen_ms=now_ms, codes=", ".join(found.codes), words=words))
            elif found.outcome == "listed" and again:
                self._open(tx, one, target, egress_id, found, words, now_ms)
            elif found.outcome == "clear" and again and listing is not None:
                self._close(tx, listing, now_ms)

        await self._database.write(work)

    def _look_row(
        self, one: BlockList, target: str, found: Meaning, words: str, before: Look | None, now_ms: int
    ) -> Look:
        changed = (before.outcome if before else "clear") != found.outcome and found.outcome in ("listed", "clear")
        wait_s = next_look_s(one, found.outcome, changed, self._rng.random()) / self._time_scale
        detail = "; ".join(part for part in (", ".join(found.codes), found.words, words) if part)
        return Look(one.name, target, found.outcome, detail[:500], now_ms, now_ms + round(wait_s * 1000))

    async def _note(self, one: BlockList, target: str, found: Meaning, known: Mapping[tuple[str, str], Look]) -> None:
        row = self._look_row(one, target, found, "", known.get((one.name, target)), self._clock.now_ms())
        await self._database.write(lambda tx: listings.put_look(tx, row))

    def _open(
        self, tx: Tx, one: BlockList, target: str, egress_id: int, found: Meaning, words: str, now_ms: int
    ) -> None:
        egress.hold(tx)
        row = egress.get(tx, egress_id) if egress_id else None
        action = one.action if row is not None else "watch"
        reason = (
            f"{target} is on {one.label}{': ' + found.words if found.words else ''}. {one.delist} {one.page}".strip()
        )
        brake_id = 0
        if row is not None and action == "rest":
            decision = Decision(
                "rest", 0, 0, round(3_600_000 / self._time_scale), reason, one.name, words, "blocklist", egress_id
            )
            changed = braking.apply(tx, [decision], self._ids, now_ms=now_ms, scale=self._time_scale)
            brake_id = changed[0].id if changed else 0
        elif row is not None and action == "drain" and row.state == "active":
            egress.update(tx, row._replace(state="draining", reason=reason[:500], since_ms=now_ms))
        evidence = {"zone": one.zone, "asked": query_name(one, target), "codes": found.codes, "words": words}
        listing = Listing(
            self._ids.next(), egress_id, target, one.name, "open", ", ".join(found.codes), words,
            orjson.dumps(evidence).decode(), action, brake_id, now_ms, now_ms, 0, "",
        )  # fmt: skip
        listings.put(tx, listing)
        self._tell(tx, EventKind.LISTING_OPENED, listing, now_ms)
        log.warning("on a block list", list=one.name, target=target, action=action)

    def _close(self, tx: Tx, listing: Listing, now_ms: int) -> None:
        """Off the list: the brake ends, and the source begins anew with half of what it had reached."""
        ended = listing._replace(state="closed", ended_ms=now_ms, ended_why="no longer on the list, seen twice")
        listings.put(tx, ended)
        brake = brakes.get(tx, listing.brake_id) if listing.brake_id else None
        if brake is not None and not brake.ended_ms:
            braking.lift(tx, brake, now_ms, f"{listing.target} is off {listing.list}")
        egress.hold(tx)
        row = egress.get(tx, listing.egress_id) if listing.egress_id else None
        if row is not None and _may_go_on(row, listings.draining(tx, row.id)):
            egress.update(tx, row._replace(state="active", reason=f"off {listing.list}", since_ms=now_ms))
        if row is not None and listing.action != "watch":
            self._warm_again(tx, row.id, now_ms)
        self._tell(tx, EventKind.LISTING_CLOSED, ended, now_ms)

    def _warm_again(self, tx: Tx, egress_id: int, now_ms: int) -> None:
        keys = [one.key for one in warmups.every(tx) if one.egress_id == egress_id]
        for one in (warmups.get(tx, key) for key in keys):
            plan = self._plans.get(one.plan) if one is not None else None
            if one is None or plan is None or one.state == "paused":
                continue
            stage = one.stage // 2
            reason = "back to half of what was reached, after a block list"
            warmups.put(
                tx,
                one._replace(
                    state="warming", stage=stage, good_days=0, cap=plan.cap(stage), reason=reason, since_ms=now_ms
                ),
            )
            warmups.recount(tx, one.key)

    @staticmethod
    def _tell(tx: Tx, kind: EventKind, listing: Listing, now_ms: int) -> None:
        data = {"incident": public("inc", listing.id), "list": listing.list, "target": listing.target}
        data |= {"codes": listing.codes, "words": listing.words, "action": listing.action}
        text = orjson.dumps({key: value for key, value in data.items() if value}).decode()
        append(tx, [EventRow(now_ms, tenants.DEFAULT_TENANT, kind, 0, 0, text)])

    # For people

    async def lists(self, actor: Actor) -> list[ListView]:
        """Every list that is watched, whether it is believed, and what it lists."""
        known = await self._database.read(listings.looks)
        views = []
        for one in self._lists.values():
            test = known.get((one.name, ""))
            listed = [target for (name, target), look in known.items() if name == one.name and look.outcome == "listed"]
            believed = "not yet" if test is None else "yes" if test.outcome == "clear" else test.detail
            looked = rfc3339(test.at_ms) if test else ""
            views.append(
                ListView(
                    name=one.name, label=one.label, zone=one.zone, kind=one.kind, action=one.action,
                    believed=believed, looked=looked, listed=listed,
                )
            )  # fmt: skip
        return views

    async def incidents(self, actor: Actor, after: str | None, limit: int) -> tuple[list[IncidentView], str | None]:
        """Newest first, and where to go on."""

        def find(tx: Tx) -> tuple[list[IncidentView], str | None]:
            rows = listings.page(tx, before_id=from_public("inc", after) if after else 0, limit=limit)
            names = {one.id: one.name for one in egress.all_egresses(tx)}
            views = [self._view(one, names) for one in rows]
            return views, public("inc", rows[-1].id) if len(rows) == limit else None

        return await self._database.read(find)

    async def look_now(self, actor: Actor) -> int:
        """Have everything looked at again at once; returns how many targets are known."""
        return await self._database.write(listings.hurry)

    def _view(self, one: Listing, names: Mapping[int, str]) -> IncidentView:
        known = self._lists.get(one.list)
        return IncidentView(
            incident=public("inc", one.id),
            list=one.list,
            target=one.target,
            source=names.get(one.egress_id, ""),
            state=one.state,
            codes=one.codes,
            words=one.words,
            action=one.action,
            page=known.page if known else "",
            delist=known.delist if known else "",
            since=rfc3339(one.since_ms),
            seen=rfc3339(one.seen_ms),
            ended=rfc3339(one.ended_ms) if one.ended_ms else "",
            ended_why=one.ended_why,
        )


def _may_go_on(row: Egress, drained: Sequence[Listing]) -> bool:
    """Whether it takes nothing new because of block lists alone, and is on none of these any more; a person's word stays."""
    by_lists = row.state == "draining" and row.since_ms in {one.since_ms for one in drained}
    return by_lists and not any(one.state == "open" for one in drained)


def _targets(tx: Tx) -> dict[str, int]:
    """What is watched: the addresses of sources in use with their numbers, and sending domains."""
    found = {one.address: one.id for one in egress.all_egresses(tx) if one.address and one.state != "retired"}
    return found | {one.name: 0 for one in sending.all_domains(tx)}
