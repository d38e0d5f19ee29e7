"""What plans, publishes and checks the DNS of sending domains, put together for one process."""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import TYPE_CHECKING

from mailfleet.app.egress import fetcher_of
from mailfleet.base.errors import ConfigError, InputError
from mailfleet.config.listen import split_host_port
from mailfleet.config.settings import Settings
from mailfleet.engine.certificates import Certificates
from mailfleet.engine.digest import Digests
from mailfleet.engine.dns_publish import DnsPublisher
from mailfleet.engine.domain_checks import DomainChecker
from mailfleet.engine.domain_options import DomainOptions
from mailfleet.engine.domains import Domains, zone_label
from mailfleet.engine.rotation import Rotation
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.dns_update import DynamicUpdate
from mailfleet.net.resolver import Resolver
from mailfleet.net.secure_dns import SecureDns
from mailfleet.store.dns import Target

if TYPE_CHECKING:
    from mailfleet.app.compose import Base


def at_home(settings: Settings) -> bool:
    """Whether nothing may leave this machine."""
    return settings.sandbox.enabled or settings.delivery.loopback_only


def publishing(base: Base, nameservers: list[str]) -> tuple[Authoritative, DnsPublisher]:
    """One view of the DNS, and what writes to it."""
    settings = base.settings
    authoritative = Authoritative(
        DnsQuerier(nameservers, settings.dns.timeout_s, base.clock),
        timeout_s=settings.dns.timeout_s,
        port=settings.sandbox.dns_port if settings.sandbox.enabled else settings.dns.authoritative_port,
        loopback_only=at_home(settings),
    )
    update_of = partial(_update, base)
    publisher = DnsPublisher(base.database, authoritative, update_of, base.clock, ttl_s=settings.dns.ttl_s)
    return authoritative, publisher


def domains_of(base: Base, nameservers: list[str]) -> tuple[Domains, Rotation]:
    """Both, over one view of the DNS."""
    settings = base.settings
    authoritative, publisher = publishing(base, nameservers)
    resolver = Resolver(nameservers, settings.dns.timeout_s, base.clock)
    domains = Domains(
        base.database,
        base.box,
        DomainChecker(authoritative, secure_dns(base), fetcher_of(base, resolver), private=at_home(settings)),
        publisher,
        partial(_update, base),
        hostname=base.hostname,
        authority=settings.acme.caa_name,
        ttl_s=settings.dns.ttl_s,
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


def _update(base: Base, target: Target) -> DynamicUpdate:
    secret = b"" if target.sealed_secret is None else base.box.open(target.sealed_secret, zone_label(target.zone))
    return DynamicUpdate(
        target.zone,
        server_of(target.server),
        key_name=target.key_name,
        secret=secret.decode(),
        algorithm=target.algorithm,
        timeout_s=base.settings.dns.timeout_s * 2,
        loopback_only=at_home(base.settings),
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
