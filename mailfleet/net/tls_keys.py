"""Keys and requests of certificates, and reading what others made: PEM in, PEM out."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailfleet.base.errors import InputError
from mailfleet.net.x509_builder import (
    NOBODY,
    PrivateKey,
    Signer,
    certificate_pem,
    common_name,
    key_pem,
    make_key,
    self_signed,
    signed,
)

MIN_RSA_BITS = 2048  # browsers and OpenSSL take no fewer
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)  # others are loaded, and then no client can use them
_NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_UNREADABLE = (  # all that the library says of bytes that others made
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
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
    """A key for a certificate, PEM."""
    return key_pem(make_key())


def signing_request(host: str, key: bytes) -> bytes:
    """A request (PKCS #10) for one host."""
    private = _load(key)
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    request = x509.CertificateSigningRequestBuilder().subject_name(NOBODY).add_extension(names, critical=False)
    return request.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def read_chain(chain: str, key: bytes) -> Read:
    """The first certificate of a chain, which has to be the key's. Names that no host can have are left out.

    Raises ``InputError``.
    """
    try:
        first = x509.load_pem_x509_certificates(chain.encode())[0]
        public = first.public_key()
    except _UNREADABLE:
        mend = "give the full chain in PEM form, the server's own certificate first"
        raise InputError("there is no certificate in it", where="chain", mend=mend) from None
    if _private(key).public_key() != public:
        raise InputError("the key is not the certificate's", where="key", mend="give the key that it was made for")
    try:
        extension = first.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = [one.lower() for one in extension.value.get_values_for_type(x509.DNSName)]
    except _UNREADABLE:
        names = []
    hosts = tuple(dict.fromkeys(one for one in names if _NAME.fullmatch(one)))
    if not hosts:
        mend = "clients look at nothing else (RFC 6125)"
        raise InputError("the certificate names no host (subjectAltName)", where="chain", mend=mend)
    return Read(
        hosts,
        round(first.not_valid_before_utc.timestamp() * 1000),
        round(first.not_valid_after_utc.timestamp() * 1000),
    )


def _private(key: bytes) -> PrivateKey:
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except _UNREADABLE:
        private = None
    usable = isinstance(private, rsa.RSAPrivateKey) and private.key_size >= MIN_RSA_BITS
    usable = usable or (isinstance(private, ec.EllipticCurvePrivateKey) and isinstance(private.curve, _CURVES))
    if not usable:
        mend = f"give an RSA key of {MIN_RSA_BITS} bits or more, or an EC key (P-256, P-384, P-521): in PEM form, unencrypted"
        raise InputError("there is no usable private key in it", where="key", mend=mend)
    assert isinstance(private, PrivateKey)
    return private


def key_digest(key: bytes) -> str:
    """SHA-256 of the public key as TLSA has it (selector 1, RFC 6698 2.1): hexadecimal."""
    return _digest(_load(key).public_key())


def read_first(chain: str) -> First:
    """The first certificate of a chain, PEM. Raises ``InputError``."""
    try:
        first = x509.load_pem_x509_certificates(chain.encode())[0]
    except _UNREADABLE:
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
    key, now = make_key(), datetime.now(UTC)
    digest = hashlib.sha256(answer.encode()).digest()
    made = self_signed(
        key,
        common_name("ACME challenge"),
        now - timedelta(hours=1),
        now + timedelta(days=1),
        [
            (x509.SubjectAlternativeName([x509.DNSName(host)]), False),
            (x509.UnrecognizedExtension(_ACME_IDENTIFIER, b"\x04\x20" + digest), True),
        ],
    )
    return certificate_pem(made), key_pem(key)


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
        key = make_key()
        made = self_signed(
            key,
            common_name("Mailfleet local authority"),
            now - timedelta(days=1),
            now + LocalAuthority.LIFE,
            [
                (x509.BasicConstraints(ca=True, path_length=0), True),
                (_USAGE, True),
                (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
            ],
        )
        return certificate_pem(made), key_pem(key)

    def issue(self, names: list[x509.GeneralName], key: bytes, now: datetime) -> str:
        """A chain for a key: its certificate, then the authority's."""
        made = signed(
            _load(key),
            NOBODY,
            now - timedelta(days=1),
            min(now + self.LEAF_LIFE, self._certificate.not_valid_after_utc),
            [
                (x509.SubjectAlternativeName(names), True),  # RFC 5280 4.2.1.6: critical where there is no subject
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
                (x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False),
            ],
            by=Signer(self._certificate.subject, self._key),
        )
        return certificate_pem(made) + self.chain


_USAGE = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip


def _digest(public: CertificatePublicKeyTypes) -> str:
    form = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(form).hexdigest()


def _load(key: bytes) -> PrivateKey:
    private = serialization.load_pem_private_key(key, password=None)
    assert isinstance(private, PrivateKey), "read_chain lets in no other"
    return private
