"""The providers' self-signed certificate, made anew at each start and kept nowhere but for the moment it is loaded."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def server_context(hosts: list[str], now_ms: int) -> ssl.SSLContext:
    """A TLS context whose certificate names ``hosts``. No client has reason to trust it, as with most mail servers."""
    key = ec.generate_private_key(ec.SECP256R1())  # a handshake costs a tenth of RSA's
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Mailfleet sandbox")])
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="mailfleet-sandbox-") as folder:
        path = Path(folder) / "sandbox.pem"  # the ssl module loads from files only
        path.touch(0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context.load_cert_chain(path)
    return context
