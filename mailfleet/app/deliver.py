"""The delivery role: one process that claims, delivers and settles for its share of the sites."""

from __future__ import annotations

import asyncio
import contextlib
import random
from functools import lru_cache, partial

import structlog

from mailfleet.app import compose
from mailfleet.app.dns import secure_dns
from mailfleet.app.egress import fetcher_of, way_of
from mailfleet.app.limits import limits_of
from mailfleet.app.patience import patiently, unless_stopped
from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError
from mailfleet.config.bounce_rules import load_rules
from mailfleet.config.shaping import load_shaping
from mailfleet.config.warmup import load_plans
from mailfleet.engine.connect import Connector
from mailfleet.engine.counts import DeliveryCounts
from mailfleet.engine.dane import Dane
from mailfleet.engine.descriptors import Descriptors
from mailfleet.engine.gate import Gate
from mailfleet.engine.journal import Journal
from mailfleet.engine.lane_edges import LaneEdges
from mailfleet.engine.locate import Locator
from mailfleet.engine.notices import Notices
from mailfleet.engine.proofs import MailHostProofs
from mailfleet.engine.recover import owner_of, recover_lease, slot_lock
from mailfleet.engine.render import Renderer
from mailfleet.engine.schedule import Scheduler
from mailfleet.engine.settle import Settler
from mailfleet.engine.sts import StsPolicies
from mailfleet.engine.tls_book import TlsBook
from mailfleet.engine.warming import Warming
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.resolver import Resolver
from mailfleet.policy.classify import Classifier
from mailfleet.policy.providers import ProviderTable
from mailfleet.policy.shaping import Shaper
from mailfleet.store import queue
from mailfleet.store.database import Database

log = structlog.get_logger()
GRACE_S = 20.0


async def run(base: compose.Base, slot: int, slots: int, stop: asyncio.Event) -> None:
    """Deliver until ``stop``. The process is alone in its slot, so it first recovers what an earlier run left."""
    folder = base.folder.run
    with slot_lock(folder, slot, wait=True):
        lease_ms = round(base.settings.delivery.lease_s * 1000)
        opened = await unless_stopped(stop, _open(base, slot, lease_ms))
        if opened is None:
            return
        lease_id, journal = opened
        await _work(base, slot, slots, lease_id, lease_ms, journal, stop)
        journal.close()
        # What was not settled in time is dealt with as after a crash: a 250 in the journal counts, the rest is released.
        try:
            await recover_lease(base.database, folder, slot, lease_id, base.clock, scale=base.time_scale)
        except BusyError as error:
            log.error("what is under lease is left to the next start", reason=error.reason)


async def _open(base: compose.Base, slot: int, lease_ms: int) -> tuple[int, Journal]:
    """A lease and a journal for this run, when everything that earlier runs left is recovered."""
    folder, clock = base.folder.run, base.clock

    async def lease() -> int:
        return await base.database.write(
            lambda tx: queue.new_lease(tx, owner_of(folder, slot), slot, clock.now_ms() + lease_ms)
        )

    lease_id = await patiently("opening a lease", lease)

    async def recover() -> None:
        for old in await base.database.read(lambda tx: queue.leases_of_slot(tx, slot, lease_id)):
            await recover_lease(base.database, folder, slot, old, clock, scale=base.time_scale)

    await patiently("recovering earlier leases", recover)

    async def journal() -> Journal:
        return Journal(folder, slot, lease_id)

    return lease_id, await patiently("opening the journal", journal)


