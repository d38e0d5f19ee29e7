"""DKIM (RFC 6376, RFC 8301, RFC 8463): the entrance to signing and checking. The work is in the ``dkim_*`` modules beside it."""

from __future__ import annotations

from mailfleet.mail.dkim_canon import BodyHash, digest_of_relaxed, relaxed_body, simple_body
from mailfleet.mail.dkim_key import ED25519, RSA, SigningKey
from mailfleet.mail.dkim_sign import Signer, sign, sign_parts
from mailfleet.mail.dkim_verify import LookupFailedError, SignatureResult, verify

__all__ = [
    "ED25519",
    "RSA",
    "BodyHash",
    "LookupFailedError",
    "SignatureResult",
    "Signer",
    "SigningKey",
    "digest_of_relaxed",
    "relaxed_body",
    "sign",
    "sign_parts",
    "simple_body",
    "verify",
]
