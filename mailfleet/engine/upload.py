"""Taking a campaign's recipients: staged row by row, decided at the end, all or nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mailfleet.base import ids
from mailfleet.base.clock import Clock, parse_rfc3339, rfc3339
from mailfleet.base.errors import ConflictError, InputError, Problem
from mailfleet.base.gauges import Counter
from mailfleet.base.ids import IdGenerator
from mailfleet.config.retry import Retry
from mailfleet.engine.accept import check_same
from mailfleet.engine.intake import Consignment, stored_fields
from mailfleet.engine.requests import Actor, CampaignRequest, RecipientRow
from mailfleet.engine.views import CampaignAccepted, CampaignView, ProblemView
from mailfleet.mail.address import Address
from mailfleet.mail.content import CompiledContent
from mailfleet.policy.lifecycle import DeliveryState
from mailfleet.policy.warmup import DAY_MS
from mailfleet.store import access, campaigns, contents, queue, sites, suppressions, tenants
from mailfleet.store.campaigns import Campaign
from mailfleet.store.database import Database, Tx
from mailfleet.store.seen import SeenAddresses

MAX_PROBLEMS = 10_000
MAX_WARNINGS = 20
ENGAGED = "engaged_at"  # the column that says when somebody last opened or clicked
LAST_RANK = 999
BLOCK_ROWS = 16_000  # that share a block of the index of addresses
_BARE = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)\s*-?\}\}")
_TEST = re.compile(r"\{%-?\s*(?:el)?if\b(.*?)-?%\}", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Opened:
    """What an upload works with: who uploads what, compiled, and the campaign that it will be."""

    actor: Actor
    request: CampaignRequest
    compiled: CompiledContent
    content: contents.Content
    stream: tenants.Stream
    campaign: Campaign
    previews: int
    digest: bytes


class _Ready(NamedTuple):
    """A row that can be staged; ``fields`` as stored."""

    row: RecipientRow
    address: Address
    fields: str | None
    rank: int


def bare_variables(request: CampaignRequest) -> frozenset[str]:
    """Variables that stand in a copy as they are: without a filter, and without an ``if`` that could look after emptiness."""
    texts = [request.subject, request.html or "", request.text or ""]
    bare = {name for text in texts for name in _BARE.findall(text)}
    guarded = {name for text in texts for test in _TEST.findall(text) for name in _NAME.findall(test)}
    return frozenset(bare - guarded)


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
        tags=list(info.tags) if info else [],
        metadata=info.metadata if info else {},
        pause_reason=campaign.pause_reason,
    )


class _Staged(NamedTuple):
    """What one write has staged: deliveries, and how many of them suppressed."""

    ids: list[int]
    suppressed: int


class Upload:
    """One list on its way in. Rows are staged under a campaign that is still loading, so nothing of it can leave before ``seal``."""

    def __init__(
        self,
        database: Database,
        opened: Opened | None,
        answer: CampaignAccepted | None,
        clock: Clock,
        ids: IdGenerator,
        retry: Retry,
        time_scale: float,
        taken: Counter,
    ) -> None:
        """``taken`` counts recipients that were accepted."""
        self._database, self._opened, self._answer, self._taken = database, opened, answer, taken
        self._clock, self._ids, self._retry, self._time_scale = clock, ids, retry, time_scale
        self._seen = SeenAddresses()
        self._begun = False  # something may be staged
        self._started = False  # something is
        self._block = self._block_rows = 0
        self._rows = self._invalid = self._duplicates = self._suppressed = 0
        self._first = self._last = 0
        self._problems: list[Problem] = []
        self._empty: dict[str, list[int]] = {}
        self._previews: list[str] = []
        self._bare = bare_variables(opened.request) if opened else frozenset()

    async def add(self, rows: Sequence[RecipientRow], problems: Sequence[Problem]) -> None:
        """Take the next rows, in order of line; ``problems`` are those that could not be read."""
        if self._opened is None or self._answer is not None:
            return
        self._rows += len(rows) + len(problems)
        for problem in problems:
            self._refuse(problem)
        good = [ready for row in rows if (ready := self._ready(row)) is not None]
        if not good:
            return
        new = self._seen.add(one.address.key for one in good)
        fresh = [one for one, is_new in zip(good, new, strict=True) if is_new]
        self._duplicates += len(good) - len(fresh)
        if not fresh:
            return
        self._begun = True
        staged = await self._database.write(lambda tx: self._stage(tx, fresh))
        self._started = True
        self._suppressed += staged.suppressed
        self._first = self._first or staged.ids[0]
        self._last = staged.ids[-1]
        self._block_rows += len(fresh)
        if not self._block or self._block_rows > BLOCK_ROWS:
            self._block, self._block_rows = staged.ids[-1], 0

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
        self._taken.n += recipients
        while not await self._database.write(
            lambda tx: campaigns.go_on_sealing(tx, sealed.id, now_ms=self._clock.now_ms())
        ):
            pass
        self._answer = await self._database.write(lambda tx: self._sealed(tx, sealed.id))
        self._seen.close()
        return self._answer

    async def abandon(self) -> None:
        """Forget what was staged; harmless after ``seal``."""
        self._seen.close()
        if self._begun and self._answer is None and self._opened is not None:
            campaign = self._opened.campaign
            self._begun = self._started = False
            while not await self._database.write(lambda tx: campaigns.discard_some(tx, campaign)):
                pass

    @property
    def _known(self) -> Opened:
        assert self._opened is not None
        return self._opened

    def _refuse(self, problem: Problem) -> None:
        self._invalid += 1
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(problem)

    def _ready(self, row: RecipientRow) -> _Ready | None:
        """The row as it can be staged, or None when it was refused: a template that it cannot fill is found here, not at delivery."""
        compiled = self._known.compiled
        try:
            missing = compiled.check(row.fields)
            if missing:
                names = ", ".join(missing)
                what = f"the template uses {names}, which this row does not have"
                mend = "add the column or write a default: {{ " + missing[0] + " | default('...') }}"
                self._refuse(Problem(row.line, "undefined-variable", what, mend, names, row.address))
                return None
            ready = _Ready(row, Address.parse(row.address), self._fields(row), self._rank(row))
            if len(self._previews) < self._known.previews:
                self._preview(ready)
        except InputError as error:
            what = f"{error.where}: {error.what}" if error.where else error.what
            self._refuse(Problem(row.line, "template", what, error.mend, value=row.address))
            return None
        for name in self._bare:
            if row.fields.get(name) == "":
                lines = self._empty.setdefault(name, [])
                if len(lines) < MAX_PROBLEMS:
                    lines.append(row.line)
        return ready

    def _preview(self, ready: _Ready) -> None:
        opened, row = self._known, ready.row
        filled = opened.compiled.fill(
            row.fields,
            recipient=ready.address,
            display_name=str(row.fields.get("name") or ""),
            message_id=f"<preview-{row.line}@{opened.content.info.from_domain}>",
            date_ms=self._clock.now_ms(),
        )
        self._previews.append(bytes(filled).decode("utf-8", "replace"))

    def _start(self, tx: Tx) -> None:
        opened = self._known
        now_ms = self._clock.now_ms()
        contents.put(tx, opened.content, now_ms=now_ms)
        stream = opened.stream
        campaigns.start_loading(
            tx, opened.campaign, stream_id=stream.id, priority=stream.priority, weight=stream.weight
        )

    def _stage(self, tx: Tx, fresh: Sequence[_Ready]) -> _Staged:
        opened = self._known
        if not self._started:
            self._start(tx)
        keys = [one.address.key for one in fresh]
        blocked = suppressions.matching(tx, opened.actor.tenant_id, opened.stream.name, keys)
        places = sites.domains(tx, {one.address.domain for one in fresh})
        made = self._ids.take(len(fresh))
        goods = Consignment.of(
            opened.stream,
            self._retry,
            flow_id=opened.campaign.flow_id,
            content_id=opened.content.id,
            now_ms=self._clock.now_ms(),
            time_scale=self._time_scale,
            campaign_id=opened.campaign.id,
            send_at_ms=opened.campaign.send_at_ms,
        )
        rows = [
            goods.delivery(
                delivery_id,
                one.address,
                places[one.address.domain],
                fields=one.fields,
                why=blocked.get(one.address.key),
                rank=one.rank,
            )
            for delivery_id, one in zip(made, fresh, strict=True)
        ]
        queue.stage(tx, rows, block=self._block or made[0])
        return _Staged(made, len(blocked))

    def _rank(self, row: RecipientRow) -> int:
        """0 to ``LAST_RANK``: who has opened or clicked lately goes first, which is what a warm-up needs. Raises ``InputError``."""
        if ENGAGED not in row.fields:
            return 0
        text = str(row.fields[ENGAGED] or "").strip()
        if not text:
            return LAST_RANK
        try:
            at_ms = parse_rfc3339(text if "T" in text or " " in text else f"{text}T00:00:00Z")
        except (ValueError, OverflowError):
            mend = "write a day as 2026-01-31, or a time with its offset"
            raise InputError(f"{text!r} is no day or time", where=ENGAGED, mend=mend) from None
        return min(LAST_RANK - 1, max(0, self._clock.now_ms() - at_ms) // DAY_MS)

    def _fields(self, row: RecipientRow) -> str | None:
        """What the template can use of a row, as it is stored."""
        variables = self._known.compiled.variables
        wanted = {name: value for name, value in row.fields.items() if name in variables or name == "name"}
        return stored_fields(wanted) if wanted else None

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
