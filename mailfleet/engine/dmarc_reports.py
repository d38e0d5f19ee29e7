"""DMARC reports: taken in once, summed up by who sends, and what they mean for a domain's policy."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import cast

from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import InputError
from mailfleet.base.ids import IdGenerator
from mailfleet.engine.dmarc_views import (
    DmarcReportView,
    DmarcTaken,
    DmarcTakenView,
    DmarcView,
    Found,
    listed,
    report_view,
    to_name,
    view_of,
)
from mailfleet.engine.domain_facts import own_domain
from mailfleet.engine.requests import Actor
from mailfleet.engine.shared import LongReads
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.mail.address import is_within
from mailfleet.mail.dmarc import Policy, organizational_domain
from mailfleet.mail.dmarc_report import DAY_S, AggregateReport, ReportRow, parse_report
from mailfleet.mail.report_files import report_texts
from mailfleet.policy import dmarc_rollout as rules
from mailfleet.policy import dns_checks
from mailfleet.policy.dmarc_marks import marks_of
from mailfleet.policy.dmarc_rollout import JUDGED, LOOK_DAYS, RECENT_DAYS, Advice, Evidence
from mailfleet.store import dmarc as rows
from mailfleet.store import dns as dns_rows
from mailfleet.store import egress, sending
from mailfleet.store.database import Database, Tx
from mailfleet.store.dmarc import Concern, Report, Row
from mailfleet.store.sending import SendingDomain

KEEP_DAYS = 180
AHEAD_S = 2 * DAY_S  # by which a reporter's clock may be wrong
MAX_JUDGED = 200
LOOK_UP_WITHIN_S = 3.0
NAMES_WITHIN_S = 2.0  # what comes later is known the next time


class DmarcReports:
    """For one process. ``addresses_of`` looks up a host: from there comes what leaves by no address of its own.

    ``names_of`` finds what addresses are called, as far as it does in so many seconds.
    """

    def __init__(
        self,
        database: Database,
        reads: LongReads,
        addresses_of: Callable[[str], Awaitable[Collection[str]]],
        names_of: Callable[[Collection[str], float], Awaitable[Mapping[str, str]]],
        *,
        defaults: SourceDefaults,
        clock: Clock,
        ids: IdGenerator,
    ) -> None:
        self._database, self._reads = database, reads
        self._addresses_of, self._names_of = addresses_of, names_of
        self._defaults, self._clock, self._ids = defaults, clock, ids

    # For people

    async def take(self, actor: Actor, data: bytes) -> DmarcTaken:
        """Every report of a file, all or none; one that is there already counts once.

        Raises ``InputError`` for what cannot be read, or speaks of no domain of the tenant's.
        """
        now_ms = self._clock.now_ms()
        parsed = await asyncio.to_thread(_parsed, data)
        for name, one in parsed:
            if one.begin_s * 1000 > now_ms + AHEAD_S * 1000:
                what = f"it speaks of {rfc3339(one.begin_s * 1000)}, which is to come"
                raise InputError(what, where=_place(name, "date_range"), mend="give it as the reporter sent it")

        def work(tx: Tx) -> DmarcTaken:
            own = {one.name for one in sending.of_tenant(tx, actor.tenant_id)}
            known = {organizational_domain(one) for one in own}
            taken = []
            for name, one in parsed:
                if organizational_domain(one.domain) not in known:
                    what = f"it speaks of {one.domain}, which is no sending domain"
                    mend = f"add it first: mailfleet domain add {one.domain}"
                    raise InputError(what, where=_place(name, "policy_published, domain"), mend=mend)
                report, kinds = self._rows(actor, one, now_ms)
                added = rows.add(tx, report, kinds)
                view = report_view(report)
                taken.append(DmarcTakenView(report=view, known=not added, problems=list(one.problems[:20])))
            for domain in sending.of_tenant(tx, actor.tenant_id):  # what they mean is said soon
                if any(not one.known and is_within(domain.name, one.report.domain) for one in taken):
                    sending.look_soon(tx, domain.id)
            return DmarcTaken(items=taken)

        return await self._database.write(work)

    async def view(self, actor: Actor, name: str, days: int = LOOK_DAYS) -> DmarcView:
        """Of so many days back. Raises ``NotFoundError``."""
        own = await self._own_addresses()
        since = self._today() - days

        def find(tx: Tx) -> tuple[Found, list[tuple[int, int, int]]]:
            domain = own_domain(tx, actor, name)
            return self._find(tx, domain, own, since), rows.by_day(tx, _concern(domain), since)

        found, by_day = await self._reads.read(find)
        advice = self._advice(found, found.stage) if found.stage is not None else None
        names = await self._names_of(to_name(listed(found)[0]).values(), NAMES_WITHIN_S)
        return view_of(found, advice, by_day, names)

    async def reports(self, actor: Actor, name: str, limit: int) -> list[DmarcReportView]:
        """Those that speak of a domain, the newest first. Raises ``NotFoundError``."""
        found = await self._reads.read(lambda tx: rows.reports(tx, _concern(own_domain(tx, actor, name)), limit))
        return [report_view(one) for one in found]

    async def judge(self, actor: Actor, name: str, who: Sequence[str], verdict: str) -> DmarcView:
        """Say whose senders are; ``who`` as the view has them. Raises ``InputError`` and ``NotFoundError``."""
        if verdict not in JUDGED:
            raise InputError(f"{verdict!r} is no verdict", where="judged", mend=f"one of {', '.join(JUDGED)}")
        if not 0 < len(who) <= MAX_JUDGED:
            raise InputError(f"{len(who)} senders are named", where="who", mend=f"name 1 to {MAX_JUDGED}")
        own, now_ms = await self._own_addresses(), self._clock.now_ms()
        since = self._today() - KEEP_DAYS
        found = await self._reads.read(lambda tx: self._find(tx, own_domain(tx, actor, name), own, since))
        known = {one.who: one.kind for one in found.senders}  # every one, whether a view lists it or not
        for one in who:
            if one not in known:
                mend = f"name them as they are listed: mailfleet dmarc show {found.domain.name}"
                raise InputError(f"no report knows {one}", where="who", mend=mend)
            if known[one] in ("ours", "forwarders"):
                raise InputError(f"{one} is known: {known[one]}", where="who", mend="judge services and strangers")

        def work(tx: Tx) -> None:
            domain = own_domain(tx, actor, name)
            rows.judge(tx, domain.id, dict.fromkeys(who, verdict), now_ms)
            sending.look_soon(tx, domain.id)

        await self._database.write(work)
        return await self.view(actor, name)

    # For the domain's checks

    async def advice(self, domain: SendingDomain, stage: Policy) -> Advice | None:
        """What reports say of a domain whose policy in the DNS is ``stage``; None where there are none."""
        since = self._today() - LOOK_DAYS
        if not await self._database.read(lambda tx: rows.reach(tx, _concern(domain), since).days):
            return None
        own = await self._own_addresses()
        return self._advice(await self._database.read(lambda tx: self._find(tx, domain, own, since)), stage)

    async def forget(self) -> None:
        """Reports that are too old go."""
        before = self._today() - KEEP_DAYS
        if await self._database.read(lambda tx: rows.has_before(tx, before)):
            while await self._database.write(lambda tx: rows.forget(tx, before)):
                pass

    # Inside

    def _today(self) -> int:
        return self._clock.now_ms() // (DAY_S * 1000)

    async def _own_addresses(self) -> dict[str, str]:
        """Names of our sources by address, of whatever state.

        Of one without an address of its own, or with one that the world does not see, by what its EHLO name leads to.
        """
        sources = [one for one in await self._database.read(egress.all_egresses) if one.kind == "source"]
        found = {one.address: one.name for one in sources if one.address}
        names: dict[str, str] = {}
        for one in sources:
            for address in self._defaults.public(one):
                found.setdefault(address, one.name)
            if self._defaults.by_name(one):
                names.setdefault(self._defaults.name(one.ehlo_name), one.name)
        try:
            async with asyncio.timeout(LOOK_UP_WITHIN_S):
                for host, addresses in zip(names, await asyncio.gather(*map(self._addresses_of, names)), strict=True):
                    for address in addresses:
                        found.setdefault(address, names[host])
        except TimeoutError:
            pass  # then what they send is known by its signature
        return found

    def _find(self, tx: Tx, domain: SendingDomain, own: dict[str, str], since: int) -> Found:
        concern = _concern(domain)
        reach = rows.reach(tx, concern, since)
        seen = rows.seen(tx, concern, since, reach.newest - RECENT_DAYS + 1)
        selectors = {one.selector for one in sending.keys(tx, domain.id)}
        found = rules.senders(seen, own, selectors, rows.judged(tx, domain.id))
        stages = rows.stages(tx, domain.tenant_id, domain.name, since)
        checks = [one.check for one in dns_rows.standing(tx, domain.name).values()]
        return Found(domain, reach, found, stages, dns_checks.policy_found(checks) or rules.stage_of(stages))

    def _advice(self, found: Found, stage: Policy) -> Advice | None:
        evidence = Evidence(
            found.domain.name,
            stage,
            cast("Policy", found.domain.dmarc_policy),
            found.reach.days,
            rules.days_at(stage, found.stages),
            found.reach.reporters,
            found.senders,
        )
        return rules.advise(evidence)

    def _rows(self, actor: Actor, report: AggregateReport, now_ms: int) -> tuple[Report, list[Row]]:
        kinds: Counter[Row] = Counter()
        for one in report.rows:
            if one.count:
                kinds[_row(one)] += one.count
        messages = sum(kinds.values())
        passed = sum(count for one, count in kinds.items() if one.dkim or one.spf)
        day = report.begin_s // DAY_S
        row = Report(
            self._ids.next(), actor.tenant_id, report.domain, report.reporter, report.report_id, report.begin_s, report.end_s,
            day, report.policy, messages, passed, now_ms,
        )  # fmt: skip
        return row, [one._replace(messages=count) for one, count in kinds.items()]


def _parsed(data: bytes) -> list[tuple[str, AggregateReport]]:
    """Blocks."""
    found = []
    for name, text in report_texts(data):
        try:
            found.append((name, parse_report(text)))
        except InputError as error:
            raise InputError(error.what, where=_place(name, error.where), mend=error.mend) from None
    return found


def _place(name: str, where: str) -> str:
    return f"{name}, {where}" if name else where


def _row(one: ReportRow) -> Row:
    """Its kind; the count comes after."""
    marks = marks_of(one)
    return Row(
        one.header_from,
        one.ip,
        int(one.dkim),
        int(one.spf),
        int(one.disposition != "none"),
        marks.signed_by,
        marks.known_as,
        " ".join(sorted(one.reasons)),
        marks.why,
        0,
    )


def _concern(domain: SendingDomain) -> Concern:
    """Policies of domains above hold for it until it has its own."""
    home, above, name = organizational_domain(domain.name), [], domain.name
    while name != home and "." in name:
        name = name.partition(".")[2]
        above.append(name)
    return Concern(domain.tenant_id, domain.name, tuple(above))
