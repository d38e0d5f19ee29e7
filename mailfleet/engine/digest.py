"""The nightly mail of what changed and what is wrong: gathered, queued once for each day, and shown before it is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog
from pydantic import BaseModel, ConfigDict, Field

from mailfleet.base import ids as public_ids
from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.ids import IdGenerator, TenantId
from mailfleet.config.digest import DigestSettings
from mailfleet.config.retry import Retry
from mailfleet.engine.certificate_views import CertificateView
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.envelope import Envelope
from mailfleet.engine.own_mail import STREAM, post, sender_of
from mailfleet.engine.render import message_id_of
from mailfleet.engine.requests import Actor
from mailfleet.engine.rotation import KEEP_OLD_MS
from mailfleet.mail.address import Address
from mailfleet.mail.content import ContentSource, compile_content
from mailfleet.policy import digest as words
from mailfleet.policy.digest import CertificateNews, Digest, Finding, KeyNews, PolicyNews
from mailfleet.policy.dmarc_rollout import POLICY
from mailfleet.store import contents, digests, sending, suppressions
from mailfleet.store import dns as dns_rows
from mailfleet.store.database import Database, Tx
from mailfleet.store.digests import Made
from mailfleet.store.dns import Past
from mailfleet.store.sending import SendingDomain
from mailfleet.store.tenants import DEFAULT_TENANT

log = structlog.get_logger()

DAY_MS, HOUR_MS, MINUTE_MS = 86_400_000, 3_600_000, 60_000
LOCAL_PART = "mailfleet"
OPERATOR = Actor(TenantId(DEFAULT_TENANT), name="digest")
HEADERS = (("Auto-Submitted", "auto-generated"),)  # RFC 3834 5: nobody's holiday answers it


class DigestView(BaseModel):
    """The mail as it would be sent now."""

    model_config = ConfigDict(frozen=True)

    to: str = Field(description="`digest.to`; empty: nobody gets it.")
    sender: str = Field(description="Whom it is from; empty where `problem` says why it could not be sent.")
    next: str = Field(description="When the next one is due; empty where nobody gets it.")
    nothing: bool = Field(description="There is nothing to tell: no mail would be sent.")
    problem: str = Field(description="Why it could not be sent.")
    subject: str
    text: str
    html: str


@dataclass(frozen=True, slots=True)
class _News:
    """A digest with the changes that it tells of."""

    digest: Digest
    past: tuple[Past, ...]


class Digests:
    """For one process. The ``jobs`` role calls ``run_due``."""

    def __init__(
        self,
        database: Database,
        certificates: Certificates,
        settings: DigestSettings,
        retry: Retry,
        *,
        hostname: str,
        clock: Clock,
        ids: IdGenerator,
        time_scale: float,
    ) -> None:
        self._database, self._certificates, self._settings, self._retry = database, certificates, settings, retry
        self._hostname, self._clock, self._ids, self._time_scale = hostname, clock, ids, time_scale
        self._complained = -1  # on which day it was logged that it cannot be sent

    async def view(self, actor: Actor) -> DigestView:
        """What would be sent now. Who runs the server sees everything, every other tenant what is its own."""
        certificates = await self._certificates.every(actor)
        now_ms = self._clock.now_ms()

        def find(tx: Tx) -> tuple[_News, str, str, Made | None]:
            return self._gather(tx, actor, certificates, now_ms), *self._sender(tx), digests.newest(tx)

        news, sender, problem, last = await self._database.read(find)
        day = self._day(now_ms) + (0 if self._is_due(last, now_ms) else 1)
        begins_ms = max(now_ms, day * DAY_MS + self._settings.minute * MINUTE_MS)
        return DigestView(
            to=self._settings.to,
            sender=sender,
            next=rfc3339(begins_ms) if self._settings.to else "",
            nothing=news.digest.empty,
            problem=problem,
            subject=words.subject(news.digest),
            text=words.text(news.digest),
            html=words.html_text(news.digest),
        )

    async def run_due(self) -> bool:
        """Queue the day's mail if its time has come and there is something to tell; whether one was queued.

        The row that says so is written in the transaction that queues it: once, whatever is killed when.
        """
        now_ms = self._clock.now_ms()
        if not self._settings.to or not self._is_due(await self._database.read(digests.newest), now_ms):
            return False
        certificates = await self._certificates.every(OPERATOR)

        def work(tx: Tx) -> bool:
            if not self._is_due(digests.newest(tx), now_ms):
                return False
            news = self._gather(tx, OPERATOR, certificates, now_ms)
            sender, problem = self._sender(tx)
            if problem and not news.digest.empty:
                self._complain(problem, now_ms)
                return False  # it stays due
            content_id = 0 if news.digest.empty else self._ids.next()
            if not digests.made(tx, Made(self._day(now_ms), now_ms, content_id)):
                return False
            if content_id:
                digests.told(tx, [one.id for one in news.past])
                self._queue(tx, news.digest, content_id, Address.parse(sender), now_ms)
            return content_id != 0

        return await self._database.write(work)

    # Inside

    def _day(self, now_ms: int) -> int:
        """Days begin at ``digest.at``."""
        return (now_ms - self._settings.minute * MINUTE_MS) // DAY_MS

    def _is_due(self, last: Made | None, now_ms: int) -> bool:
        """A clock that is set back a little sends no day's mail again; one that was far ahead keeps none from being sent."""
        day = self._day(now_ms)
        return last is None or day > last.day or day < last.day - 1

    def _complain(self, problem: str, now_ms: int) -> None:
        if self._complained != self._day(now_ms):
            self._complained = self._day(now_ms)
            log.warning("the digest cannot be sent", reason=problem)

    def _sender(self, tx: Tx) -> tuple[str, str]:
        """An address, or why there is none."""
        given = self._settings.sender
        sender = sender_of(tx, given, LOCAL_PART)
        if sender is not None:
            return str(sender), ""
        if given:
            domain = Address.parse(given).domain
            return "", f"digest.from: {domain} is not a sending domain (mailfleet domain add {domain})"
        return "", "there is no sending domain that it could be from (mailfleet domain add)"

    def _gather(self, tx: Tx, actor: Actor, certificates: Sequence[CertificateView], now_ms: int) -> _News:
        last = digests.newest(tx)
        since_ms = min(last.at_ms if last else now_ms - DAY_MS, now_ms)
        domains = {
            one.name: one for one in sending.all_domains(tx) if actor.tenant_id in (DEFAULT_TENANT, one.tenant_id)
        }
        # A change that was being written while the last one was made is not in it
        past = tuple(one for one in digests.untold(tx, since_ms - HOUR_MS) if one.subject in domains)
        before: dict[tuple[str, str], list[str]] = {}
        for one in past:
            if one.before:  # the first look is no change
                before.setdefault((one.subject, one.name), []).append(one.before)
        changed, wrong, advice, keys = [], [], [], []
        for name, domain in domains.items():
            for kept in dns_rows.standing(tx, name).values():
                states = tuple(before.get((name, kept.check.name), ()))
                found = Finding(name, kept.check, kept.since_ms, states)
                if states:
                    changed.append(found)
                elif kept.check.state == "failed":
                    wrong.append(found)
                elif kept.check.state != "ok":
                    advice.append(found)
            keys += self._keys(tx, domain, since_ms, now_ms)
        digest = Digest(
            self._hostname, since_ms, now_ms, tuple(changed), tuple(wrong), tuple(advice), tuple(keys),
            tuple(_in_trouble(certificates)),
            tuple(PolicyNews(one.subject, one.before, one.state, one.at_ms, one.meaning) for one in past if one.name == POLICY),
        )  # fmt: skip
        return _News(digest, past)

    def _keys(self, tx: Tx, domain: SendingDomain, since_ms: int, now_ms: int) -> list[KeyNews]:
        """Those that changed since, and those that wait for longer than an hour."""
        keep_ms = round(KEEP_OLD_MS / self._time_scale)
        return [
            KeyNews(domain.name, one.selector, one.stage, one.since_ms, one.since_ms + keep_ms)
            for one in sending.keys(tx, domain.id)
            if (one.stage in ("active", "old") and one.since_ms > since_ms)
            or (one.stage in ("next", "leaked") and now_ms - one.since_ms > HOUR_MS)
        ]

    def _queue(self, tx: Tx, digest: Digest, content_id: int, sender: Address, now_ms: int) -> None:
        """Like any single message of the default tenant."""
        subject = words.subject(digest)
        source = ContentSource(
            sender=f"Mailfleet <{sender}>",
            subject=subject,
            html=words.html_text(digest),
            text=words.text(digest),
            headers=HEADERS,
            templated=False,
            to=(self._settings.to,),
        )
        compiled = compile_content(source, boundary_seed=public_ids.public("cnt", content_id))
        info = contents.ContentInfo(
            from_domain=sender.domain,
            sender=source.sender,
            subject=subject,
            message_id=message_id_of(content_id, sender.domain),
        )
        to = Address.parse(self._settings.to)
        unwanted = suppressions.matching(tx, DEFAULT_TENANT, STREAM, [to.key])
        for why in unwanted.values():
            log.warning("the digest goes nowhere: its address is suppressed", to=str(to), reason=why.reason)
        post(
            tx,
            contents.Content(content_id, DEFAULT_TENANT, "compiled", compiled.to_bytes(), info),
            [to],
            Envelope(),
            ids=self._ids,
            retry=self._retry,
            now_ms=now_ms,
            time_scale=self._time_scale,
            unwanted=unwanted,
        )
        tx.wake()


def _in_trouble(certificates: Iterable[CertificateView]) -> list[CertificateNews]:
    return [
        CertificateNews(one.host, one.state, one.not_after, one.problem)
        for one in certificates
        if one.state in ("expiring", "expired") or one.problem
    ]