async def _work(
    base: compose.Base, slot: int, slots: int, lease_id: int, lease_ms: int, journal: Journal, stop: asyncio.Event
) -> None:
    clock, scale, rng = base.clock, base.time_scale, compose.rng(slot)
    providers, resolver = compose.providers_of(base), compose.resolver(base.settings, clock)
    limits_for = lru_cache(maxsize=10_000)(partial(limits_of, base.settings.delivery, providers))
    counts = DeliveryCounts(base.gauges)
    settler = _settler(base, journal, lease_id, counts, rng, providers)
    descriptors, renderer = Descriptors(clock), Renderer(base.catalog, base.box)
    book = TlsBook(base.database, base.gauges, clock, scale)
    policies = _policies(base, resolver, book)
    connector = _connector(base, resolver, rng, descriptors, policies, book)
    edges = LaneEdges(connector, renderer, settler, journal, clock, scale, asyncio.Event(), Gate())
    scheduler = Scheduler(
        base.database,
        base.catalog,
        settler,
        edges,
        Warming(load_plans(), scale),
        way_of=partial(way_of, base),
        limits_for=limits_for,
        slot=slot,
        slots=slots,
        lease_id=lease_id,
        clock=clock,
        rng=rng,
        demands=base.settings.delivery.tls_demands,
    )
    base.gauges.watch("held_deliveries", lambda: scheduler.held)
    locator = Locator(
        base.database,
        resolver,
        providers.provider_of,
        slot=slot,
        slots=slots,
        clock=clock,
        time_scale=scale,
        descriptors=descriptors,
        counts=counts,
        policies=policies,
        demands=base.settings.delivery.tls_demands,
        book=book,
    )
    scheduler.watched(base.gauges)
    loops = {
        asyncio.create_task(settler.run(), name="settler"),
        asyncio.create_task(patiently("claiming", scheduler.run), name="scheduler"),
        asyncio.create_task(patiently("locating", locator.run), name="locator"),
        asyncio.create_task(book.run(), name="TLS book"),
        asyncio.create_task(_heartbeat(base.database, lease_id, lease_ms, clock), name="heartbeat"),
    }
    await _until(stop, loops)
    await _stop(scheduler)
    await locator.stop()
    await _ended(loops)
    await book.flush()


def _connector(
    base: compose.Base,
    resolver: Resolver,
    rng: random.Random,
    descriptors: Descriptors,
    policies: StsPolicies | None,
    book: TlsBook,
) -> Connector:
    return Connector(
        resolver,
        ipv6=base.settings.delivery.ipv6,
        rng=rng,
        descriptors=descriptors,
        dane=_dane(base),
        policies=policies,
        book=book,
        proofs=MailHostProofs(secure_dns(base), policies),
    )


def _dane(base: compose.Base) -> Dane | None:
    dns = secure_dns(base) if base.settings.delivery.dane else None
    return None if dns is None else Dane(dns, base.clock)


def _policies(base: compose.Base, resolver: Resolver, book: TlsBook) -> StsPolicies | None:
    dns = base.settings.dns
    if not base.settings.delivery.mta_sts or base.settings.sandbox.enabled:
        return None
    querier = DnsQuerier(compose.nameservers_of(base.settings), dns.timeout_s, base.clock)
    return StsPolicies(base.database, querier, fetcher_of(base, resolver), base.clock, book)


def _settler(
    base: compose.Base,
    journal: Journal,
    lease_id: int,
    counts: DeliveryCounts,
    rng: random.Random,
    providers: ProviderTable,
) -> Settler:
    retry, scale, clock = base.settings.retry, base.time_scale, base.clock
    notices = Notices(base.catalog, hostname=base.hostname, retry=retry, time_scale=scale, clock=clock, ids=base.ids)
    return Settler(
        base.database,
        base.catalog,
        Classifier(load_rules()),
        notices,
        journal,
        lease_id=lease_id,
        retry=retry,
        time_scale=scale,
        clock=clock,
        ids=base.ids,
        rng=rng,
        counts=counts,
        shaper=Shaper(load_shaping() if base.settings.delivery.shaping else (), scale),
        retry_floor_s=lambda provider: providers.limits_for(provider or None).retry_after_s,
    )


async def _ended(loops: set[asyncio.Task[None]]) -> None:
    for task in loops:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*loops)


async def _stop(scheduler: Scheduler) -> None:
    try:
        await scheduler.stop(GRACE_S)
    except (
        BusyError
    ) as error:  # what it could not hand back is recovered at the next start; what is on the wire ends first
        log.error("stopping without a disk", reason=error.reason)
        await scheduler.stop(GRACE_S)


async def _until(stop: asyncio.Event, tasks: set[asyncio.Task[None]]) -> None:
    """Wait for ``stop``. A loop that ends before has crashed: so does the role, and it starts afresh."""
    waiting = asyncio.create_task(stop.wait(), name="stop")
    done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done - {waiting}:
        task.result()
        raise AssertionError(f"the {task.get_name()} ended")


async def _heartbeat(database: Database, lease_id: int, lease_ms: int, clock: Clock) -> None:
    while True:
        await clock.sleep(lease_ms / 3000)
        try:
            alive = await database.write(lambda tx: queue.renew_lease(tx, lease_id, clock.now_ms() + lease_ms))
        except BusyError as error:  # a full disk; the slot's lock still keeps others off
            log.error("cannot renew the lease", reason=error.reason)
            continue
        if not alive:
            raise AssertionError("the lease was ended by somebody else: this process was silent for too long")
