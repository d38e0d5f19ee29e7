"""Keys and requests of certificates, and reading what others made: PEM in, PEM out."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailfleet.base.errors import InputError

_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # RFC 8737 6.1


class Read(NamedTuple):
    """What a chain says of itself. ``names``: lower case, may begin with ``*.``."""

    names: tuple[str, ...]
    not_before_ms: int
    not_after_ms: int


class First(NamedTuple):
    """The certificate that a server shows. ``digest``: of its key, as ``key_digest`` has it."""

    digest: str
    not_before_ms: int
    not_after_ms: int


def new_key() -> bytes:
    """P-256: every client since long knows it, and a handshake costs a tenth of RSA's."""
    return _pem(ec.generate_private_key(ec.SECP256R1()))


def signing_request(host: str, key: bytes) -> bytes:
    """A request (PKCS #10) for one host."""
    private = _load(key)
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    return request.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def read_chain(chain: str, key: bytes) -> Read:
    """The first certificate of a chain, which has to be the key's. Raises ``InputError``."""
    try:
        first = x509.load_pem_x509_certificates(chain.encode())[0]
    except ValueError:
        mend = "give the full chain in PEM form, the server's own certificate first"
        raise InputError("there is no certificate in it", where="chain", mend=mend) from None
    try:
        private = serialization.load_pem_private_key(key, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise ValueError("of another kind")
    except (ValueError, TypeError):
        raise InputError(
            "there is no usable private key in it", where="key", mend="give an RSA or EC key in PEM form, unencrypted"
        ) from None
    if private.public_key() != first.public_key():
        raise InputError("the key is not the certificate's", where="key", mend="give the key that it was made for")
    try:
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    except x509.ExtensionNotFound:
        names = []
    if not names:
        mend = "clients look at nothing else (RFC 6125)"
        raise InputError("the certificate names no host (subjectAltName)", where="chain", mend=mend)
    return Read(
        tuple(one.lower() for one in names),
        round(first.not_valid_before_utc.timestamp() * 1000),
        round(first.not_valid_after_utc.timestamp() * 1000),
    )


def key_digest(key: bytes) -> str:
    """SHA-256 of the public key as TLSA has it (selector 1, RFC 6698 2.1): hexadecimal."""
    return _digest(_load(key).public_key())


def read_first(chain: str) -> First:
    """The first certificate of a chain, PEM. Raises ``InputError``."""
    try:
        first = x509.load_pem_x509_certificates(chain.encode())[0]
    except ValueError:
        raise InputError("there is no certificate in it", where="chain", mend="give the chain in PEM form") from None
    return First(
        _digest(first.public_key()),
        round(first.not_valid_before_utc.timestamp() * 1000),
        round(first.not_valid_after_utc.timestamp() * 1000),
    )


def shown_digest(certificate: bytes) -> str:
    """Of the key of a certificate that was shown, DER. Raises ``ValueError``."""
    return _digest(x509.load_der_x509_certificate(certificate).public_key())


def challenge_certificate(host: str, answer: str) -> tuple[str, bytes]:
    """What TLS-ALPN-01 wants to see (RFC 8737 3): a certificate with the digest of the key authorization, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    digest = hashlib.sha256(answer.encode()).digest()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_ACME_IDENTIFIER, b"\x04\x20" + digest), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), _pem(key)


class LocalAuthority:
    """An authority of one's own, for a sandbox: nobody trusts it who was not told to. ``chain`` and ``key`` are PEM."""

    LIFE = timedelta(days=3650)
    LEAF_LIFE = timedelta(days=90)

    def __init__(self, chain: str, key: bytes) -> None:
        self.chain = chain
        self._certificate, self._key = x509.load_pem_x509_certificate(chain.encode()), _load(key)

    @staticmethod
    def make(now: datetime) -> tuple[str, bytes]:
        """A new one: its certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Mailfleet local authority")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + LocalAuthority.LIFE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_USAGE, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode(), _pem(key)

    def issue(self, names: list[x509.GeneralName], key: bytes, now: datetime) -> str:
        """A chain for a key: its certificate, then the authority's."""
        public = _load(key).public_key()
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(min(now + self.LEAF_LIFE, self._certificate.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        return made.public_bytes(serialization.Encoding.PEM).decode() + self.chain


_USAGE = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip


def _digest(public: CertificatePublicKeyTypes) -> str:
    form = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(form).hexdigest()


def _load(key: bytes) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    private = serialization.load_pem_private_key(key, password=None)
    assert isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey), "read_chain lets in no other"
    return private


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
