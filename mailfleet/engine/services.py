"""What the entrances (HTTP API, pages) need of the engine, as protocols. No behaviour is here.

Every method raises the typed errors of ``base.errors``: ``InputError`` for input that cannot be accepted, ``NotFoundError``
for a record that is not the actor's tenant's, ``ConflictError`` for a move that the record's state does not allow,
``BusyError`` when a bound is reached. Scopes are checked by the entrance, tenancy by the service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mailfleet.base.errors import Problem
from mailfleet.engine.blocklists import Blocklists
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.digest import Digests
from mailfleet.engine.dmarc_reports import DmarcReports
from mailfleet.engine.dns_zones import DnsZones
from mailfleet.engine.domain_options import DomainOptions
from mailfleet.engine.domains import Domains
from mailfleet.engine.explain_limits import LimitsExplainer
from mailfleet.engine.fleet import Fleet
from mailfleet.engine.forecasts import Forecaster
from mailfleet.engine.relay_check import RelayChecker
from mailfleet.engine.reputation import Reputation
from mailfleet.engine.requests import Actor, CampaignRequest, MessageRequest, RecipientRow
from mailfleet.engine.rotation import Rotation
from mailfleet.engine.server_dns import ServerDns
from mailfleet.engine.steer import Steering
from mailfleet.engine.tls_views import TlsResults
from mailfleet.engine.views import (
    CampaignAccepted,
    CampaignPage,
    CampaignReport,
    CampaignView,
    CredentialView,
    DeliveryPage,
    DomainView,
    EventPage,
    Health,
    MessageAccepted,
    QueueView,
    SuppressionPage,
    SuppressionView,
    TokenView,
    Trace,
)

MAX_CHUNK_ROWS = 2000


class MessageService(Protocol):
    """Single messages."""

    async def send(self, actor: Actor, request: MessageRequest) -> MessageAccepted:
        """Accept one message; returns after the commit. The same idempotency key answers the same again."""
        ...


class CampaignUpload(Protocol):
    """One upload in progress; rows are staged durably and leave only after ``seal``."""

    async def add(self, rows: Sequence[RecipientRow], problems: Sequence[Problem]) -> None:
        """Take the next chunk, at most ``MAX_CHUNK_ROWS`` rows, in order of line. ``problems`` are rows that could not be read."""
        ...

    async def seal(self) -> CampaignAccepted:
        """Decide all or nothing (or what ``skip_invalid`` says) and commit. Bad rows raise nothing: ``campaign`` is None then."""
        ...

    async def abandon(self) -> None:
        """Forget what was staged: the client went away or the list could not be read. Harmless after ``seal``."""
        ...


class CampaignService(Protocol):
    """Campaigns: upload, progress, steering."""

    async def open(self, actor: Actor, request: CampaignRequest, *, previews: int = 0) -> CampaignUpload:
        """Compile the content and start an upload. Raises ``InputError`` when a template is wrong.

        ``previews`` asks ``seal`` for that many whole messages, filled for the first valid rows.
        """
        ...

    async def get(self, actor: Actor, campaign: str) -> CampaignView:
        """One campaign by its public id."""
        ...

    async def list(self, actor: Actor, after: str | None, limit: int) -> CampaignPage:
        """Newest first."""
        ...

    async def report(self, actor: Actor, campaign: str) -> CampaignReport:
        """A campaign by provider, state and bounce class."""
        ...

    async def pause(self, actor: Actor, campaign: str, reason: str) -> CampaignView:
        """Stop claiming its deliveries; those being attempted end as they end."""
        ...

    async def resume(self, actor: Actor, campaign: str) -> CampaignView:
        """Undo ``pause``."""
        ...

    async def cancel(self, actor: Actor, campaign: str) -> CampaignView:
        """Cancel what is still queued, for good."""
        ...


class ObserveService(Protocol):
    """What happened and what is waiting."""

    async def events(
        self,
        actor: Actor,
        *,
        after: int,
        limit: int,
        kinds: frozenset[str],
        campaign: str | None,
        delivery: str | None,
    ) -> EventPage:
        """Events with an id above ``after``, ascending. Empty ``kinds`` means every kind.

        A negative ``after`` means the newest ``limit`` events that match, still ascending. ``next`` is the last id as text,
        None when there may be no more.
        """
        ...

    async def deliveries(
        self,
        actor: Actor,
        *,
        campaign: str | None,
        state: str | None,
        recipient: str | None,
        after: str | None,
        limit: int,
    ) -> DeliveryPage:
        """Deliveries that match every condition given."""
        ...

    async def trace(self, actor: Actor, what: str) -> list[Trace]:
        """Stories of an address, delivery id, Message-ID or queue id, newest first; empty when nothing is known of it."""
        ...

    async def queue(self, actor: Actor) -> QueueView:
        """The backlog by site."""
        ...

    async def health(self) -> Health:
        """Whether new mail would be taken now."""
        ...


class ManageService(Protocol):
    """Sending domains, SMTP credentials, API tokens, suppressions."""

    async def add_domain(self, actor: Actor, domain: str, *, ed25519: bool = False) -> DomainView:
        """Make keys and name the records to publish. Raises ``ConflictError`` when it is there already."""
        ...

    async def domains(self, actor: Actor) -> list[DomainView]:
        """Every sending domain of the tenant."""
        ...

    async def domain(self, actor: Actor, name: str) -> DomainView:
        """One sending domain."""
        ...

    async def remove_domain(self, actor: Actor, name: str) -> None:
        """Forget a sending domain and its keys."""
        ...

    async def add_credential(
        self, actor: Actor, *, username: str, stream: str, allowed_domains: Sequence[str]
    ) -> CredentialView:
        """Make an SMTP login; only this answer carries the password."""
        ...

    async def credentials(self, actor: Actor) -> list[CredentialView]:
        """Every SMTP login of the tenant."""
        ...

    async def remove_credential(self, actor: Actor, credential: str) -> None:
        """Revoke an SMTP login by its public id."""
        ...

    async def add_token(self, actor: Actor, *, name: str, scopes: Sequence[str]) -> TokenView:
        """Make an API token; only this answer carries the secret."""
        ...

    async def tokens(self, actor: Actor) -> list[TokenView]:
        """Every API token of the tenant."""
        ...

    async def remove_token(self, actor: Actor, token: str) -> None:
        """Revoke an API token by its public id."""
        ...

    async def suppressions(self, actor: Actor, after: str | None, limit: int) -> SuppressionPage:
        """Suppressed addresses in order of making."""
        ...

    async def suppress(self, actor: Actor, address: str, stream: str | None, reason: str) -> SuppressionView:
        """Mail this address no more; ``stream`` None means the whole tenant."""
        ...

    async def unsuppress(self, actor: Actor, address: str, stream: str | None) -> None:
        """Lift a suppression. Raises ``NotFoundError`` when there is none of that scope."""
        ...

    async def authenticate(self, bearer: str) -> Actor | None:
        """The actor of an API token's secret, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Services:
    """The engine as entrances see it."""

    messages: MessageService
    campaigns: CampaignService
    observe: ObserveService
    manage: ManageService
    domains: Domains
    dmarc: DmarcReports
    domain_options: DomainOptions
    dns_zones: DnsZones
    rotation: Rotation
    digests: Digests
    fleet: Fleet
    relays: RelayChecker
    steer: Steering
    forecasts: Forecaster
    limits: LimitsExplainer
    reputation: Reputation
    blocklists: Blocklists
    certificates: Certificates
    server_dns: ServerDns
    tls_results: TlsResults
