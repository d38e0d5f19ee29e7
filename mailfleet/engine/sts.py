"""The MTA-STS policy that holds for a recipient domain now: kept, fetched when its id changes, kept on when it cannot be fetched."""

from __future__ import annotations

from collections import OrderedDict

import structlog

from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError
from mailfleet.engine.tls_book import TlsBook
from mailfleet.mail.mta_sts import MtaStsSyntaxError, StsPolicy, parse_policy, policy_id
from mailfleet.net.dns_query import DnsQuerier, DnsTemporary
from mailfleet.net.policy_fetch import PolicyFetcher, PolicyFetchError
from mailfleet.policy.tls_results import FetchFailure, fetch_fault, sts_policy
from mailfleet.store import sts
from mailfleet.store.database import Database
from mailfleet.store.sts import KeptPolicy

log = structlog.get_logger()

FAILED_AGAIN_S = 300.0  # RFC 8461 3.3: a policy that could not be fetched is not asked for again at once
MAX_FAILED = 10_000


class StsPolicies:
    """For one process. ``book`` is told of policies that cannot be used."""

    def __init__(
        self,
        database: Database,
        querier: DnsQuerier,
        fetcher: PolicyFetcher,
        clock: Clock,
        book: TlsBook | None = None,
    ) -> None:
        self._book = book
        self._database, self._querier, self._fetcher, self._clock = database, querier, fetcher, clock
        self._failed: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def of(self, domain: str) -> StsPolicy | None:
        """The policy that holds (RFC 8461 5.1); None where there is none. Never raises for what the network does."""
        now_ms = self._clock.now_ms()
        kept = await self._database.read(lambda tx: sts.get(tx, domain))
        if kept is not None and kept.expires_ms <= now_ms:
            kept = None
        number = await self._id(domain)
        if number is not None and (kept is None or kept.id != number) and self._may_ask(domain, number):
            fetched = await self._fetch(domain, number, kept.policy if kept is not None else None)
            if fetched is not None:
                return fetched
        return kept.policy if kept is not None else None

    async def kept(self, domain: str) -> StsPolicy | None:
        """The policy that holds by what is kept; None where there is none, or it demands nothing. Asks nobody outside."""
        try:
            found = await self._database.read(lambda tx: sts.get(tx, domain))
        except BusyError:
            return None
        holds = found is not None and found.expires_ms > self._clock.now_ms() and found.policy.mode != "none"
        return found.policy if found is not None and holds else None

    async def _id(self, domain: str) -> str | None:
        try:
            return policy_id((await self._querier.ask(f"_mta-sts.{domain}", "TXT")).records)
        except DnsTemporary:
            return None

    async def _fetch(self, domain: str, number: str, before: StsPolicy | None) -> StsPolicy | None:
        try:
            policy = parse_policy(await self._fetcher.fetch(domain))
        except (PolicyFetchError, MtaStsSyntaxError) as error:
            log.warning("an MTA-STS policy cannot be used", domain=domain, reason=str(error))
            if self._book is not None:
                why: FetchFailure = error.why if isinstance(error, PolicyFetchError) else "policy"
                self._book.note(
                    domain, sts_policy(domain, before), fetch_fault(why, str(error)), mx_host=f"mta-sts.{domain}"
                )
            self._failed[domain, number] = self._clock.monotonic_s() + FAILED_AGAIN_S
            while len(self._failed) > MAX_FAILED:
                self._failed.popitem(last=False)
            return None
        now_ms = self._clock.now_ms()
        row = KeptPolicy(domain, number, policy, now_ms, now_ms + policy.max_age_s * 1000)
        await self._database.write(lambda tx: sts.put(tx, row))
        return policy

    def _may_ask(self, domain: str, number: str) -> bool:
        return self._failed.get((domain, number), 0) <= self._clock.monotonic_s()
