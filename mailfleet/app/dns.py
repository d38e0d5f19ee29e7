"""What plans, publishes and checks the DNS of sending domains, put together for one process."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from functools import partial
from typing import TYPE_CHECKING

from mailfleet.app.egress import fetcher_of
from mailfleet.base.errors import ConfigError, InputError
from mailfleet.config.dns_forms import load_dns_forms
from mailfleet.config.listen import split_host_port
from mailfleet.config.settings import Settings
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.digest import Digests
from mailfleet.engine.dmarc_reports import DmarcReports
from mailfleet.engine.dns_plans import PlanWriter
from mailfleet.engine.dns_publish import DnsPublisher
from mailfleet.engine.dns_zones import DnsZones, zone_label
from mailfleet.engine.domain_checks import DomainChecker
from mailfleet.engine.domain_options import DomainOptions
from mailfleet.engine.domains import Domains
from mailfleet.engine.key_records import KeyRecords
from mailfleet.engine.rotation import Rotation
from mailfleet.engine.server_checks import ServerChecker
from mailfleet.engine.server_dns import ServerDns
from mailfleet.engine.server_facts import Install, TlsPort
from mailfleet.engine.shared import LongReads
from mailfleet.engine.source_defaults import SourceDefaults
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_provider import ProviderZone
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.dns_update import DynamicUpdate, ZoneWriter
from mailfleet.net.resolver import Resolver
from mailfleet.net.reverse_names import ReverseNames
from mailfleet.net.secure_dns import SecureDns
from mailfleet.net.shown_key import KeyProbe
from mailfleet.policy.caa import Issuer
from mailfleet.policy.server_plan import SMTP
from mailfleet.store.dns import Target

if TYPE_CHECKING:
    from mailfleet.app.compose import Base

PROVIDER_TIMEOUT_S = 45.0  # for all questions that a provider has to ask over one change


def publishing(base: Base, nameservers: list[str]) -> tuple[Authoritative, DnsPublisher]:
    """One view of the DNS, and what writes to it."""
    settings = base.settings
    authoritative = Authoritative(
        DnsQuerier(nameservers, settings.dns.timeout_s, base.clock),
        timeout_s=settings.dns.timeout_s,
        port=settings.sandbox.dns_port if settings.sandbox.enabled else settings.dns.authoritative_port,
        loopback_only=settings.at_home,
        turns=base.turns,
    )
    publisher = DnsPublisher(base.database, authoritative, partial(_writer, base), base.clock, ttl_s=settings.dns.ttl_s)
    return authoritative, publisher


def dmarc_reports_of(base: Base, nameservers: list[str], reads: LongReads) -> DmarcReports:
    """What receivers report, and what it means."""
    authoritative, _ = publishing(base, nameservers)

    async def addresses_of(host: str) -> list[str]:
        found = await asyncio.gather(authoritative.ask(host, "A"), authoritative.ask(host, "AAAA"))
        return [text for one in found for text in one.records]

    names = ReverseNames(DnsQuerier(nameservers, base.settings.dns.timeout_s, base.clock))
    return DmarcReports(
        base.database,
        reads,
        addresses_of,
        names.of,
        defaults=source_defaults(base),
        clock=base.clock,
        ids=base.ids,
    )


def domains_of(base: Base, nameservers: list[str], reports: DmarcReports) -> tuple[Domains, Rotation]:
    """Both, over one view of the DNS."""
    authoritative, publisher = publishing(base, nameservers)
    domains = Domains(
        base.database,
        _checker(base, nameservers, authoritative),
        publisher,
        _plan_writer(base, authoritative),
        reports,
        defaults=source_defaults(base),
        authority=_issuer(base.settings),
        clock=base.clock,
        ids=base.ids,
        time_scale=base.time_scale,
    )
    rotation = Rotation(
        base.database,
        base.box,
        base.catalog,
        domains,
        publisher,
        hostname=base.hostname,
        clock=base.clock,
        ids=base.ids,
        time_scale=base.time_scale,
    )
    return domains, rotation


def digests_of(base: Base, certificates: Certificates) -> Digests:
    """The nightly mail of what changed."""
    return Digests(
        base.database,
        certificates,
        base.settings.digest,
        base.settings.retry,
        hostname=base.hostname,
        clock=base.clock,
        ids=base.ids,
        time_scale=base.time_scale,
    )


def server_dns_of(base: Base, nameservers: list[str], certificates: Certificates) -> ServerDns:
    """What the DNS must hold for the install itself."""
    settings = base.settings
    authoritative, publisher = publishing(base, nameservers)
    install = _install(base)
    probe = KeyProbe(install.hostname, settings.dns.timeout_s, loopback_only=settings.at_home)
    domains = _checker(base, nameservers, authoritative)
    return ServerDns(
        base.database,
        ServerChecker(authoritative, secure_dns(base), domains, probe, install),
        publisher,
        _plan_writer(base, authoritative),
        certificates,
        install,
        next_key_ms=next_key_ms(settings),
        clock=base.clock,
        ids=base.ids,
        time_scale=base.time_scale,
    )


def named_keys(base: Base, nameservers: list[str]) -> KeyRecords:
    """Which keys of ours the DNS names."""
    install = _install(base)
    ports = list(dict.fromkeys(one.number for one in install.ports))
    return KeyRecords(publishing(base, nameservers)[0], install.hostname, ports)


def next_key_ms(settings: Settings) -> int:
    """How long resolvers may remember what we published, and then some."""
    return 2 * settings.dns.ttl_s * 1000


def _checker(base: Base, nameservers: list[str], authoritative: Authoritative) -> DomainChecker:
    fetcher = fetcher_of(base, Resolver(nameservers, base.settings.dns.timeout_s, base.clock))
    return DomainChecker(authoritative, secure_dns(base), fetcher, defaults=source_defaults(base))


def _plan_writer(base: Base, authoritative: Authoritative) -> PlanWriter:
    return PlanWriter(authoritative, load_dns_forms(), base.settings.dns.ttl_s)


def source_defaults(base: Base) -> SourceDefaults:
    """What the settings say of sources."""
    delivery = base.settings.delivery
    addresses = tuple(one for one in (delivery.source_ipv4, delivery.source_ipv6) if one)
    return SourceDefaults(base.hostname, delivery.ehlo_name, addresses, base.settings.at_home)


def _issuer(settings: Settings) -> Issuer:
    acme = settings.acme
    return Issuer(acme.caa_name, acme.directory, methods=(acme.challenge,))


def _install(base: Base) -> Install:
    settings = base.settings
    return Install(source_defaults(base), _issuer(settings), tuple(_tls_ports(settings)), settings.dns.tlsa)


def _tls_ports(settings: Settings) -> list[TlsPort]:
    """Port 25, where bounces come in, and those of submission that others can reach."""
    ports = [TlsPort(SMTP, "", settings.delivery.remote_port)]
    for listen, implicit in ((settings.submission.listen, False), (settings.submission.tls_listen, True)):
        if not listen:
            continue
        host, number = split_host_port(listen)
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host) if _is_address(host) else None
        if not number or (address is not None and address.is_loopback and not settings.at_home):
            continue
        near = ""  # a name: as others reach it
        if address is not None:
            near = ("::1" if address.version == 6 else "127.0.0.1") if address.is_unspecified else str(address)
        ports.append(TlsPort(number, near, number, implicit))
    return ports


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True


def options_of(base: Base, nameservers: list[str]) -> DomainOptions:
    """What is set of domains."""
    authoritative, _ = publishing(base, nameservers)

    async def mail_hosts(domain: str) -> tuple[list[str], str]:
        asked = await authoritative.ask(domain, "MX")
        hosts = [text.partition(" ")[2] for text in asked.records]
        why = "it has none" if asked.answers else asked.words or "no name server answers"
        return [host for host in hosts if host != "."], why

    return DomainOptions(base.database, mail_hosts, base.hostname)


def secure_dns(base: Base) -> SecureDns | None:
    """The resolver that validates DNSSEC, where the settings name one."""
    settings = base.settings
    if not settings.dns.validator or settings.sandbox.enabled:
        return None
    try:
        where = server_of(settings.dns.validator)
    except InputError as error:
        raise ConfigError(error.what, where="dns.validator", mend=error.mend) from None
    return SecureDns(where, settings.dns.timeout_s, base.clock, loopback_only=settings.delivery.loopback_only)


def zones_of(base: Base) -> DnsZones:
    """Where may be written."""
    return DnsZones(base.database, base.box, partial(_writer, base), base.clock, base.ids)


def _writer(base: Base, target: Target) -> ZoneWriter:
    secret = b"" if target.sealed_secret is None else base.box.open(target.sealed_secret, zone_label(target.zone))
    if target.kind == "octodns":
        return ProviderZone(
            target.zone,
            target.provider,
            json.loads(target.settings),
            json.loads(secret or b"{}"),
            lock=base.folder.run / f"dns-{target.zone}.lock",
            timeout_s=PROVIDER_TIMEOUT_S,
            loopback_only=base.settings.at_home,
        )
    return DynamicUpdate(
        target.zone,
        server_of(target.server),
        key_name=target.key_name,
        secret=secret.decode(),
        algorithm=target.algorithm,
        timeout_s=base.settings.dns.timeout_s * 2,
        loopback_only=base.settings.at_home,
    )


def server_of(text: str) -> tuple[str, int]:
    """``address`` or ``address:port``. Raises ``InputError``."""
    try:
        return str(ipaddress.ip_address(text)), 53
    except ValueError:
        pass
    try:
        host, port = split_host_port(text)
        return str(ipaddress.ip_address(host)), port
    except ValueError:
        raise InputError(
            f"{text!r} is not an address of a name server", where="server", mend="write 192.0.2.53 or 192.0.2.53:5300"
        ) from None
