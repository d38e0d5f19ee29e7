"""TLS towards mail hosts."""

from __future__ import annotations

import ssl


def unverified_context() -> ssl.SSLContext:
    """For opportunistic TLS (RFC 7435): against listeners on the line, not against impostors, so no certificate is checked.

    Old key sizes and signatures pass, since the other choice would be clear text; TLS 1.2 is the floor (RFC 8996). Making a
    context costs about a millisecond: make one and share it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("DEFAULT:@SECLEVEL=1")
    return context


def verified_context(ca_file: str = "") -> ssl.SSLContext:
    """For a remote that must prove its name: its certificate must be good and for that name (PKIX, RFC 6125).

    ``ca_file`` has more authorities, beside those of the system.
    """
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def chain_of(tls: ssl.SSLObject) -> list[bytes]:
    """The certificates that the remote showed, its own first, as DER; unchecked ones too."""
    inner = getattr(tls, "_sslobj", None)  # what Python 3.13 has as SSLObject.get_unverified_chain is only here before
    if inner is not None and hasattr(inner, "get_unverified_chain"):
        return [_der(one) for one in inner.get_unverified_chain() or []]
    own = tls.getpeercert(binary_form=True)
    return [own] if own else []


def _der(certificate: object) -> bytes:
    if isinstance(certificate, bytes):
        return certificate
    der: bytes = ssl.PEM_cert_to_DER_cert(certificate.public_bytes())  # type: ignore[attr-defined]  # of _ssl.Certificate
    return der


def described(tls: ssl.SSLObject) -> str:
    """What was agreed on, for example ``TLSv1.3 TLS_AES_256_GCM_SHA384``."""
    cipher = tls.cipher()
    return f"{tls.version()} {cipher[0] if cipher else ''}".rstrip()


def server_name(host: str) -> str | None:
    """The name for SNI: a host name without its final dot; ``None`` for an address literal (RFC 6066 3)."""
    name = host.rstrip(".")
    return (
        name if name and not name.startswith("[") and not name.replace(".", "").isdigit() and ":" not in name else None
    )
