"""Handshakes in memory, with the client that Python has."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509

from mailfleet.net.tls_keys import LocalAuthority, new_key

AUTHORITY = LocalAuthority(*LocalAuthority.make(datetime.now(UTC)))


def pair(*names: str) -> tuple[str, bytes]:
    """A chain of ``AUTHORITY``, and its key."""
    key = new_key()
    return AUTHORITY.issue([x509.DNSName(one) for one in names], key, datetime.now(UTC)), key


def client(protocols: Sequence[str] = (), *, trusting: bool = False) -> ssl.SSLContext:
    """One that knows ``AUTHORITY``, or asks nothing."""
    context = ssl.create_default_context(cadata=AUTHORITY.chain)
    if trusting:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def hello(name: str | None, protocols: Sequence[str] = ()) -> bytes:
    """The first bytes of a client."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    connecting = client(protocols, trusting=True).wrap_bio(to_client, to_server, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        connecting.do_handshake()
    return to_server.read()


def shake(server: ssl.SSLContext, asking: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """The client's end. Raises what the client's handshake raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    accepting = server.wrap_bio(to_server, to_client, server_side=True)
    connecting = asking.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (connecting, accepting):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert connecting.version()
    return connecting


def shown(server: ssl.SSLContext, name: str | None) -> list[str]:
    """The names in the certificate that a client gets who asks for ``name``."""
    return names_of(shake(server, client(trusting=True), name))


def names_of(connection: ssl.SSLObject | ssl.SSLSocket) -> list[str]:
    """Of the other side's certificate."""
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    extension = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return extension.value.get_values_for_type(x509.DNSName)
