"""The providers' self-signed certificate, made anew at each start and kept nowhere."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509

from mailfleet.net.tls_names import loaded_context
from mailfleet.net.x509_builder import certificate_pem, common_name, key_pem, make_key, self_signed


def server_context(hosts: list[str], now_ms: int) -> ssl.SSLContext:
    """A TLS context whose certificate names ``hosts``. No client has reason to trust it, as with most mail servers."""
    key, now = make_key(), datetime.fromtimestamp(now_ms / 1000, UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    begin, end = now - timedelta(days=1), now + timedelta(days=365)
    made = self_signed(key, common_name("Mailfleet sandbox"), begin, end, [(names, False)])
    return loaded_context(certificate_pem(made), key_pem(key))
