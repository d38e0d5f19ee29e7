"""Building the objects of one process from the settings: the only place where layers meet their edges."""

from __future__ import annotations

import os
import random
import shutil
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mailfleet.app import metering
from mailfleet.app.certificates import certificates_of
from mailfleet.app.dns import (
    digests_of,
    dmarc_reports_of,
    domains_of,
    options_of,
    server_dns_of,
    source_defaults,
    zones_of,
)
from mailfleet.app.egress import way_of
from mailfleet.app.folder import DataFolder
from mailfleet.app.limits import limits_of
from mailfleet.base.clock import Clock, SystemClock
from mailfleet.base.gauges import Gauges
from mailfleet.base.ids import IdGenerator
from mailfleet.base.secretbox import SecretBox
from mailfleet.config.blocklists import load_blocklists
from mailfleet.config.providers import load_providers
from mailfleet.config.settings import Settings
from mailfleet.config.warmup import load_plans
from mailfleet.engine.accept import Acceptor, Screen
from mailfleet.engine.backlog import Backlog
from mailfleet.engine.blocklists import Blocklists
from mailfleet.engine.campaigns import Campaigns
from mailfleet.engine.catalog import Catalog
from mailfleet.engine.connect import Connector
from mailfleet.engine.descriptors import Descriptors
from mailfleet.engine.explain_limits import LimitsExplainer
from mailfleet.engine.fleet import Fleet
from mailfleet.engine.forecasts import Forecaster
from mailfleet.engine.manage import Manager, Publish
from mailfleet.engine.observe import Observer
from mailfleet.engine.relay_check import RelayChecker
from mailfleet.engine.reputation import Reputation
from mailfleet.engine.services import Services
from mailfleet.engine.shared import LongReads
from mailfleet.engine.steer import Steering
from mailfleet.engine.submission import SubmissionDesk
from mailfleet.engine.tls_views import TlsResults
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.resolver import Resolver
from mailfleet.net.server_turns import ServerTurns
from mailfleet.policy.providers import ProviderTable
from mailfleet.sandbox.published import publish
from mailfleet.store.database import Database, open_database
from mailfleet.store.patience import PatientReads

SANDBOX_HOSTNAME = "mail.shop.example"
WORKER = {"bootstrap": 1, "front": 2, "jobs": 3, "sandbox": 4, "deliver": 16}  # id generators of one node


@dataclass(frozen=True, slots=True)
class Base:
    """What every role has."""

    settings: Settings
    folder: DataFolder
    clock: Clock
    database: Database
    box: SecretBox
    ids: IdGenerator
    catalog: Catalog
    hostname: str
    role: str
    gauges: Gauges
    turns: ServerTurns

    @property
    def time_scale(self) -> float:
        """How much faster retry time runs."""
        return self.settings.time_scale


def base(settings: Settings, folder: DataFolder, role: str, slot: int = 0) -> Base:
    """Open the database and the keys for one process."""
    clock = SystemClock()
    door = open_database(folder.place(settings.database.url), node=node_of(folder))
    database: Database = PatientReads(door) if role == "deliver" else door
    box = SecretBox.open_file(folder.master_key)
    name = f"{role}-{slot}" if role == "deliver" else role
    return Base(
        settings,
        folder,
        clock,
        database,
        box,
        IdGenerator(WORKER[role] + slot),
        Catalog(database, box, clock),
        hostname_of(settings),
        name,
        metering.gauges_of(folder.run, name),
        ServerTurns.of_rounds(clock, settings.time_scale) if role == "jobs" else ServerTurns(clock),
    )


def node_of(folder: DataFolder) -> str:
    """The name by which the processes of this server know each other."""
    return f"{socket.gethostname()}:{folder.root.resolve()}"


def hostname_of(settings: Settings) -> str:
    """The name this node calls itself."""
    if settings.server.hostname:
        return settings.server.hostname
    return SANDBOX_HOSTNAME if settings.sandbox.enabled else socket.getfqdn()


def screen(settings: Settings, folder: DataFolder, clock: Clock) -> Screen:
    """Nothing is taken below the floor of free disk; looked at once a second."""
    floor = max(1, settings.server.min_free_disk_mb * 1_000_000)  # not one free byte is too little for anybody
    last: list[tuple[float, str]] = [(-10.0, "")]

    def has_room() -> str:
        now_s = clock.monotonic_s()
        if now_s - last[0][0] > 1:
            free = shutil.disk_usage(folder.root).free
            reason = (
                f"only {free // 1_000_000} MB of disk are free, the floor is {floor // 1_000_000}"
                if free < floor
                else ""
            )
            last[0] = (now_s, reason)
        return last[0][1]

    return Screen(has_room)


def manager(base: Base) -> Manager:
    """Management; in the sandbox the DNS records of a new domain are put in place at once."""
    to_sandbox: Publish | None = None
    if base.settings.sandbox.enabled:

        def to_sandbox(name: str, record_type: str, value: str) -> None:
            publish(base.folder.root, name, record_type, value)

    return Manager(
        base.database,
        base.catalog,
        base.box,
        defaults=source_defaults(base),
        clock=base.clock,
        ids=base.ids,
        publish=to_sandbox,
    )


