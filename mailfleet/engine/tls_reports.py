"""TLS reports (RFC 8460): made when a day is over, mailed once, posted until they are taken."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Sequence

import structlog

from mailfleet.base import ids
from mailfleet.base.clock import Clock
from mailfleet.base.ids import IdGenerator
from mailfleet.config.retry import Retry
from mailfleet.config.tls_reports import TlsReports as Wanted
from mailfleet.engine.envelope import Envelope
from mailfleet.engine.own_mail import STREAM, post, sender_of
from mailfleet.engine.tls_book import SPREAD_MS
from mailfleet.mail.address import Address
from mailfleet.mail.tls_report import (
    MEDIA_TYPE,
    Failures,
    PolicyResults,
    TlsReport,
    build_message,
    endpoints,
)
from mailfleet.net.dns_query import DnsQuerier, DnsTemporary
from mailfleet.net.https_exchange import HttpsError, HttpsExchange
from mailfleet.policy.tls_results import DAY_MS, begin_ms, day_of
from mailfleet.store import contents, suppressions, tenants
from mailfleet.store import tls_results as rows
from mailfleet.store.database import Database, Tx
from mailfleet.store.tls_results import Due, Result

log = structlog.get_logger()

KEEP_DAYS = 3
AGAIN_MS = 3_600_000  # after a failure
AT_ONCE = 16
MAX_ANSWER_BYTES = 1000


class TlsReports:
    """For one process. Nothing is sent without a sending domain to sign by."""

    def __init__(
        self,
        database: Database,
        querier: DnsQuerier,
        https: HttpsExchange,
        wanted: Wanted,
        *,
        retry: Retry,
        time_scale: float,
        clock: Clock,
        ids: IdGenerator,
    ) -> None:
        self._database, self._querier, self._https, self._wanted = database, querier, https, wanted
        self._retry, self._time_scale, self._clock, self._ids = retry, time_scale, clock, ids
        self._told = False

    async def run_due(self) -> None:
        """Reports that are due; old results go."""
        await self._forget()
        if not self._wanted.enabled:
            return
        due = await self._find()
        if not due:
            return
        sender = await self._database.read(self._sender)
        if sender is None:
            if not self._told:
                log.warning("no TLS report is sent: there is no sending domain to sign it", mend="tls_reports.sender")
            self._told = True
            return
        while due:
            ends = await asyncio.gather(*(self._report(one, sender) for one in due), return_exceptions=True)
            for error in filter(None, ends):  # all are over now: the next run posts none of them again
                raise error
            due = await self._find()

    async def _find(self) -> list[Due]:
        now_ms = self._clock.now_ms()
        return await self._database.read(lambda tx: rows.due(tx, now_ms, AT_ONCE))

    async def _forget(self) -> None:
        before = day_of(self._clock.now_ms(), self._time_scale) - KEEP_DAYS
        if await self._database.read(lambda tx: rows.has_before(tx, before)):
            while await self._database.write(lambda tx: rows.forget(tx, before)):
                pass

    def _sender(self, tx: Tx) -> Address | None:
        return sender_of(tx, self._wanted.sender, "tls-reports")

    async def _report(self, due: Due, sender: Address) -> None:
        if due.state == "posting":
            await self._post(due, sender)
            return
        try:
            records = (await self._querier.ask(f"_smtp._tls.{due.domain}", "TXT")).records
        except DnsTemporary:
            await self._later(due, "its record cannot be looked up")
            return
        wanted = endpoints(records)
        if wanted is None:
            await self._database.write(lambda tx: rows.move(tx, due, "unasked"))
            return
        report = await self._made(due, sender)
        now_ms = self._clock.now_ms()

        def work(tx: Tx) -> bool:
            """The move and the mail in one commit, so that there is never a second one."""
            state, next_ms = ("posting", now_ms) if wanted.https else ("sent", 0)
            if not rows.move(tx, due, state, due_ms=next_ms, urls=wanted.https):
                return False
            self._queue(tx, report, sender, wanted.mailto, now_ms)
            return True

        if await self._database.write(work):
            log.info("a TLS report is sent", domain=due.domain, to=[str(one) for one in wanted.mailto])

    async def _made(self, due: Due, sender: Address) -> TlsReport:
        results = await self._database.read(lambda tx: rows.of_day(tx, due.day, due.domain))
        return TlsReport(
            due.domain,
            sender.domain,
            sender.domain,
            str(sender),
            begin_ms(due.day, self._time_scale),
            begin_ms(due.day + 1, self._time_scale),
            tuple(by_policy(results)),
        )

    def _queue(self, tx: Tx, report: TlsReport, sender: Address, to: Sequence[Address], now_ms: int) -> None:
        """As any message of the default tenant's transactional stream; signed when it is sent."""
        unwanted = suppressions.matching(tx, tenants.DEFAULT_TENANT, STREAM, [one.key for one in to])
        to = [one for one in to if one.key not in unwanted]
        if not to:
            return
        content_id, number = self._ids.take(2)
        name = ids.public("tls", number)
        message_id = f"<{name.lower()}@{sender.domain}>"
        message = build_message(report, sender=sender, to=to, now_ms=now_ms, message_id=message_id, boundary=name)
        info = contents.ContentInfo(
            from_domain=sender.domain,
            sender=str(sender),
            subject=f"Report Domain: {report.domain}",
            message_id=message_id,
        )
        post(
            tx,
            contents.Content(content_id, tenants.DEFAULT_TENANT, "raw", message, info),
            to,
            Envelope(tls="any"),
            ids=self._ids,
            retry=self._retry,
            now_ms=now_ms,
            time_scale=self._time_scale,
        )
        tx.wake()

    async def _post(self, due: Due, sender: Address) -> None:
        """To each page that has not taken it yet."""
        body = (await self._made(due, sender)).packed()
        left, words = [], ""
        for url in due.urls:
            words = await self._post_to(url, body)
            if words:
                left.append(url)
                log.warning("a TLS report cannot be posted", domain=due.domain, url=url, reason=words)
        if left:
            await self._later(due, words, left)
        else:
            await self._database.write(lambda tx: rows.move(tx, due, "sent"))

    async def _post_to(self, url: str, body: bytes) -> str:
        """Empty, or why it was not taken."""
        split = urllib.parse.urlsplit(url)
        target = (split.path or "/") + (f"?{split.query}" if split.query else "")
        fields = f"Content-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        try:
            answer = await self._https.ask(
                "POST", split.hostname or "", split.port or 443, target, fields, body, max_bytes=MAX_ANSWER_BYTES
            )
        except HttpsError as error:
            return str(error)
        return "" if 200 <= answer.status < 300 else f"it answers {answer.words}"

    async def _later(self, due: Due, words: str, urls: Sequence[str] = ()) -> None:
        """Again in an hour, for a day (RFC 8460 5.5)."""
        again_ms = self._clock.now_ms() + max(1000, round(AGAIN_MS / self._time_scale))
        given_up_ms = begin_ms(due.day + 1, self._time_scale) + round((DAY_MS + SPREAD_MS) / self._time_scale)
        if again_ms > given_up_ms:
            log.warning("a TLS report is given up", domain=due.domain, reason=words)
            await self._database.write(lambda tx: rows.move(tx, due, "failed", urls=urls))
        else:
            await self._database.write(lambda tx: rows.move(tx, due, due.state, due_ms=again_ms, urls=urls))


def by_policy(results: Sequence[Result]) -> list[PolicyResults]:
    """Results of one day of a domain, by the policy that they were under."""
    found: dict[tuple[str, str, str], list[Result]] = {}
    for one in results:
        found.setdefault((one.key.policy_type, one.key.policy_domain, one.key.policy_id), []).append(one)
    return [_of_policy(kind, domain, group) for (kind, domain, _), group in found.items()]


def _of_policy(kind: str, domain: str, group: Sequence[Result]) -> PolicyResults:
    failed = [one for one in group if one.key.result]
    failures = [
        Failures(one.key.result, one.sessions, one.key.our_ip, one.key.mx_host, one.key.remote_ip, one.key.reason)
        for one in failed
    ]
    good = sum(one.sessions for one in group if not one.key.result)
    return PolicyResults(kind, domain, tuple(group[0].policy.splitlines()), good, tuple(failures))
