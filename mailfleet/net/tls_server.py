"""Certificates and TLS contexts of our own listeners: a self-signed certificate where none is given, and loading them."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailfleet.base.errors import ConfigError
from mailfleet.net.tls_names import bare_context
from mailfleet.net.x509_builder import PrivateKey, certificate_pem, common_name, key_pem, make_key, self_signed

VALID_DAYS = 730
RENEW_BEFORE_DAYS = 30
_HOST_NAME = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


def ensure_self_signed(folder: Path, hostname: str, now: datetime | None = None) -> tuple[Path, Path]:
    """Paths of a self-signed certificate for ``hostname``, ``localhost`` and loopback, and of its key (mode 0600).

    Made at first use, and again when it is within 30 days of its end, was made for another host name, or does not load.
    Processes that call this at the same time take turns. ``now`` is for tests; aware UTC.
    """
    now = now or datetime.now(UTC)
    cert, key = folder / "self-signed.crt", folder / "self-signed.key"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "self-signed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _usable(cert, key, hostname, now):
            private_key = make_key()
            _write(key, key_pem(private_key), 0o600)
            _write(cert, certificate_pem(_certificate(private_key, hostname, now)).encode(), 0o644)
    return cert, key


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """A context for servers, TLS 1.2 or newer. Raises ``ConfigError`` naming the file that is missing, not PEM, or does not fit."""
    for path, setting in ((cert, "submission.tls_cert"), (key, "submission.tls_key")):
        try:
            path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"cannot read {path}: {error.strerror}", where=setting, mend="check the path and who may read it"
            ) from None
    context = bare_context()
    try:
        context.load_cert_chain(cert, key, password="")  # never ask on the terminal for a passphrase
    except ssl.SSLError as error:
        raise _load_error(cert, key, error) from None
    return context


def names_of(hostname: str) -> list[x509.GeneralName]:
    """Subject alternative names; a host name that no certificate can carry (empty, not ASCII, an underscore) is left out."""
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.IPv4Address("127.0.0.1")),
        x509.IPAddress(ipaddress.IPv6Address("::1")),
    ]
    if _HOST_NAME.fullmatch(hostname) and hostname.lower() != "localhost":
        names.insert(0, x509.DNSName(hostname.lower()))
    return names


def _certificate(private_key: PrivateKey, hostname: str, now: datetime) -> x509.Certificate:
    # RFC 5280 A.1 ub-common-name: 64 characters; clients read the alternative names anyway
    name = hostname if _HOST_NAME.fullmatch(hostname) and len(hostname) <= 64 else "localhost"
    return self_signed(
        private_key,
        common_name(name),
        now - timedelta(days=1),  # clients whose clock is a little behind
        now + timedelta(days=VALID_DAYS),
        [
            (x509.SubjectAlternativeName(names_of(hostname)), False),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        ],
    )


def _usable(cert: Path, key: Path, hostname: str, now: datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(cert.read_bytes())
        private_key = serialization.load_pem_private_key(key.read_bytes(), password=None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return (
        list(names) == names_of(hostname)
        and private_key.public_key() == certificate.public_key()
        and now + timedelta(days=RENEW_BEFORE_DAYS) < certificate.not_valid_after_utc
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put a file in place whole, never readable by others for an instant before ``mode`` holds."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _load_error(cert: Path, key: Path, error: ssl.SSLError) -> ConfigError:
    """Find out which of the two files is wrong: OpenSSL's words rarely say."""
    try:
        x509.load_pem_x509_certificate(cert.read_bytes())
    except ValueError:
        return ConfigError(
            f"{cert} holds no certificate in PEM form",
            where="submission.tls_cert",
            mend="give the full chain, the server's certificate first, each between BEGIN and END CERTIFICATE lines",
        )
    if error.reason == "KEY_VALUES_MISMATCH":
        what, mend = f"{key} is not the key of {cert}", "give the key that the certificate was made for"
    elif b"ENCRYPTED" in key.read_bytes():
        what, mend = f"{key} is protected by a passphrase", "remove it with: openssl pkey -in KEY -out KEY.clear"
    else:
        what, mend = f"{key} holds no usable private key in PEM form", "give an RSA or EC key, unencrypted"
    return ConfigError(what, where="submission.tls_key", mend=mend)
