"""What plans, publishes and checks the DNS of sending domains, put together for one process."""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import TYPE_CHECKING

from mailfleet.base.errors import ConfigError, InputError
from mailfleet.config.settings import split_host_port
from mailfleet.engine.dns_publish import DnsPublisher
from mailfleet.engine.domain_checks import DomainChecker
from mailfleet.engine.domains import Domains, zone_label
from mailfleet.engine.rotation import Rotation
from mailfleet.net.authoritative import Authoritative
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.dns_update import DynamicUpdate
from mailfleet.net.secure_dns import SecureDns
from mailfleet.store.dns import Target

if TYPE_CHECKING:
    from mailfleet.app.compose import Base


def domains_of(base: Base, nameservers: list[str]) -> tuple[Domains, Rotation]:
    """Both, over one view of the DNS."""
    settings = base.settings
    at_home = settings.sandbox.enabled or settings.delivery.loopback_only
    authoritative = Authoritative(
        DnsQuerier(nameservers, settings.dns.timeout_s, base.clock),
        timeout_s=settings.dns.timeout_s,
        port=settings.sandbox.dns_port if settings.sandbox.enabled else settings.dns.authoritative_port,
        loopback_only=at_home,
    )
    update_of = partial(_update, base, at_home)
    publisher = DnsPublisher(base.database, authoritative, update_of, base.clock, ttl_s=settings.dns.ttl_s)
    domains = Domains(
        base.database,
        base.box,
        DomainChecker(authoritative, secure_dns(base), private=at_home),
        publisher,
        update_of,
        hostname=base.hostname,
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


def _update(base: Base, loopback_only: bool, target: Target) -> DynamicUpdate:
    secret = b"" if target.sealed_secret is None else base.box.open(target.sealed_secret, zone_label(target.zone))
    return DynamicUpdate(
        target.zone,
        server_of(target.server),
        key_name=target.key_name,
        secret=secret.decode(),
        algorithm=target.algorithm,
        timeout_s=base.settings.dns.timeout_s * 2,
        loopback_only=loopback_only,
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
