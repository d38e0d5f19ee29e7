"""Making X.509 certificates and keys (RFC 5280), for whoever has a purpose for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Extensions = Sequence[tuple[x509.ExtensionType, bool]]  # each with whether it is critical
NOBODY = x509.Name([])


class Signer(NamedTuple):
    """Who signs a certificate."""

    name: x509.Name
    key: PrivateKey


def make_key() -> ec.EllipticCurvePrivateKey:
    """P-256: every client since long knows it, and a handshake costs a tenth of RSA's."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> bytes:
    """Unencrypted (PKCS #8)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> str:
    """As text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def common_name(text: str) -> x509.Name:
    """A name of nothing but a common name, 64 characters at most (RFC 5280 A.1)."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def self_signed(
    key: PrivateKey, name: x509.Name, begin: datetime, end: datetime, extensions: Extensions
) -> x509.Certificate:
    """A certificate that its own key signs."""
    return signed(key, name, begin, end, extensions, by=Signer(name, key))


def signed(
    key: PrivateKey, name: x509.Name, begin: datetime, end: datetime, extensions: Extensions, *, by: Signer
) -> x509.Certificate:
    """A certificate for ``key``; times aware UTC."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(by.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(by.key, hashes.SHA256())
