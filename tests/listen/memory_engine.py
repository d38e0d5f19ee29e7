"""The engine's services in memory: enough behaviour for the API and the page to be judged by what comes back."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mailfleet.base.clock import Clock, SystemClock
from mailfleet.base.errors import BusyError, ConflictError, InputError, NotFoundError, Problem
from mailfleet.base.ids import IdGenerator
from mailfleet.base.secretbox import SecretBox
from mailfleet.config.blocklists import load_blocklists
from mailfleet.config.digest import DigestSettings
from mailfleet.config.dns_forms import load_dns_forms
from mailfleet.config.providers import load_providers
from mailfleet.config.retry import Retry
from mailfleet.config.warmup import load_plans
from mailfleet.engine.blocklists import Blocklists
from mailfleet.engine.catalog import Catalog
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.connect import Connector, Way
from mailfleet.engine.descriptors import Descriptors
from mailfleet.engine.digest import Digests
from mailfleet.engine.dmarc_reports import DmarcReports
from mailfleet.engine.dns_plans import PlanWriter
from mailfleet.engine.dns_publish import DnsPublisher
from mailfleet.engine.dns_zones import DnsZones, zone_label
from mailfleet.engine.domain_checks import DomainChecker
from mailfleet.engine.domain_options import DomainOptions
from mailfleet.engine.domains import Domains
from mailfleet.engine.explain_limits import LimitsExplainer
from mailfleet.engine.fleet import Fleet
from mailfleet.engine.forecasts import Forecaster
from mailfleet.engine.limits import LaneLimits
from mailfleet.engine.relay_check import RelayChecker
from mailfleet.engine.reputation import Reputation
from mailfleet.engine.requests import Actor, CampaignRequest, MessageRequest, RecipientRow
from mailfleet.engine.rotation import Rotation
from mailfleet.engine.server_checks import ServerChecker
from mailfleet.engine.server_dns import ServerDns
from mailfleet.engine.server_facts import Install, TlsPort
from mailfleet.engine.services import MAX_CHUNK_ROWS, Services
from mailfleet.engine.shared import LongReads
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.engine.steer import Steering
from mailfleet.engine.tls_views import TlsResults
from mailfleet.engine.views import (
    CampaignAccepted,
    CampaignPage,
    CampaignReport,
    CampaignView,
    CredentialView,
    DeliveryPage,
    DeliveryView,
    DnsRecordView,
    DomainView,
    EventPage,
    EventView,
    Health,
    MessageAccepted,
    ProblemView,
    QueueRow,
    QueueView,
    RecipientRef,
    SuppressionPage,
    SuppressionView,
    TokenView,
    Trace,
)
from mailfleet.mail.address import Address
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.dns_update import DynamicUpdate
from mailfleet.net.policy_fetch import PolicyFetcher
from mailfleet.net.resolver import Resolver
from mailfleet.net.shown_key import KeyProbe
from mailfleet.net.smtp_peer import ClientOptions
from mailfleet.policy.caa import NOBODY
from mailfleet.store.database import open_database
from mailfleet.store.dns import Target

AT = "2026-01-31T09:00:00.000Z"
ALL = frozenset({"send", "read", "manage"})


def view_of(campaign: str, **changes: Any) -> CampaignView:
    """A campaign half way."""
    values: dict[str, Any] = {
        "campaign": campaign,
        "name": "January news",
        "state": "sending",
        "stream": "bulk",
        "sender": "news@shop.example",
        "subject": "News",
        "created_at": AT,
        "send_at": None,
        "finished_at": None,
        "rows": 10_000,
        "invalid": 3,
        "duplicates": 2,
        "recipients": 9_995,
        "suppressed": 5,
        "queued": 3_000,
        "deferred": 400,
        "leased": 90,
        "delivered": 6_600,
        "bounced": 280,
        "expired": 20,
        "cancelled": 0,
        "pending": 3_090,
        "seconds": 12.5,
    }
    return CampaignView(**(values | changes))


@dataclass
class Upload:
    """Keeps chunk sizes, not rows: a million of them pass through."""

    engine: MemoryEngine
    request: CampaignRequest
    previews: int
    chunks: list[int] = field(default_factory=list)
    rows: list[RecipientRow] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    row_count: int = 0
    last_line: int = 0
    ended: str = ""

    async def add(self, rows: Sequence[RecipientRow], problems: Sequence[Problem]) -> None:
        assert not self.ended
        assert len(rows) <= MAX_CHUNK_ROWS
        lines = [row.line for row in rows]
        assert lines == sorted(lines)
        assert not lines or lines[0] > self.last_line
        self.last_line = lines[-1] if lines else self.last_line
        self.chunks.append(len(rows))
        self.row_count += len(rows)
        if len(self.rows) < 100:
            self.rows += rows
        self.problems += problems

    async def seal(self) -> CampaignAccepted:
        self.ended = "sealed"
        refused = (bool(self.problems) and not self.request.skip_invalid) or not self.row_count
        campaign = None
        if not refused and not self.request.dry_run:
            campaign = view_of(f"cmp_{len(self.engine.campaigns):013}", name=self.request.name, rows=self.row_count)
            self.engine.campaigns[campaign.campaign] = campaign
        return CampaignAccepted(
            campaign=campaign,
            rows=self.row_count + len(self.problems),
            invalid=len(self.problems),
            duplicates=0,
            suppressed=0,
            problems=[
                ProblemView(
                    line=one.line, code=one.code, what=one.what, mend=one.mend, field=one.field, value=one.value
                )
                for one in self.problems
            ],
            problem_count=len(self.problems),
            previews=["From: news@shop.example\r\n"] * self.previews,
        )

    async def abandon(self) -> None:
        if not self.ended:
            self.ended = "abandoned"


async def _no_addresses(host: str) -> list[str]:
    return []


async def _no_mail_hosts(domain: str) -> tuple[list[str], str]:
    return [], "nobody is asked"


class MemoryEngine:
    """All five services in one; ``services()`` is what entrances take. ``name_server``: who is asked, and written to."""

    def __init__(self, folder: Path, name_server: tuple[str, int] = ("127.0.0.1", 9)) -> None:
        self.database = open_database(folder / "mailfleet.db")
        clock, ids = SystemClock(), IdGenerator(9)
        self.ids = ids
        self.fleet = Fleet(self.database, SecretBox(bytes(32)), clock)
        self.steer = Steering(self.database, load_plans(), frozenset({"gmail"}), clock=clock, ids=ids, time_scale=1)
        self.forecasts = Forecaster(
            LongReads(self.database), load_plans(), lambda row, provider: LaneLimits(3, 100, 5), clock, 1
        )
        locate = Resolver(["127.0.0.1:9"], 0.1, clock).mail_hosts
        self.limits = LimitsExplainer(self.database, locate, load_providers(), [("connections", 9, "x")], clock, 1)
        connector = Connector(
            Resolver(["127.0.0.1:9"], 0.1, clock), ipv6=False, rng=random.Random(1), descriptors=Descriptors(clock)
        )
        options = ClientOptions("us.test", tls="none", loopback_only=True)
        self.relays = RelayChecker(
            self.database, connector, lambda row: Way(row.id, row.name, options, row.port, relay=True)
        )
        self._names(clock, ids, name_server)
        self.actors = {
            "all": Actor(1, name="all", scopes=ALL),  # type: ignore[arg-type]  # ids are new types over int
            "reader": Actor(1, name="reader", scopes=frozenset({"read"})),  # type: ignore[arg-type]
            "sender": Actor(1, name="sender", scopes=frozenset({"send"})),  # type: ignore[arg-type]
        }
        self.sent: list[MessageRequest] = []
        self.uploads: list[Upload] = []
        self.campaigns: dict[str, CampaignView] = {}
        self.event_log: list[EventView] = []
        self.delivery_log: list[DeliveryView] = []
        self.domain_log: dict[str, DomainView] = {}
        self.credential_log: dict[str, CredentialView] = {}
        self.token_log: dict[str, TokenView] = {}
        self.suppressed: dict[tuple[str, str | None], SuppressionView] = {}
        self.healthy = Health(ok=True, sandbox=True, time_scale=1440, version="0.1.0")
        self.counted = asyncio.Event()  # cleared: counting the queue takes its time
        self.counted.set()
        self.backlog = QueueView(queued=0, deferred=0, leased=0, sites=[])
        self.busy = False
        self.broken = False
        self.steered: list[tuple[str, str]] = []
        self.names: dict[str, str] = {}  # of addresses

    async def _names_of(self, addresses: Collection[str], within_s: float) -> dict[str, str]:
        return {one: self.names[one] for one in addresses if one in self.names}

    def _names(self, clock: Clock, ids: IdGenerator, name_server: tuple[str, int]) -> None:
        """What has to do with the DNS. At port 9 nobody answers."""
        host, port = name_server
        name, scale, wait_s = "mail.us.test", 1.0, 0.1 if port == 9 else 5
        querier = DnsQuerier([f"{host}:{port}"], wait_s, clock)
        authoritative = Authoritative(querier, timeout_s=wait_s, port=port, loopback_only=True)
        box = SecretBox(bytes(32))

        def update_of(target: Target) -> DynamicUpdate:
            secret = box.open(target.sealed_secret, zone_label(target.zone)).decode() if target.sealed_secret else ""
            return DynamicUpdate(
                target.zone, name_server, key_name=target.key_name, secret=secret, timeout_s=wait_s, loopback_only=True
            )

        publisher = DnsPublisher(self.database, authoritative, update_of, clock, ttl_s=60)
        fetcher = PolicyFetcher(
            Resolver(["127.0.0.1:9"], 0.1, clock), ssl.create_default_context(), ipv6=False, loopback_only=True
        )
        defaults = SourceDefaults(name, private=True)
        checker = DomainChecker(authoritative, None, fetcher, defaults=defaults)
        writer = PlanWriter(authoritative, load_dns_forms(), 60)

        self.dmarc = DmarcReports(
            self.database,
            LongReads(self.database),
            _no_addresses,
            self._names_of,
            defaults=defaults,
            clock=clock,
            ids=ids,
        )
        self.domains = Domains(
            self.database, checker, publisher, writer, self.dmarc,
            defaults=defaults, clock=clock, ids=ids, time_scale=scale,
        )  # fmt: skip

        self.dns_zones = DnsZones(self.database, box, update_of, clock, ids)

        self.domain_options = DomainOptions(self.database, _no_mail_hosts, name)
        self.certificates = Certificates(
            self.database, box, None, hostname=name, next_key_ms=1000, clock=clock, time_scale=scale
        )
        self.rotation = Rotation(
            self.database, box, Catalog(self.database, box, clock), self.domains, publisher,
            hostname=name, clock=clock, ids=ids, time_scale=scale,
        )  # fmt: skip
        install = Install(defaults, NOBODY, (TlsPort(25, "127.0.0.1", 9),))
        server_checker = ServerChecker(authoritative, None, checker, KeyProbe(name, 0.1, loopback_only=True), install)
        self.server_dns = ServerDns(
            self.database, server_checker, publisher, writer, self.certificates, install,
            next_key_ms=1000, clock=clock, ids=ids, time_scale=scale,
        )  # fmt: skip
        self.digests = Digests(
            self.database, self.certificates, DigestSettings(), Retry(),
            hostname="mail.us.test", clock=clock, ids=ids, time_scale=1,
        )  # fmt: skip
        querier = DnsQuerier(["127.0.0.1:9"], 0.1, clock)
        self.blocklists = Blocklists(
            self.database, querier, load_blocklists(), {}, clock=clock, ids=ids, rng=random.Random(1), time_scale=1
        )

    def services(self) -> Services:
        manage = _Manage(self)
        return Services(
            messages=self,
            campaigns=_Campaigns(self),
            observe=_Observe(self),
            manage=manage,
            domains=self.domains,
            dmarc=self.dmarc,
            domain_options=self.domain_options,
            dns_zones=self.dns_zones,
            certificates=self.certificates,
            server_dns=self.server_dns,
            rotation=self.rotation,
            digests=self.digests,
            fleet=self.fleet,
            relays=self.relays,
            steer=self.steer,
            forecasts=self.forecasts,
            limits=self.limits,
            reputation=Reputation(self.database, SystemClock(), IdGenerator(8), 1),
            blocklists=self.blocklists,
            tls_results=TlsResults(LongReads(self.database), SystemClock(), 1),
        )

    def happen(self, kind: str, recipient: str = "ann@gmail.example", **data: Any) -> EventView:
        event = EventView(
            id=len(self.event_log) + 1, at=AT, kind=kind, recipient=recipient, delivery="dlv_1", data=data
        )
        self.event_log.append(event)
        return event

    async def send(self, actor: Actor, request: MessageRequest) -> MessageAccepted:
        if self.busy:
            raise BusyError("the disk is nearly full", retry_after_s=7)
        if self.broken:
            raise RuntimeError("secret inside")
        for address in (*request.to, *request.cc, *request.bcc):
            Address.parse(address.rpartition("<")[2].removesuffix(">"))
        self.sent.append(request)
        deliveries = [RecipientRef(delivery="dlv_1", recipient=to, state="queued") for to in request.to]
        return MessageAccepted(message="cnt_1", message_id="<1@shop.example>", deliveries=deliveries)


@dataclass
class _Campaigns:
    engine: MemoryEngine

    async def open(self, actor: Actor, request: CampaignRequest, *, previews: int = 0) -> Upload:
        if "{{" in request.subject and "}}" not in request.subject:
            raise InputError("the template is wrong", where="subject", mend="close the variable with }}")
        self.engine.uploads.append(Upload(self.engine, request, previews))
        return self.engine.uploads[-1]

    async def get(self, actor: Actor, campaign: str) -> CampaignView:
        if campaign not in self.engine.campaigns:
            raise NotFoundError("there is no such campaign", where="campaign", mend="list them")
        return self.engine.campaigns[campaign]

    async def list(self, actor: Actor, after: str | None, limit: int) -> CampaignPage:
        found = [
            view for name, view in sorted(self.engine.campaigns.items(), reverse=True) if after is None or name < after
        ]
        return CampaignPage(items=found[:limit], next=found[limit - 1].campaign if len(found) > limit else None)

    async def _move(self, actor: Actor, campaign: str, state: str, reason: str = "") -> CampaignView:
        view = await self.get(actor, campaign)
        if view.state == "cancelled":
            raise ConflictError("the campaign is cancelled", mend="send it again")
        self.engine.steered.append((campaign, state))
        moved = view.model_copy(update={"state": state, "pause_reason": reason})
        self.engine.campaigns[campaign] = moved
        return moved

    async def report(self, actor: Actor, campaign: str) -> CampaignReport:
        return CampaignReport(campaign=await self.get(actor, campaign), rows=[])

    async def pause(self, actor: Actor, campaign: str, reason: str) -> CampaignView:
        return await self._move(actor, campaign, "paused", reason)

    async def resume(self, actor: Actor, campaign: str) -> CampaignView:
        return await self._move(actor, campaign, "sending")

    async def cancel(self, actor: Actor, campaign: str) -> CampaignView:
        return await self._move(actor, campaign, "cancelled")


@dataclass
class _Observe:
    engine: MemoryEngine

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
        found = [event for event in self.engine.event_log if not kinds or event.kind in kinds]
        if after < 0:
            return EventPage(items=found[-limit:])
        found = [event for event in found if event.id > after]
        return EventPage(items=found[:limit], next=str(found[limit - 1].id) if len(found) > limit else None)

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
        return DeliveryPage(
            items=[one for one in self.engine.delivery_log if state is None or one.state == state][:limit]
        )

    async def trace(self, actor: Actor, what: str) -> list[Trace]:
        return [
            Trace(delivery=one, events=self.engine.event_log)
            for one in self.engine.delivery_log
            if what in (one.recipient, one.delivery)
        ]

    async def queue(self, actor: Actor) -> QueueView:
        await self.engine.counted.wait()
        return self.engine.backlog

    async def health(self) -> Health:
        return self.engine.healthy


@dataclass
class _Manage:
    engine: MemoryEngine

    async def add_domain(self, actor: Actor, domain: str, *, ed25519: bool = False) -> DomainView:
        if "." not in domain:
            raise InputError("the domain has no dot", where="domain", mend="write it whole")
        if domain in self.engine.domain_log:
            raise ConflictError(f"{domain} is there already", where="domain", mend="see it: GET /v1/domains")
        record = DnsRecordView(name=f"mf1._domainkey.{domain}", type="TXT", value="v=DKIM1; p=AAAA", purpose="DKIM")
        view = DomainView(domain=domain, return_path_host="", selectors=["mf1"], records=[record], created_at=AT)
        self.engine.domain_log[domain] = view
        return view

    async def domains(self, actor: Actor) -> list[DomainView]:
        return list(self.engine.domain_log.values())

    async def domain(self, actor: Actor, name: str) -> DomainView:
        view: DomainView = _found(self.engine.domain_log, name)
        return view

    async def remove_domain(self, actor: Actor, name: str) -> None:
        del self.engine.domain_log[_found(self.engine.domain_log, name).domain]

    async def add_credential(
        self, actor: Actor, *, username: str, stream: str, allowed_domains: Sequence[str]
    ) -> CredentialView:
        name = f"crd_{len(self.engine.credential_log)}"
        made = CredentialView(
            credential=name, username=username, stream=stream, allowed_domains=list(allowed_domains), created_at=AT
        )
        self.engine.credential_log[name] = made
        return made.model_copy(update={"password": "once"})

    async def credentials(self, actor: Actor) -> list[CredentialView]:
        return list(self.engine.credential_log.values())

    async def remove_credential(self, actor: Actor, credential: str) -> None:
        del self.engine.credential_log[_found(self.engine.credential_log, credential).credential]

    async def add_token(self, actor: Actor, *, name: str, scopes: Sequence[str]) -> TokenView:
        made = TokenView(token=f"tok_{len(self.engine.token_log)}", name=name, scopes=list(scopes), created_at=AT)
        self.engine.token_log[made.token] = made
        self.engine.actors[f"made-{made.token}"] = replace(self.engine.actors["all"], scopes=frozenset(scopes))
        return made.model_copy(update={"secret": f"made-{made.token}"})

    async def tokens(self, actor: Actor) -> list[TokenView]:
        return list(self.engine.token_log.values())

    async def remove_token(self, actor: Actor, token: str) -> None:
        del self.engine.token_log[_found(self.engine.token_log, token).token]
        del self.engine.actors[f"made-{token}"]

    async def suppressions(self, actor: Actor, after: str | None, limit: int) -> SuppressionPage:
        return SuppressionPage(items=list(self.engine.suppressed.values())[:limit])

    async def suppress(self, actor: Actor, address: str, stream: str | None, reason: str) -> SuppressionView:
        view = SuppressionView(
            address=str(Address.parse(address)), stream=stream, reason=reason, evidence="", origin="api", created_at=AT
        )
        self.engine.suppressed[address, stream] = view
        return view

    async def unsuppress(self, actor: Actor, address: str, stream: str | None) -> None:
        if self.engine.suppressed.pop((address, stream), None) is None:
            raise NotFoundError("it is not suppressed", where="address", mend="list them: GET /v1/suppressions")

    async def authenticate(self, bearer: str) -> Actor | None:
        return self.engine.actors.get(bearer)


def _found(records: dict[str, Any], name: str) -> Any:
    if name not in records:
        raise NotFoundError("there is no such record", mend="list them")
    return records[name]


def delivery(state: Any = "bounced", reason: str = "550 5.1.1 No such user", **changes: Any) -> DeliveryView:
    """A delivery as the API shows it."""
    values: dict[str, Any] = {
        "delivery": "dlv_1",
        "message_id": "<1@shop.example>",
        "recipient": "ann@gmail.example",
        "campaign": None,
        "stream": "bulk",
        "state": state,
        "attempts": 1,
        "created_at": AT,
        "due_at": None,
        "expires_at": AT,
        "provider": "gmail",
        "site": "mx.gmail.example",
        "bounce_class": "unknown-user",
        "reason": reason,
    }
    return DeliveryView(**(values | changes))


def queue_row(provider: str, site: str, **counts: Any) -> QueueRow:
    """A row of the backlog."""
    values: dict[str, Any] = {
        "queued": 0, "deferred": 0, "leased": 0, "oldest_age_s": 0.0, "next_due_in_s": None, "reasons": {}
    }  # fmt: skip
    return QueueRow(provider=provider, site=site, **(values | counts))
