"""Tag lists (RFC 6376 3.2) and the key record in DNS (RFC 6376 3.6.1)."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailfleet.base.errors import InputError
from mailfleet.mail.dkim_key import MIN_RSA_BITS

MAX_VERIFIED_RSA_BITS = 8192  # larger keys are an attack on the verifier's time
MAX_RECORD_CHARS = 8192
_TAG = re.compile(r"[ \t\r\n]*([A-Za-z][A-Za-z0-9_]*)[ \t\r\n]*=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key record, read. ``testing`` is the flag ``t=y``, ``strict`` the flag ``t=s``."""

    public: RSAPublicKey | Ed25519PublicKey
    bits: int
    testing: bool
    strict: bool


def parse_tags(text: str) -> dict[str, str]:
    """``name=value; ...`` in order, values stripped of white space around them. Raises ``InputError``, also for a repeated tag."""
    tags: dict[str, str] = {}
    parts = text.split(";")
    if not parts[-1].strip(" \t\r\n"):
        parts.pop()  # the last semicolon may be there or not
    for part in parts:
        match = _TAG.fullmatch(part)
        if not match:
            raise InputError(f"{part.strip()[:40]!r} is not of the form tag=value")
        if match[1] in tags:
            raise InputError(f"the tag {match[1]}= occurs twice")
        tags[match[1]] = match[2].strip(" \t\r\n")
    return tags


@lru_cache(maxsize=1024)
def parse_record(record: str) -> PublicKey:
    """Read a key record. Raises ``InputError`` saying why it is no usable key, also when it is revoked or too small."""
    if len(record) > MAX_RECORD_CHARS:
        raise InputError("the key record is too long")
    tags = parse_tags(record)
    if "v" in tags and (tags["v"] != "DKIM1" or next(iter(tags)) != "v"):
        raise InputError("the key record does not start with v=DKIM1")
    if "p" not in tags:
        raise InputError("the key record has no p=")
    if not tags["p"]:
        raise InputError("the key is revoked (its record has an empty p=)")
    if "sha256" not in colon_list(tags.get("h", "sha256")):
        raise InputError("the key record does not allow sha256")
    if not {"*", "email"} & set(colon_list(tags.get("s", "*"))):
        raise InputError("the key is not for e-mail (s= of its record)")
    flags = colon_list(tags.get("t", ""))
    public, bits = _load(tags.get("k", "rsa"), tags["p"])
    return PublicKey(public=public, bits=bits, testing="y" in flags, strict="s" in flags)


def colon_list(text: str) -> list[str]:
    """``a : b`` to its parts; white space around them does not count."""
    return [part.strip(" \t\r\n") for part in text.split(":")]


def _load(kind: str, text: str) -> tuple[RSAPublicKey | Ed25519PublicKey, int]:
    try:
        raw = base64.b64decode(re.sub(r"[ \t\r\n]+", "", text).encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise InputError("p= of the key record is not base64") from None
    try:
        if kind == "ed25519":
            return Ed25519PublicKey.from_public_bytes(raw), 256
        if kind != "rsa":
            raise InputError(f"the key record is for an unknown algorithm k={kind[:20]}")
        public = load_der_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"p= of the key record is not a key of type {kind}") from None
    if not isinstance(public, RSAPublicKey):
        raise InputError("p= of the key record is not a key of type rsa")
    if not MIN_RSA_BITS <= public.key_size <= MAX_VERIFIED_RSA_BITS:  # RFC 8301 3.2
        raise InputError(f"an RSA key of {public.key_size} bits is not accepted")
    return public, public.key_size
