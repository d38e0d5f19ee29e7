"""Campaigns: taking the content and its recipients, all or nothing, and steering what was taken."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from mailfleet.base import ids
from mailfleet.base.clock import Clock
from mailfleet.base.errors import BusyError, ConflictError, InputError, NotFoundError
from mailfleet.base.gauges import Counter
from mailfleet.base.ids import IdGenerator
from mailfleet.config.retry import Retry
from mailfleet.engine.accept import Acceptor, Screen, check_send_at, known_stream, remembered, request_hash
from mailfleet.engine.fleet_checks import rates_text
from mailfleet.engine.intake import content_source
from mailfleet.engine.requests import Actor, CampaignRequest
from mailfleet.engine.shared import LongReads, Shared
from mailfleet.engine.upload import Opened, Upload, view_of
from mailfleet.engine.views import CampaignAccepted, CampaignPage, CampaignReport, CampaignReportRow, CampaignView
from mailfleet.mail.content import compile_content
from mailfleet.mail.headers import parse_mailbox
from mailfleet.policy import dns_checks
from mailfleet.policy.lifecycle import DeliveryState, EventKind
from mailfleet.store import campaigns, contents, deliveries
from mailfleet.store import dns as dns_rows
from mailfleet.store.campaigns import Campaign
from mailfleet.store.database import Database, Tx

MAX_PREVIEWS = 20


class _Asked(NamedTuple):
    """A report that was asked for: of a campaign that is over, as its tally stands."""

    campaign_id: int
    tally: tuple[tuple[int, int], ...]


class Campaigns:
    """Campaigns of one process."""

    def __init__(
        self,
        database: Database,
        acceptor: Acceptor,
        screen: Screen,
        reads: LongReads,
        *,
        retry: Retry,
        time_scale: float,
        clock: Clock,
        ids: IdGenerator,
        demand_dns: bool = True,
    ) -> None:
        self._demand_dns = demand_dns
        self._database, self._acceptor, self._screen, self._reads = database, acceptor, screen, reads
        self._retry, self._time_scale, self._clock, self._ids = retry, time_scale, clock, ids
        self._reports: Shared[_Asked, CampaignReport] = Shared(clock, self._report)
        self.taken = Counter()  # recipients

    async def open(self, actor: Actor, request: CampaignRequest, *, previews: int = 0) -> Upload:
        """Check and compile the content, and start taking recipients. Raises ``InputError`` naming the part and line."""
        self._screen.check()
        check_send_at(request.send_at_ms, self._clock.now_ms())
        digest = request_hash(replace(request, idempotency_key=""))
        if request.idempotency_key:
            earlier = await remembered(self._database, actor, request.idempotency_key, digest)
            if earlier is not None:
                return self._upload(None, CampaignAccepted.model_validate_json(earlier))
        if not (request.html or "").strip() and not (request.text or "").strip():
            where = "html" if request.html is not None else "text"
            raise InputError("there is nothing in it", where=where, mend="give the file that has the newsletter in it")
        sender = parse_mailbox(request.sender, where="from").address
        identity = await self._acceptor.identity_for(actor, sender.domain)
        stream = await self._database.read(lambda tx: known_stream(tx, actor, request.stream))
        if stream.kind == "bulk" and self._demand_dns:
            await self._database.read(lambda tx: _demand_ready(tx, identity.domain.name))
        content_id, campaign_id, flow_id = self._ids.take(3)
        compiled = await asyncio.to_thread(
            compile_content,
            content_source(request, templated=True),
            boundary_seed=ids.public("cnt", content_id),
        )
        info = contents.ContentInfo(
            from_domain=sender.domain,
            sender=request.sender,
            subject=request.subject,
            tags=tuple(request.tags),
            metadata=dict(request.metadata),
        )
        campaign = Campaign(
            id=campaign_id,
            tenant_id=actor.tenant_id,
            flow_id=flow_id,
            content_id=content_id,
            name=request.name or request.subject,
            stream=stream.name,
            state="loading",
            told_to_id=0,
            rows=0,
            invalid=0,
            duplicates=0,
            first_delivery_id=0,
            last_delivery_id=0,
            created_ms=self._clock.now_ms(),
            send_at_ms=request.send_at_ms,
            finished_ms=None,
            pause_reason="",
            rates=rates_text(request.rates, "rate"),
        )
        content = contents.Content(content_id, actor.tenant_id, "compiled", compiled.to_bytes(), info)
        opened = Opened(actor, request, compiled, content, stream, campaign, min(previews, MAX_PREVIEWS), digest)
        return self._upload(opened, None)

    async def get(self, actor: Actor, campaign: str) -> CampaignView:
        """One campaign. Raises ``NotFoundError``."""
        return await self._database.read(lambda tx: self._view(tx, _known(tx, actor, campaign)))

    async def list(self, actor: Actor, after: str | None, limit: int) -> CampaignPage:
        """Newest first; ``after`` is the last id of the page before."""
        before = ids.from_public("cmp", after) if after else None

        def find(tx: Tx) -> list[CampaignView]:
            found = campaigns.newest(tx, actor.tenant_id, before=before, limit=limit)
            return [self._view(tx, one) for one in found]

        views = await self._database.read(find)
        return CampaignPage(items=views, next=views[-1].campaign if len(views) == limit else None)

    async def report(self, actor: Actor, campaign: str) -> CampaignReport:
        """By provider, state and bounce class, most first. It takes a walk over the campaign's rows, so those who ask at once share
        the answer."""

        def look(tx: Tx) -> _Asked:
            found = _known(tx, actor, campaign)
            over = found.finished_ms is not None  # then whoever asks gets the last word
            return _Asked(found.id, tuple(sorted(campaigns.tally(tx, found.id).items())) if over else ())

        return (await self._reports.get(await self._database.read(look))).value

    async def _report(self, asked: _Asked) -> CampaignReport:
        def find(tx: Tx) -> CampaignReport:
            found = campaigns.get(tx, asked.campaign_id)
            assert found is not None
            rows = deliveries.report(tx, (found.id, found.first_delivery_id, found.last_delivery_id))
            rows.sort(key=lambda row: -row.n)
            return CampaignReport(campaign=self._view(tx, found), rows=[_report_row(row) for row in rows])

        return await self._reads.read(find)

    async def pause(self, actor: Actor, campaign: str, reason: str) -> CampaignView:
        """Stop claiming; attempts under way end as they end. Pausing twice is the same as once."""
        return await self._move(actor, campaign, "paused", EventKind.CAMPAIGN_PAUSED, ("sending", "scheduled"), reason)

    async def resume(self, actor: Actor, campaign: str) -> CampaignView:
        """Go on, or wait for the time to send again where that is still ahead."""
        return await self._move(actor, campaign, "sending", EventKind.CAMPAIGN_RESUMED, ("paused",), "")

    async def cancel(self, actor: Actor, campaign: str) -> CampaignView:
        """Cancel what is still queued. The rows follow in steps, nothing of it is claimed from the commit on."""
        states = ("sending", "scheduled", "paused")
        return await self._move(actor, campaign, "cancelled", EventKind.CAMPAIGN_CANCELLED, states, "")

    def _upload(self, opened: Opened | None, answer: CampaignAccepted | None) -> Upload:
        return Upload(self._database, opened, answer, self._clock, self._ids, self._retry, self._time_scale, self.taken)

    async def _move(
        self, actor: Actor, campaign: str, state: str, kind: EventKind, allowed: Sequence[str], reason: str
    ) -> CampaignView:
        def change(tx: Tx) -> CampaignView:
            found, now_ms = _known(tx, actor, campaign, hold=True), self._clock.now_ms()
            target = "scheduled" if state == "sending" and (found.send_at_ms or 0) > now_ms else state
            if found.state != target:
                if found.state == "sealing":
                    raise BusyError("the campaign is just being taken", retry_after_s=2)
                if found.state not in allowed:
                    raise ConflictError(
                        f"the campaign is {found.state}",
                        where=campaign,
                        mend=f"only a campaign that is {' or '.join(allowed)} can be",
                    )
                campaigns.move(tx, found, target, kind, now_ms=now_ms, reason=reason)
            return self._view(tx, _known(tx, actor, campaign))

        return await self._database.write(change)

    def _view(self, tx: Tx, campaign: Campaign) -> CampaignView:
        info = contents.info(tx, campaign.content_id)
        return view_of(campaign, campaigns.tally(tx, campaign.id), info, self._clock.now_ms())


def _known(tx: Tx, actor: Actor, campaign: str, *, hold: bool = False) -> Campaign:
    number = ids.from_public("cmp", campaign)
    found = campaigns.held(tx, number) if hold else campaigns.get(tx, number)
    if found is None or found.tenant_id != actor.tenant_id or found.state == "loading":
        raise NotFoundError("there is no such campaign", where=campaign, mend="see: mailfleet campaign list")
    return found


def _report_row(row: deliveries.ReportRow) -> CampaignReportRow:
    return CampaignReportRow(
        provider=row.provider or None,
        mail_host=bool(row.located),
        state=DeliveryState(row.state).word,
        bounce_class=row.bounce_class or None,
        count=row.n,
        recipient=row.address,
        reason=row.reason,
    )


def _demand_ready(tx: Tx, domain: str) -> None:
    """Raises ``ConflictError`` where a check has found that providers will refuse the domain's bulk mail. Not looked at: let it go."""
    for bad in dns_checks.ready_for_bulk([one.check for one in dns_rows.standing(tx, domain).values()]):
        raise ConflictError(
            f"{domain} is not ready for bulk mail: {bad.name}: {bad.meaning}",
            where="from",
            mend=f"{bad.next_step}; then: mailfleet domain check {domain}",
        )
