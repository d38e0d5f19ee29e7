"""Periodic work: dead leases, cancelled and half-loaded campaigns, campaigns that start by the clock, old answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import structlog

from mailfleet.base.clock import STEP_MS, Clock, ahead_ms
from mailfleet.base.errors import BusyError
from mailfleet.engine import braking, warming
from mailfleet.engine.blocklists import Blocklists
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.digest import Digests
from mailfleet.engine.dmarc_reports import DmarcReports
from mailfleet.engine.domains import Domains
from mailfleet.engine.recover import recover_lease, slot_lock
from mailfleet.engine.reputation import Reputation
from mailfleet.engine.rotation import Rotation
from mailfleet.engine.server_dns import ServerDns
from mailfleet.engine.tls_reports import TlsReports
from mailfleet.policy.brakes import loosen
from mailfleet.policy.warmup import Plan
from mailfleet.store import access, allowances, brakes, campaigns, clock_steps, events, queue
from mailfleet.store.database import Database, Tx

log = structlog.get_logger()

TICK_S = 0.5
KEEP_ANSWERS_MS = 86_400_000  # an idempotency key is good for a day


class _Look(NamedTuple):
    """At the clock. ``ahead_ms``: of the wall clock before the monotonic one; ``told``: the newest event; no event that is written
    later says to be older than ``since_ms``, unless the clock is set back.
    """

    ahead_ms: int
    told: int
    since_ms: int


class Maintainer:
    """The periodic work of the node."""

    def __init__(
        self,
        database: Database,
        run_folder: Path,
        clock: Clock,
        *,
        time_scale: float = 1,
        reputation: Reputation | None = None,
        blocklists: Blocklists | None = None,
        plans: Mapping[str, Plan] | None = None,
        dns: tuple[Domains, Rotation] | None = None,
        server_dns: ServerDns | None = None,
        certificates: Certificates | None = None,
        digests: Digests | None = None,
        tls_reports: TlsReports | None = None,
        dmarc: DmarcReports | None = None,
    ) -> None:
        self._database, self._run_folder, self._clock = database, run_folder, clock
        self._time_scale, self._reputation, self._blocklists = time_scale, reputation, blocklists
        self._plans = plans or {}
        self._dns, self._server_dns = dns, server_dns
        self._certificates, self._digests, self._tls_reports = certificates, digests, tls_reports
        self._dmarc = dmarc
        self._slow: dict[str, asyncio.Task[object]] = {}  # work that goes on beside the rounds
        self._looked: _Look | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``; an error of one kind of work is logged and does not keep the others from running."""
        await self._rounds(stop)
        # What goes on beside them ends here: it would otherwise meet a database that is closed
        for task in self._slow.values():
            task.cancel()
        await asyncio.gather(*self._slow.values(), return_exceptions=True)

    async def _rounds(self, stop: asyncio.Event) -> None:
        turn = 0
        while not stop.is_set():
            works = [
                self.follow_the_clock,
                self.loosen_brakes,
                self.finish_cancelling,
                self.finish_sealing,
                self.start_scheduled,
            ]
            if turn % 4 == 0:
                works += [self.reap_leases, self.finish_done]
            if turn % 10 == 0:
                works += [
                    self.look_at_block_lists,
                    self.look_at_domains,
                    self.look_at_certificates,
                    self.look_at_server,
                    self.send_digest,
                    self.send_tls_reports,
                ]
            if turn % 60 == 0:
                works += [self.look_at_reputation]
            if turn % 600 == 0:
                works += [self.forget_answers, self.forget_reports, self.forget_allowances, self.make_parts]
            for work in works:
                try:
                    await work()
                except BusyError as error:
                    log.warning("periodic work waits", work=work.__name__, reason=error.reason)
                except Exception:
                    log.exception("periodic work failed", work=work.__name__)
            turn += 1
            try:
                async with asyncio.timeout(TICK_S):
                    await stop.wait()
            except TimeoutError:
                pass

    async def loosen_brakes(self) -> None:
        """Brakes whose time is over loosen by a step, or end."""
        now_ms = self._clock.now_ms()
        if any(loosen(one, now_ms) for one in await self._database.read(brakes.in_force)):
            await self._database.write(lambda tx: braking.loosen_due(tx, now_ms))

    def _beside(self, name: str, work: Callable[[], Coroutine[object, object, object]]) -> None:
        """Start work that may take its time, unless it is still at it. What went wrong the last time is raised now."""
        before = self._slow.get(name)
        if before is not None and not before.done():
            return
        self._slow[name] = asyncio.create_task(work(), name=name)
        if before is not None:
            before.result()

    async def look_at_block_lists(self) -> None:
        """Beside everything else: lists may be slow to answer."""
        if self._blocklists is not None:
            self._beside("block lists", self._blocklists.run_due)

    async def look_at_domains(self) -> None:
        """Checks that are due and keys on their way."""
        if self._dns is not None:
            self._beside("domains", partial(self._dns_work, *self._dns))

    async def look_at_certificates(self) -> None:
        """Those that are due: an authority takes its time."""
        if self._certificates is not None:
            self._beside("certificates", self._certificates.run_due)

    async def look_at_server(self) -> None:
        """What the DNS holds for the install itself."""
        if self._server_dns is not None:
            self._beside("server DNS", self._server_dns.run)

    async def send_digest(self) -> None:
        """The nightly mail of what changed, when its time has come."""
        if self._digests is not None:
            await self._digests.run_due()

    async def send_tls_reports(self) -> None:
        """Those that are due."""
        if self._tls_reports is not None:
            self._beside("TLS reports", self._tls_reports.run_due)

    @staticmethod
    async def _dns_work(domains: Domains, rotation: Rotation) -> None:
        await rotation.run()
        await domains.run_due()

    async def look_at_reputation(self) -> None:
        """Brakes at the thresholds of providers, where they are wanted; old counts go, and idle sources are forgotten."""
        if self._reputation is not None:
            await self._reputation.look()
            await self._reputation.forget()
        if self._plans:
            now_ms = self._clock.now_ms()
            await self._database.write(lambda tx: warming.forget_idle(tx, self._plans, now_ms, self._time_scale))

    async def forget_allowances(self) -> None:
        """Drop what is kept of rates that hold nobody back any more."""
        before_ms = self._clock.now_ms() - KEEP_ANSWERS_MS
        while await self._database.write(lambda tx: allowances.forget(tx, before_ms)):
            pass

    async def finish_cancelling(self) -> None:
        """Cancel the queued rows of cancelled campaigns, some at a time."""
        for campaign in await self._database.read(lambda tx: campaigns.unfinished_cancelled(tx)):

            def step(tx: Tx, flow_id: int = campaign.flow_id, campaign_id: int = campaign.id) -> int:
                now_ms = self._clock.now_ms()
                count = queue.cancel(tx, flow_id, now_ms=now_ms)
                campaigns.finish_where_done(tx, [campaign_id], now_ms=now_ms)
                return count

            while await self._database.write(step):
                pass

    async def finish_sealing(self) -> None:
        """Go on where an entrance died while sealing."""
        for campaign in await self._database.read(lambda tx: campaigns.in_state(tx, "sealing")):
            await self._database.write(
                partial(campaigns.go_on_sealing, campaign_id=campaign.id, now_ms=self._clock.now_ms())
            )

    async def start_scheduled(self) -> None:
        """Say that a campaign has started when its time has come, if no claim has; its deliveries are due by themselves."""
        now_ms = self._clock.now_ms()
        waiting = await self._database.read(lambda tx: campaigns.in_state(tx, "scheduled"))
        due = sorted(campaign.id for campaign in waiting if (campaign.send_at_ms or 0) <= now_ms)
        if due:
            await self._database.write(lambda tx: campaigns.start_scheduled(tx, *due, now_ms=now_ms))

    async def finish_done(self) -> None:
        """Finish campaigns whose last commits, of two processes at once, did not see each other."""
        if await self._database.read(campaigns.done):

            def finish(tx: Tx) -> None:
                campaigns.finish_where_done(tx, campaigns.done(tx), now_ms=self._clock.now_ms())

            await self._database.write(finish)

    async def follow_the_clock(self) -> None:
        """When the clock was set back, keep the waits as long as they were: retries and look-ups come due that much earlier.

        What waits for a time that a person named goes by the clock as it is now, and so does everything after a step forward.
        """
        told = await self._database.read(clock_steps.last_told)
        now_ms = self._clock.now_ms()
        now = _Look(ahead_ms(self._clock), told.id, now_ms - STEP_MS)
        if self._looked is None:  # a step while nobody looked shows in what was written last
            before, step_ms = now, told.at_ms - now_ms
        else:
            before, step_ms = self._looked, self._looked.ahead_ms - now.ahead_ms
        if step_ms > STEP_MS:
            log.warning("the clock was set back: what waits is due that much earlier", by_s=round(step_ms / 1000))
            await self._database.write(lambda tx: clock_steps.look_up_again(tx, now_ms=now_ms))
            after: int | None = 0
            while after is not None:
                after = await self._database.write(
                    partial(
                        clock_steps.hurry,
                        now_ms=now_ms,
                        step_ms=step_ms,
                        after=after,
                        told=before.told,
                        since_ms=before.since_ms,
                    )
                )
        self._looked = now  # last, so that a full disk lets it be done again

    async def reap_leases(self) -> None:
        """Recover the leases of delivery processes that do not come back (a slot that no longer exists)."""
        for lease_id, slot in await self._database.read(lambda tx: queue.ended_leases(tx, self._clock.now_ms())):
            with slot_lock(self._run_folder, slot, wait=False) as held:
                if held:
                    await recover_lease(
                        self._database, self._run_folder, slot, lease_id, self._clock, scale=self._time_scale
                    )

    async def make_parts(self) -> None:
        """Have the parts of the event log ready before their days begin."""
        await self._database.write(partial(events.make_parts, now_ms=self._clock.now_ms()))

    async def forget_answers(self) -> None:
        """Drop idempotency answers that are too old."""
        await self._database.write(lambda tx: access.forget_answers(tx, self._clock.now_ms() - KEEP_ANSWERS_MS))

    async def forget_reports(self) -> None:
        """Drop DMARC reports that are too old."""
        if self._dmarc is not None:
            await self._dmarc.forget()


async def discard_unsealed(database: Database) -> None:
    """Remove what a killed entrance had taken of a list: nothing of it was promised. For the entrance itself, before it opens."""
    for campaign in await database.read(lambda tx: campaigns.in_state(tx, "loading")):
        log.warning("discarding a list that was never taken whole", campaign=campaign.id, name=campaign.name)
        while not await database.write(partial(campaigns.discard_some, campaign=campaign)):
            pass
