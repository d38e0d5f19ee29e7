"""Ways out put together for the delivery role: what connections of each are made from."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from mailfleet.base.errors import ConfigError
from mailfleet.engine.connect import Way
from mailfleet.engine.fleet import relay_label
from mailfleet.engine.tls_reports import TlsReports
from mailfleet.net.dns_query import DnsQuerier
from mailfleet.net.https_exchange import HttpsExchange
from mailfleet.net.policy_fetch import PolicyFetcher
from mailfleet.net.resolver import Resolver
from mailfleet.net.smtp_peer import ClientOptions, Timeouts, TlsWish
from mailfleet.net.tls_client import verified_context
from mailfleet.policy.egress import ehlo_name
from mailfleet.smtp.client_states import Login
from mailfleet.store.egress import Egress

if TYPE_CHECKING:
    from mailfleet.app import compose

BOTH = frozenset({4, 6})


def way_of(base: compose.Base, row: Egress) -> Way:
    """How a way out connects. What it leaves open is the settings' (``delivery.source_ipv4``, ``ehlo_name``)."""
    delivery, sandbox = base.settings.delivery, base.settings.sandbox
    options = ClientOptions(
        ehlo_name=ehlo_name(row.ehlo_name, delivery.ehlo_name, base.hostname),
        timeouts=Timeouts.of(delivery),
        source_ipv4=delivery.source_ipv4,
        source_ipv6=delivery.source_ipv6,
        loopback_only=delivery.loopback_only or sandbox.enabled,
    )
    families = BOTH
    if row.address:
        version = ipaddress.ip_address(row.address).version
        families = frozenset({version})
        ipv4, ipv6 = ("", row.address) if version == 6 else (row.address, "")
        options = replace(options, source_ipv4=ipv4, source_ipv6=ipv6)
    port = sandbox.smtp_port if sandbox.enabled else delivery.remote_port
    if row.kind == "relay":
        options, port, families = _relay_options(base, row, options), row.port or 587, BOTH
    return Way(
        row.id,
        row.name,
        options,
        port,
        families,
        relay=row.kind == "relay",
        verified_context=trusted(delivery.tls_ca_file),
    )


@lru_cache(maxsize=4)
def trusted(ca_file: str) -> ssl.SSLContext:
    """One for all ways out: reading the authorities takes its time."""
    try:
        return verified_context(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"cannot be read: {error}", where="delivery.tls_ca_file", mend="name a PEM file") from None


def fetcher_of(base: compose.Base, resolver: Resolver) -> PolicyFetcher:
    """Who fetches MTA-STS policies."""
    delivery = base.settings.delivery
    return PolicyFetcher(
        resolver,
        trusted(delivery.tls_ca_file),
        port=delivery.policy_port,
        ipv6=delivery.ipv6,
        loopback_only=base.settings.at_home,
    )


def tls_reports_of(base: compose.Base, nameservers: list[str]) -> TlsReports:
    """Who reports on TLS."""
    settings = base.settings
    https = HttpsExchange(
        Resolver(nameservers, settings.dns.timeout_s, base.clock),
        trusted(settings.delivery.tls_ca_file),
        ipv6=settings.delivery.ipv6,
        loopback_only=settings.at_home,
        public_only=True,
    )
    return TlsReports(
        base.database,
        DnsQuerier(nameservers, settings.dns.timeout_s, base.clock),
        https,
        settings.tls_reports,
        retry=settings.retry,
        time_scale=base.time_scale,
        clock=base.clock,
        ids=base.ids,
    )


def _relay_options(base: compose.Base, row: Egress, options: ClientOptions) -> ClientOptions:
    """As the relay wants it: TLS as a person demanded it, and the login."""
    login = None
    if row.username:
        secret = base.box.open(row.sealed_secret, relay_label(row.name)) if row.sealed_secret else b""
        login = Login(row.username, secret.decode())
    wishes: dict[str, TlsWish] = {"none": "none", "opportunistic": "opportunistic"}
    context = trusted(base.settings.delivery.tls_ca_file) if row.tls == "verified" else options.tls_context
    return replace(options, tls=wishes.get(row.tls, "required"), login=login, tls_context=context)
