"""The rivals' DKIM key: RSA-2048, one pair for a run, and the record that would be in DNS."""

from __future__ import annotations

import base64
from functools import cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.messages import SENDING_DOMAIN

SELECTOR = "bench"


@cache
def _pair() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_pem() -> str:
    """The private key as OpenDKIM and Haraka read it."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    return _pair().private_bytes(encoding, form, serialization.NoEncryption()).decode()


def records() -> dict[str, str]:
    """DNS name of the key -> its record (RFC 6376 3.6.1)."""
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    public = base64.b64encode(_pair().public_key().public_bytes(encoding, form)).decode()
    return {f"{SELECTOR}._domainkey.{SENDING_DOMAIN}": f"v=DKIM1; k=rsa; p={public}"}
