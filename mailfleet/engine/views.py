"""What the engine answers: the same shapes in the API, the CLI's ``--json`` and the pages. Instants are RFC 3339 in UTC."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

DeliveryState = Literal["queued", "leased", "delivered", "bounced", "expired", "cancelled", "suppressed", "paused"]
CampaignState = Literal["loading", "scheduled", "sending", "paused", "cancelled", "finished"]


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProblemView(_View):
    """One thing wrong with one record."""

    line: int = Field(
        description="1-based physical line of the list (record number for JSON); 0 is the input as a whole."
    )
    code: str
    what: str
    mend: str = ""
    field: str = ""
    value: str = ""


class RecipientRef(_View):
    """One delivery made from a message."""

    delivery: str
    recipient: str
    state: DeliveryState
    reason: str = ""


class MessageAccepted(_View):
    """202: the commit is on disk."""

    message: str = Field(description="Public id of the content.")
    message_id: str = Field(description="The Message-ID header field, with angle brackets.")
    deliveries: list[RecipientRef]


class CampaignView(_View):
    """A campaign and its progress."""

    campaign: str
    name: str
    state: CampaignState
    stream: str
    sender: str
    subject: str
    created_at: str
    send_at: str | None
    finished_at: str | None
    rows: int = Field(description="Recipient rows read, blank lines not counted.")
    invalid: int
    duplicates: int
    recipients: int = Field(
        description="Deliveries made: rows minus invalid minus duplicates; suppressed ones are among them."
    )
    suppressed: int
    queued: int
    deferred: int = Field(description="Of queued: those that were tried and will be tried again.")
    leased: int
    delivered: int
    bounced: int
    expired: int
    cancelled: int
    pending: int = Field(description="queued + leased.")
    tags: list[str] = []
    metadata: dict[str, str] = {}
    seconds: float = Field(description="From start (or send_at) to the last outcome, or to now.")
    pause_reason: str = ""


class CampaignReportRow(_View):
    """Deliveries of a campaign that stand alike."""

    provider: str | None = Field(
        description="None: a small server that belongs to no known provider, or no mail host at all."
    )
    mail_host: bool = Field(description="False when the domain has no mail host, or was not looked up yet.")
    state: DeliveryState
    bounce_class: str | None
    count: int
    recipient: str = Field(description="One of them.")
    reason: str = Field("", description="What was said to that one: the remote's own words where there are any.")


class CampaignReport(_View):
    """A campaign by provider, state and bounce class."""

    campaign: CampaignView
    rows: list[CampaignReportRow]


class CampaignAccepted(_View):
    """The answer to a campaign upload."""

    campaign: CampaignView | None = Field(description="Absent for a dry run and when the list was refused.")
    rows: int
    invalid: int
    duplicates: int
    suppressed: int
    problems: list[ProblemView] = Field(
        description="At most 10,000, in order of line; problem_count has the true number."
    )
    problem_count: int
    warnings: list[ProblemView] = []
    previews: list[str] = Field([], description="Whole messages, as text, when previews were asked for.")


class EventView(_View):
    """One thing that happened."""

    id: int = Field(description="Cursor: ascending, unique.")
    at: str
    kind: str
    delivery: str | None = None
    campaign: str | None = None
    recipient: str | None = None
    data: dict[str, Any] = {}


class DeliveryView(_View):
    """A delivery as it stands."""

    delivery: str
    message_id: str
    recipient: str
    campaign: str | None
    stream: str
    state: DeliveryState
    attempts: int
    created_at: str
    due_at: str | None
    expires_at: str
    provider: str | None
    site: str | None
    bounce_class: str | None
    tags: list[str] = []
    metadata: dict[str, str] = {}
    reason: str = Field("", description="The last outcome in words: the remote's own where there is one.")


class Trace(_View):
    """One message's whole story."""

    delivery: DeliveryView
    events: list[EventView]


class QueueRow(_View):
    """Backlog of one site."""

    provider: str
    site: str
    queued: int
    deferred: int
    leased: int
    oldest_age_s: float
    next_due_in_s: float | None
    reasons: dict[str, int] = Field(description="Bounce class of the last deferral -> deliveries.")


class QueueView(_View):
    """The whole backlog."""

    queued: int
    deferred: int
    leased: int
    sites: list[QueueRow] = Field(description="Those with the longest backlog, at most 1,000; the totals are of all.")
    further_sites: int = Field(0, description="Sites with a backlog that are not in the list.")
    age_s: float = Field(0, description="How old the counts are: counting a long queue takes time, so viewers share.")


class DnsRecordView(_View):
    """A record to publish."""

    name: str
    type: str
    value: str
    purpose: str


class DomainView(_View):
    """A sending domain."""

    domain: str
    return_path_host: str
    selectors: list[str]
    records: list[DnsRecordView]
    created_at: str


class CredentialView(_View):
    """An SMTP login; ``password`` only in the answer that makes it."""

    credential: str
    username: str
    stream: str
    allowed_domains: list[str]
    created_at: str
    password: str | None = None


class TokenView(_View):
    """An API token; ``secret`` only in the answer that makes it."""

    token: str
    name: str
    scopes: list[str]
    created_at: str
    secret: str | None = None


class SuppressionView(_View):
    """An address that must not be mailed."""

    address: str
    stream: str | None = Field(description="None means the whole tenant.")
    reason: str
    evidence: str
    origin: str
    created_at: str


class Page(_View):
    """A page of a listing: pass ``next`` as ``after`` for the following one; None at the end."""

    next: str | None = None


class EventPage(Page):
    items: list[EventView]


class DeliveryPage(Page):
    items: list[DeliveryView]


class CampaignPage(Page):
    items: list[CampaignView]


class SuppressionPage(Page):
    items: list[SuppressionView]


class Health(_View):
    """Readiness: ``ok`` is false when new mail would be refused; ``reason`` says why."""

    ok: bool
    reason: str = ""
    sandbox: bool
    time_scale: float
    version: str


def site_name(key: str | None) -> str:
    """A site's key, which lists its MX hosts by preference, as its first host and how many more: ``mx1.example +2``."""
    hosts = [host.partition(":")[2] or host for host in (key or "").partition("#")[0].split(",")]
    return f"{hosts[0]} +{len(hosts) - 1}" if len(hosts) > 1 else hosts[0]