def services(base: Base, reads: LongReads, backlog: Backlog) -> tuple[Services, SubmissionDesk]:
    """What the entrances need."""
    retry, scale = base.settings.retry, base.time_scale
    gate = screen(base.settings, base.folder, base.clock)
    acceptor = Acceptor(
        base.database,
        base.catalog,
        gate,
        hostname=base.hostname,
        max_recipients=base.settings.submission.max_recipients,
        retry=retry,
        time_scale=scale,
        clock=base.clock,
        ids=base.ids,
    )
    campaigns = _campaigns(base, acceptor, gate, reads)
    observer = Observer(
        base.database, reads, gate, backlog, base.clock, sandbox=base.settings.sandbox.enabled, time_scale=scale
    )
    manage = manager(base)
    desk = SubmissionDesk(base.database, manage, acceptor, gate)
    for entrance, taken in (*acceptor.taken.items(), ("campaign", campaigns.taken)):
        base.gauges.watch("accepted_recipients_total", partial(getattr, taken, "n"), entrance=entrance)
    fleet = Fleet(base.database, base.box, base.clock)
    plans, providers = load_plans(), providers_of(base)
    limits_for = partial(limits_of, base.settings.delivery, providers)
    steer = Steering(
        base.database,
        plans,
        frozenset(providers.providers),
        clock=base.clock,
        ids=base.ids,
        time_scale=scale,
    )
    dmarc = dmarc_reports_of(base, nameservers_of(base.settings), reads)
    domains, rotation = domains_of(base, nameservers_of(base.settings), dmarc)
    certificates = certificates_of(base, nameservers_of(base.settings))
    services = Services(
        messages=acceptor,
        campaigns=campaigns,
        observe=observer,
        manage=manage,
        domains=domains,
        dmarc=dmarc,
        domain_options=options_of(base, nameservers_of(base.settings)),
        dns_zones=zones_of(base),
        rotation=rotation,
        digests=digests_of(base, certificates),
        fleet=fleet,
        relays=_relays(base),
        steer=steer,
        forecasts=Forecaster(reads, plans, limits_for, base.clock, scale),
        limits=_limits(base),
        reputation=reputation(base),
        blocklists=blocklists(base),
        certificates=certificates,
        server_dns=server_dns_of(base, nameservers_of(base.settings), certificates),
        tls_results=TlsResults(reads, base.clock, scale),
    )
    return services, desk


def reputation(base: Base) -> Reputation:
    """Rates, complaints, and the brakes they lead to."""
    return Reputation(base.database, base.clock, base.ids, base.time_scale)


def blocklists(base: Base) -> Blocklists:
    """Block lists. What stays on this machine is on no public list: then only the user's own are asked."""
    settings = base.settings
    own = [Path(settings.blocklists.file)] if settings.blocklists.file else []
    return Blocklists(
        base.database,
        DnsQuerier(nameservers_of(settings), settings.dns.timeout_s, base.clock),
        load_blocklists(*own, shipped=settings.blocklists.watch and not settings.at_home),
        load_plans(),
        clock=base.clock,
        ids=base.ids,
        rng=rng(0),
        time_scale=base.time_scale,
    )


def _campaigns(base: Base, acceptor: Acceptor, gate: Screen, reads: LongReads) -> Campaigns:
    settings = base.settings
    return Campaigns(
        base.database,
        acceptor,
        gate,
        reads,
        retry=settings.retry,
        time_scale=base.time_scale,
        clock=base.clock,
        ids=base.ids,
        demand_dns=settings.dns.hold_bulk,
    )


def _relays(base: Base) -> RelayChecker:
    delivery, clock = base.settings.delivery, base.clock
    connector = Connector(
        resolver(base.settings, clock), ipv6=delivery.ipv6, rng=rng(0), descriptors=Descriptors(clock)
    )
    return RelayChecker(base.database, connector, partial(way_of, base))


def _limits(base: Base) -> LimitsExplainer:
    delivery = base.settings.delivery
    ceilings = [
        ("connections", delivery.connections_per_site, "delivery.connections_per_site"),
        ("messages_per_connection", delivery.messages_per_connection, "delivery.messages_per_connection"),
    ]
    locate = resolver(base.settings, base.clock).mail_hosts
    return LimitsExplainer(base.database, locate, providers_of(base), ceilings, base.clock, base.time_scale)


def provider_files(base: Base) -> list[Path]:
    """The user's own limits: the file of the settings, else ``providers.toml`` in the data folder if it is there."""
    if base.settings.delivery.providers_file:
        return [Path(base.settings.delivery.providers_file)]
    found = base.folder.root / "providers.toml"
    return [found] if found.exists() else []


def providers_of(base: Base) -> ProviderTable:
    """Mailbox providers with the limits towards them. Raises ``ConfigError``."""
    return load_providers(*provider_files(base))


def resolver(settings: Settings, clock: Clock) -> Resolver:
    """The resolver of this process: in the sandbox it knows the sandbox's DNS and nothing else."""
    return Resolver(nameservers_of(settings), settings.dns.timeout_s, clock)


def nameservers_of(settings: Settings) -> list[str]:
    """Who is asked."""
    return [f"127.0.0.1:{settings.sandbox.dns_port}"] if settings.sandbox.enabled else settings.dns.nameservers


def rng(slot: int) -> random.Random:
    """Randomness of one process: jitter and order, nothing secret."""
    return random.Random(f"{os.getpid()} {slot} {os.urandom(8).hex()}")  # noqa: S311
