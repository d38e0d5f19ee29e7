"""Locating: recipient domain -> mail hosts -> site -> provider, ahead of delivery, so that an unknown domain blocks nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError
from mailfleet.engine.counts import DeliveryCounts
from mailfleet.engine.descriptors import Descriptors
from mailfleet.engine.sts import StsPolicies
from mailfleet.engine.tls_book import TlsBook
from mailfleet.mail.mta_sts import StsPolicy
from mailfleet.net.resolver import MailHosts, Resolver
from mailfleet.policy.tls_results import MX_NOT_NAMED, sts_policy
from mailfleet.policy.transport import TlsDemand, secured
from mailfleet.store import sites
from mailfleet.store.database import Database, Tx
from mailfleet.store.sites import DueDomain

log = structlog.get_logger()

TICK_S = 0.05
PARALLEL = 64
AGAIN_AFTER_FAILURE_S = 120.0
AGAIN_AFTER_CRASH_S = 60.0
SHORTEST_S, LONGEST_S = 60.0, 3600.0


class Locator:
    """Looks up the domains of one delivery process: those whose id leaves ``slot`` when divided by ``slots``."""

    def __init__(
        self,
        database: Database,
        resolver: Resolver,
        provider_of: Callable[[Sequence[str]], str | None],
        *,
        slot: int,
        slots: int,
        clock: Clock,
        time_scale: float,
        descriptors: Descriptors,
        counts: DeliveryCounts,
        policies: StsPolicies | None = None,
        demands: Mapping[str, TlsDemand] | None = None,
        book: TlsBook | None = None,
    ) -> None:
        self._book = book
        self._policies, self._demands = policies, demands or {}
        self._database, self._resolver, self._provider_of = database, resolver, provider_of
        self._descriptors, self._counts = descriptors, counts
        self._slot, self._slots, self._clock, self._time_scale = slot, slots, clock, time_scale
        self._free = asyncio.Semaphore(PARALLEL)
        self._running: dict[int, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Locate what is due, for ever."""
        self._database.on_wake(self._woken.set)
        while True:
            self._woken.clear()
            now_ms = self._clock.now_ms()
            due = await self._database.read(
                lambda tx, now_ms=now_ms: sites.due_domains(  # type: ignore[misc]  # mypy cannot infer the default's type
                    tx, now_ms=now_ms, slot=self._slot, slots=self._slots, limit=10 * PARALLEL
                )
            )
            for domain in due:
                if domain.id not in self._running:
                    task = asyncio.create_task(self._locate(domain))
                    self._running[domain.id] = task
                    task.add_done_callback(partial(self._ended, domain.id))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._woken.wait()

    def _ended(self, domain_id: int, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            del self._running[domain_id]
            return
        log.error("locating crashed", domain=domain_id, exc_info=task.exception())
        # It would crash again at once: it counts as running for a while.
        asyncio.get_running_loop().call_later(AGAIN_AFTER_CRASH_S, self._running.pop, domain_id, None)

    async def stop(self) -> None:
        """Drop what is under way: it is due again at the next start."""
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _locate(self, domain: DueDomain) -> None:
        async with self._free:
            try:
                if domain.site_id and await self._database.write(lambda tx: sites.rest_if_idle(tx, domain.id)):
                    return
                async with self._descriptors.one():
                    found = await self._resolver.mail_hosts(domain.name)
                self._counts.looked_up("failed" if found.kind == "temporary" else "found" if found.hosts else "absent")
                await self._store(domain, *await self._secured(domain.name, found))
            except BusyError as error:
                log.error("locating waits", domain=domain.name, reason=error.reason)
                await self._clock.sleep(1)

    async def _secured(self, name: str, found: MailHosts) -> tuple[MailHosts, TlsDemand]:
        """Only the hosts that mail may go to by the domain's policy, and how."""
        if not found.hosts:
            return found, ""
        policy = await self._policies.of(name) if self._policies is not None else None
        self._note_strangers(name, found, policy)
        by_name = {host.name: host for host in found.hosts}
        hosts = [(host.preference, host.name) for host in found.hosts]
        made = secured(name, hosts, policy, self._demands.get(name, ""))
        if made.problem:
            return MailHosts("temporary", ttl_s=found.ttl_s, detail=made.problem), ""
        return replace(found, hosts=tuple(by_name[name] for _, name in made.hosts)), made.tls

    def _note_strangers(self, name: str, found: MailHosts, policy: StsPolicy | None) -> None:
        """Hosts that get no mail because the policy does not name them: no session will tell of it."""
        if self._book is None or policy is None or policy.mode != "enforce":
            return
        for host in found.hosts:
            if not policy.allows(host.name):
                self._book.note(name, sts_policy(name, policy), MX_NOT_NAMED, mx_host=host.name)

    async def _store(self, domain: DueDomain, found: MailHosts, tls: TlsDemand) -> None:
        hosts = [(host.preference, host.name) for host in found.hosts]
        provider = self._provider_of([name for _, name in hosts]) or "" if hosts else ""
        if found.kind == "temporary":
            valid_s = AGAIN_AFTER_FAILURE_S / self._time_scale
        else:
            valid_s = min(LONGEST_S, max(SHORTEST_S, found.ttl_s))
        valid_until_ms = self._clock.now_ms() + round(valid_s * 1000)
        key = site_key(domain.name, found, tls)

        def first(tx: Tx) -> tuple[int, bool]:
            site_id = sites.put_site(tx, key, found.kind, hosts, provider, found.detail, tls)
            if not domain.site_id:
                tx.wake()  # somebody may be waiting for this mail
            return site_id, sites.locate(tx, domain.id, site_id, valid_until_ms=valid_until_ms)

        site_id, done = await self._database.write(first)
        while not done:
            done = await self._database.write(
                lambda tx: sites.locate(tx, domain.id, site_id, valid_until_ms=valid_until_ms)
            )


def site_key(domain: str, found: MailHosts, tls: TlsDemand = "") -> str:
    """What makes two domains one site: the same mail hosts with the same order of preference among them, secured the same way.

    Domains that take no mail for one reason share a site; a failed lookup is each domain's own.
    """
    if found.kind == "temporary":
        return f"temporary:{domain}"
    if not found.hosts:
        return found.kind
    ranks = {preference: rank for rank, preference in enumerate(sorted({host.preference for host in found.hosts}))}
    key = ",".join(sorted(f"{ranks[host.preference]}:{host.name}" for host in found.hosts))
    return f"{key}#{tls}" if tls else key
