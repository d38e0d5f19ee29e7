"""Campaigns: taking the content and its recipients, all or nothing, and steering what was taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import orjson
import structlog

from mailfleet.base import ids
from mailfleet.base.clock import Clock, rfc3339
from mailfleet.base.errors import ConflictError, InputError, NotFoundError, Problem
from mailfleet.base.ids import IdGenerator
from mailfleet.config.settings import Retry
from mailfleet.engine.accept import Acceptor, Screen, check_same, check_send_at, known_stream, remembered, request_hash
from mailfleet.engine.requests import Actor, CampaignRequest, RecipientRow
from mailfleet.engine.views import CampaignAccepted, CampaignPage, CampaignView, ProblemView
from mailfleet.mail.address import Address
from mailfleet.mail.content import Attachment, CompiledContent, ContentSource, compile_content
from mailfleet.mail.headers import parse_mailbox
from mailfleet.policy.lifecycle import DeliveryState, EventKind
from mailfleet.policy.retry import expires_at_ms
from mailfleet.store import access, campaigns, contents, queue, sites, suppressions, tenants
from mailfleet.store.campaigns import Campaign
from mailfleet.store.database import Database, Tx

log = structlog.get_logger()

MAX_PROBLEMS = 10_000
MAX_PREVIEWS = 20
MAX_WARNINGS = 20


@dataclass(frozen=True, slots=True)
class _Opened:
    """What an upload works with."""

    actor: Actor
    request: CampaignRequest
    compiled: CompiledContent
    content: contents.Content
    stream: tenants.Stream
    campaign: Campaign
    previews: int
    digest: bytes


class Campaigns:
    """Campaigns of one process."""

    def __init__(
        self,
        database: Database,
        acceptor: Acceptor,
        screen: Screen,
        *,
        retry: Retry,
        time_scale: float,
        clock: Clock,
        ids: IdGenerator,
    ) -> None:
        self._database, self._acceptor, self._screen = database, acceptor, screen
        self._retry, self._time_scale, self._clock, self._ids = retry, time_scale, clock, ids

    async def open(self, actor: Actor, request: CampaignRequest, *, previews: int = 0) -> Upload:
        """Check and compile the content, and start taking recipients. Raises ``InputError`` naming the part and line."""
        self._screen.check()
        check_send_at(request.send_at_ms, self._clock.now_ms())
        digest = request_hash(replace(request, idempotency_key=""))
        if request.idempotency_key:
            earlier = await remembered(self._database, actor, request.idempotency_key, digest)
            if earlier is not None:
                return self._upload(None, CampaignAccepted.model_validate_json(earlier))
        sender = parse_mailbox(request.sender, where="from").address
        await self._acceptor.identity_for(actor, sender.domain)
        stream = await self._database.read(lambda tx: known_stream(tx, actor, request.stream))
        content_id, campaign_id, flow_id = self._ids.take(3)
        compiled = compile_content(
            ContentSource(
                sender=request.sender,
                subject=request.subject,
                html=request.html,
                text=request.text,
                reply_to=request.reply_to,
                headers=tuple(request.headers),
                attachments=tuple(
                    Attachment(a.filename, a.content_type, a.data, a.content_id) for a in request.attachments
                ),
            ),
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
        )
        content = contents.Content(content_id, actor.tenant_id, "compiled", compiled.to_bytes(), info)
        opened = _Opened(actor, request, compiled, content, stream, campaign, min(previews, MAX_PREVIEWS), digest)
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

    async def pause(self, actor: Actor, campaign: str, reason: str) -> CampaignView:
        """Stop claiming; attempts under way end as they end. Pausing twice is the same as once."""
        return await self._move(actor, campaign, "paused", EventKind.CAMPAIGN_PAUSED, ("sending", "scheduled"), reason)

    async def resume(self, actor: Actor, campaign: str) -> CampaignView:
        """Go on."""
        return await self._move(actor, campaign, "sending", EventKind.CAMPAIGN_RESUMED, ("paused",), "")

    async def cancel(self, actor: Actor, campaign: str) -> CampaignView:
        """Cancel what is still queued. The rows follow in steps, nothing of it is claimed from the commit on."""
        states = ("sending", "scheduled", "paused")
        return await self._move(actor, campaign, "cancelled", EventKind.CAMPAIGN_CANCELLED, states, "")

    def _upload(self, opened: _Opened | None, answer: CampaignAccepted | None) -> Upload:
        return Upload(self._database, opened, answer, self._clock, self._ids, self._retry, self._time_scale)

    async def _move(
        self, actor: Actor, campaign: str, state: str, kind: EventKind, allowed: Sequence[str], reason: str
    ) -> CampaignView:
        def change(tx: Tx) -> CampaignView:
            found = _known(tx, actor, campaign)
            if found.state != state:
                if found.state not in allowed:
                    raise ConflictError(
                        f"the campaign is {found.state}",
                        where=campaign,
                        mend=f"only a campaign that is {' or '.join(allowed)} can be",
                    )
                campaigns.move(tx, found, state, kind, now_ms=self._clock.now_ms(), reason=reason)
            return self._view(tx, _known(tx, actor, campaign))

        return await self._database.write(change)

    def _view(self, tx: Tx, campaign: Campaign) -> CampaignView:
        info = contents.info(tx, campaign.content_id)
        return view_of(campaign, campaigns.tally(tx, campaign.id), info, self._clock.now_ms())


def _known(tx: Tx, actor: Actor, campaign: str) -> Campaign:
    found = campaigns.get(tx, ids.from_public("cmp", campaign))
    if found is None or found.tenant_id != actor.tenant_id or found.state == "loading":
        raise NotFoundError("there is no such campaign", where=campaign, mend="see: mailfleet campaign list")
    return found


def view_of(
    campaign: Campaign, tally: Mapping[int, int], info: contents.ContentInfo | None, now_ms: int
) -> CampaignView:
    """A campaign as people see it."""

    def count(state: DeliveryState) -> int:
        return tally.get(int(state), 0)

    state = campaign.state
    start_ms = max(campaign.created_ms, campaign.send_at_ms or 0)
    if state == "sealing" or (state == "scheduled" and start_ms <= now_ms):
        state = "sending"
    end_ms = campaign.finished_ms or now_ms
    queued, leased = count(DeliveryState.QUEUED), count(DeliveryState.LEASED)
    return CampaignView(
        campaign=ids.public("cmp", campaign.id),
        name=campaign.name,
        state=state,
        stream=campaign.stream,
        sender=info.sender if info else "",
        subject=info.subject if info else "",
        created_at=rfc3339(campaign.created_ms),
        send_at=rfc3339(campaign.send_at_ms) if campaign.send_at_ms else None,
        finished_at=rfc3339(campaign.finished_ms) if campaign.finished_ms else None,
        rows=campaign.rows,
        invalid=campaign.invalid,
        duplicates=campaign.duplicates,
        recipients=campaign.rows - campaign.invalid - campaign.duplicates,
        suppressed=count(DeliveryState.SUPPRESSED),
        queued=queued,
        deferred=tally.get(queue.DEFERRED_TALLY, 0),
        leased=leased,
        delivered=count(DeliveryState.DELIVERED),
        bounced=count(DeliveryState.BOUNCED),
        expired=count(DeliveryState.EXPIRED),
        cancelled=count(DeliveryState.CANCELLED),
        pending=queued + leased,
        seconds=max(0.0, round((end_ms - start_ms) / 1000, 3)),
        pause_reason=campaign.pause_reason,
    )


class Upload:
    """One list on its way in. Rows are staged under a campaign that is still loading, so nothing of it can leave before ``seal``."""

    def __init__(
        self,
        database: Database,
        opened: _Opened | None,
        answer: CampaignAccepted | None,
        clock: Clock,
        ids: IdGenerator,
        retry: Retry,
        time_scale: float,
    ) -> None:
        self._database, self._opened, self._answer = database, opened, answer
        self._clock, self._ids, self._retry, self._time_scale = clock, ids, retry, time_scale
        self._started = False
        self._rows = self._invalid = self._duplicates = self._suppressed = 0
        self._first = self._last = 0
        self._problems: list[Problem] = []
        self._empty: dict[str, list[int]] = {}
        self._previews: list[str] = []

    async def add(self, rows: Sequence[RecipientRow], problems: Sequence[Problem]) -> None:
        """Take the next rows, in order of line; ``problems`` are those that could not be read."""
        if self._opened is None or self._answer is not None:
            return
        self._rows += len(rows) + len(problems)
        for problem in problems:
            self._refuse(problem)
        good = [(row, Address.parse(row.address)) for row in rows if self._fits(row)]
        if not good:
            return
        if len(self._previews) < self._opened.previews:
            self._preview(good)
        await self._database.write(lambda tx: self._stage(tx, good))

    async def seal(self) -> CampaignAccepted:
        """Decide and commit. With bad rows and no ``skip_invalid`` nothing is kept and ``campaign`` is None in the answer."""
        if self._answer is not None:
            return self._answer
        opened = self._known
        refused = self._invalid and not opened.request.skip_invalid
        recipients = self._rows - self._invalid - self._duplicates
        if not opened.request.dry_run and not refused and not recipients:
            await self.abandon()
            raise InputError("the list has no valid recipient", where="recipients", mend="see the problems of its rows")
        if opened.request.dry_run or refused:
            await self.abandon()
            self._answer = self._accepted(None)
            return self._answer
        if (
            not self._started
        ):  # every recipient was a duplicate of another campaign's loading; cannot be, but loses nothing
            await self._database.write(self._start)
        sealed = opened.campaign._replace(
            rows=self._rows,
            invalid=self._invalid,
            duplicates=self._duplicates,
            first_delivery_id=self._first,
            last_delivery_id=self._last,
            state="sealing",
        )
        await self._database.write(lambda tx: self._seal(tx, sealed))
        while not await self._database.write(
            lambda tx: campaigns.go_on_sealing(tx, sealed.id, now_ms=self._clock.now_ms())
        ):
            pass
        self._answer = await self._database.write(lambda tx: self._sealed(tx, sealed.id))
        return self._answer

    async def abandon(self) -> None:
        """Forget what was staged; harmless after ``seal``."""
        if self._started and self._answer is None and self._opened is not None:
            campaign = self._opened.campaign
            self._started = False
            while not await self._database.write(lambda tx: campaigns.discard_some(tx, campaign)):
                pass

    @property
    def _known(self) -> _Opened:
        assert self._opened is not None
        return self._opened

    def _refuse(self, problem: Problem) -> None:
        self._invalid += 1
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(problem)

    def _fits(self, row: RecipientRow) -> bool:
        """Whether the templates can be filled for this row; an undefined variable is found here, not at delivery."""
        compiled = self._known.compiled
        missing = compiled.check(row.fields)
        if missing:
            names = ", ".join(missing)
            what = f"the template uses {names}, which this row does not have"
            mend = "add the column or write a default: {{ " + missing[0] + " | default('...') }}"
            self._refuse(Problem(row.line, "undefined-variable", what, mend, names, row.address))
            return False
        for name in compiled.variables:
            if row.fields.get(name) == "":
                self._empty.setdefault(name, []).append(row.line) if len(
                    self._empty.get(name, ())
                ) < MAX_PROBLEMS else None
        return True

    def _preview(self, good: Sequence[tuple[RecipientRow, Address]]) -> None:
        opened = self._known
        for row, address in good[: opened.previews - len(self._previews)]:
            filled = opened.compiled.fill(
                row.fields,
                recipient=address,
                display_name=str(row.fields.get("name") or ""),
                message_id=f"<preview-{row.line}@{opened.content.info.from_domain}>",
                date_ms=self._clock.now_ms(),
            )
            self._previews.append((filled.header + b"\r\n" + filled.body).decode("utf-8", "replace"))

    def _start(self, tx: Tx) -> None:
        opened = self._known
        now_ms = self._clock.now_ms()
        contents.put(tx, opened.content, now_ms=now_ms)
        stream = opened.stream
        campaigns.start_loading(
            tx, opened.campaign, stream_id=stream.id, priority=stream.priority, weight=stream.weight
        )

    def _stage(self, tx: Tx, good: Sequence[tuple[RecipientRow, Address]]) -> None:
        opened = self._known
        if not self._started:
            self._start(tx)
        now_ms = self._clock.now_ms()
        keys = [address.key for _, address in good]
        known = campaigns.known_addresses(tx, opened.campaign.id, keys)
        blocked = suppressions.matching(tx, opened.actor.tenant_id, opened.stream.name, keys)
        fresh, duplicates = [], 0
        for row, address in good:
            if address.key in known:
                duplicates += 1
            else:
                known.add(address.key)
                fresh.append((row, address))
        places = sites.domains(tx, {address.domain for _, address in fresh})
        made = self._ids.take(len(fresh))
        rows = [
            self._row(delivery_id, row, address, places[address.domain], blocked.get(address.key), now_ms)
            for delivery_id, (row, address) in zip(made, fresh, strict=True)
        ]
        queue.stage(tx, rows)
        # Only now, when nothing can fail any more, the counts move: a job that is run again starts from the same ones.
        self._started = True
        self._duplicates += duplicates
        self._suppressed += sum(1 for _, address in fresh if address.key in blocked)
        if made:
            self._first = self._first or made[0]
            self._last = made[-1]

    def _row(
        self,
        delivery_id: int,
        row: RecipientRow,
        address: Address,
        place: tuple[int, int],
        why: suppressions.Suppression | None,
        now_ms: int,
    ) -> queue.NewDelivery:
        opened = self._known
        due_ms = max(now_ms, opened.campaign.send_at_ms or 0)
        schedule = self._retry.bulk if opened.stream.kind == "bulk" else self._retry.transactional
        wanted = {
            name: value for name, value in row.fields.items() if name in opened.compiled.variables or name == "name"
        }
        return queue.NewDelivery(
            id=delivery_id,
            tenant_id=opened.actor.tenant_id,
            flow_id=opened.campaign.flow_id,
            campaign_id=opened.campaign.id,
            content_id=opened.content.id,
            priority=opened.stream.priority,
            domain_id=place[0],
            site_id=place[1],
            state=DeliveryState.SUPPRESSED if why else DeliveryState.QUEUED,
            due_ms=due_ms,
            expires_ms=expires_at_ms(schedule, accepted_ms=due_ms, scale=self._time_scale),
            accepted_ms=due_ms,
            address=str(address),
            address_key=address.key,
            fields=orjson.dumps(wanted).decode() if wanted else None,
            envelope=None,
            reason=f"{why.reason}: {why.evidence}" if why else None,
        )

    def _seal(self, tx: Tx, sealed: Campaign) -> None:
        """The commit that decides: from here on the campaign leaves, whatever happens to this process."""
        opened = self._known
        key = opened.request.idempotency_key
        if key:
            earlier = access.remembered(tx, opened.actor.tenant_id, key)
            if earlier is not None:
                check_same(earlier[0], opened.digest)
                raise ConflictError(
                    "the same campaign was uploaded twice at once",
                    where="Idempotency-Key",
                    mend="ask again for its answer",
                )
            answer = self._accepted(
                view_of(sealed, campaigns.tally(tx, sealed.id), opened.content.info, sealed.created_ms)
            )
            now_ms = self._clock.now_ms()
            access.remember(tx, opened.actor.tenant_id, key, opened.digest, answer.model_dump_json(), now_ms)
        campaigns.seal(tx, sealed)

    def _sealed(self, tx: Tx, campaign_id: int) -> CampaignAccepted:
        now_ms = self._clock.now_ms()
        campaigns.finish_where_done(tx, [campaign_id], now_ms=now_ms)  # everybody on the list may be suppressed
        stored = campaigns.get(tx, campaign_id)
        assert stored is not None
        return self._accepted(view_of(stored, campaigns.tally(tx, campaign_id), self._known.content.info, now_ms))

    def _accepted(self, campaign: CampaignView | None) -> CampaignAccepted:
        warnings = [
            ProblemView(
                line=lines[0],
                code="empty-variable",
                what=f"{len(lines)} rows have nothing in {name}, which the template uses",
                mend="fill the column, or write {% if " + name + " %} around it",
                field=name,
            )
            for name, lines in sorted(self._empty.items())
        ][:MAX_WARNINGS]
        warnings += [ProblemView(line=0, code="content", what=text) for text in self._known.compiled.warnings]
        self._problems.sort(key=lambda problem: problem.line)
        return CampaignAccepted(
            campaign=campaign,
            rows=self._rows,
            invalid=self._invalid,
            duplicates=self._duplicates,
            suppressed=self._suppressed,
            problems=[
                ProblemView(line=p.line, code=p.code, what=p.what, mend=p.mend, field=p.field, value=p.value)
                for p in self._problems
            ],
            problem_count=self._invalid,
            warnings=warnings,
            previews=self._previews,
        )
