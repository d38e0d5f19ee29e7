"""DKIM private keys (RFC 6376 3.3, RFC 8301, RFC 8463) and the record that publishes their public half."""

from __future__ import annotations

import base64

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from mailfleet.base.errors import InputError

RSA = "rsa-sha256"
ED25519 = "ed25519-sha256"
MIN_RSA_BITS = 1024  # RFC 8301 3.2
MAX_RSA_BITS = 4096  # the largest that every verifier must take
PADDING = PKCS1v15()
PREHASHED = Prehashed(SHA256())


class SigningKey:
    """A private key, loaded once and used for every signature. Safe to share between threads."""

    def __init__(self, private: RSAPrivateKey | Ed25519PrivateKey) -> None:
        self._private = private
        self.algorithm = RSA if isinstance(private, RSAPrivateKey) else ED25519
        self.bits = private.key_size if isinstance(private, RSAPrivateKey) else 256
        if isinstance(private, RSAPrivateKey):
            _check_bits(self.bits)

    @classmethod
    def generate(cls, algorithm: str = RSA, bits: int = 2048) -> SigningKey:
        """Make a key. ``bits`` counts for RSA only: 1024 to 4096. Takes up to seconds. Raises ``InputError``."""
        if algorithm == ED25519:
            return cls(Ed25519PrivateKey.generate())
        if algorithm != RSA:
            raise InputError(f"{algorithm!r} is not a DKIM algorithm", mend=f"choose {RSA} or {ED25519}")
        _check_bits(bits)
        return cls(generate_private_key(public_exponent=65537, key_size=bits))

    @classmethod
    def from_pem(cls, pem: bytes, *, ours: bool = False) -> SigningKey:
        """Load an unencrypted PKCS #8 or PKCS #1 private key. Raises ``InputError``; the key is in no message.

        ``ours``: the key was made by ``generate`` and kept sealed since, so the costly check of its primes is left out.
        """
        try:
            private = load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=ours)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise InputError(
                "this is not an unencrypted private key in PEM form",
                mend="give the file that starts with BEGIN PRIVATE KEY",
            ) from None
        if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
            raise InputError("DKIM has no such kind of key", mend="use an RSA or Ed25519 key")
        return cls(private)

    def to_pem(self) -> bytes:
        """PKCS #8, unencrypted: seal it before it is stored."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def public_record(self) -> str:
        """The TXT record's value, one string (RFC 6376 3.6.1); DNS cuts it into pieces of at most 255 bytes."""
        public = self._private.public_key()
        if self.algorithm == RSA:
            der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"
        raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)  # RFC 8463 4.2: the bare 32 bytes
        return f"v=DKIM1; k=ed25519; p={base64.b64encode(raw).decode()}"

    def sign_digest(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest. RFC 8463 3: Ed25519 signs the digest as its message."""
        if isinstance(self._private, RSAPrivateKey):
            return self._private.sign(digest, PADDING, PREHASHED)
        return self._private.sign(digest)


def _check_bits(bits: int) -> None:
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise InputError(
            f"an RSA key of {bits} bits cannot be used for DKIM",
            mend=f"use {MIN_RSA_BITS} to {MAX_RSA_BITS} bits; 2048 is right for nearly everyone",
        )
