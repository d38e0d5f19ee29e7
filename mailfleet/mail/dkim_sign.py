"""Making DKIM-Signature fields (RFC 6376 5): which fields are signed, how the field is written.

Always relaxed/relaxed, never ``l=`` (RFC 6376 8.2), never ``i=``.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from mailfleet.base.errors import InputError
from mailfleet.mail.address import domain_to_ascii
from mailfleet.mail.dkim_canon import BodyHash, relaxed_fields
from mailfleet.mail.dkim_key import SigningKey

# Signed, and listed in h= once more than they occur, even when absent: nobody can add another (RFC 6376 8.15).
OVERSIGNED = (
    b"from",
    b"reply-to",
    b"to",
    b"cc",
    b"subject",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
)
# The same, but only when present: an absent one may be added in good faith on the way.
OVERSIGNED_IF_PRESENT = (
    b"date",
    b"message-id",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
)
# Signed as often as they occur. Trace fields, Return-Path and DKIM-Signature never are (RFC 6376 5.4.1).
SIGNED = (
    b"in-reply-to",
    b"references",
    b"list-id",
    b"feedback-id",
)
_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs. ``domain`` may be given as U-labels and is kept as A-labels. Raises ``InputError``."""

    domain: str
    selector: str
    key: SigningKey

    def __post_init__(self) -> None:
        domain, selector = domain_to_ascii(self.domain), self.selector.lower()
        if domain.startswith("["):
            raise InputError("an address literal cannot sign", where=self.domain, mend="use a domain name")
        if not _SELECTOR.fullmatch(selector):
            raise InputError(
                f"{self.selector[:80]!r} is not a selector", mend="use letters, digits and hyphens, for example mf2026a"
            )
        if len(f"{selector}._domainkey.{domain}") > 253:
            raise InputError("selector and domain together are too long for DNS", where=self.domain)
        object.__setattr__(self, "domain", domain)
        object.__setattr__(self, "selector", selector)


def sign(header: bytes, body: bytes, signers: Sequence[Signer], *, now_ms: int, expires_s: int | None = None) -> bytes:
    """The DKIM-Signature fields for a message, in the order of ``signers``, folded, each ending CRLF: put them before ``header``.

    ``header`` has CRLF line ends and no blank line. ``expires_s`` seconds after ``now_ms`` the signatures lose their worth
    (``x=``). Raises ``InputError`` when there is no From, or a line of the header has no colon.
    """
    if not signers:
        return b""
    body_hash = BodyHash()
    body_hash.update(body)
    return sign_header(header, body_hash.digest(), signers, now_ms=now_ms, expires_s=expires_s)


def sign_header(
    header: bytes, body_digest: bytes, signers: Sequence[Signer], *, now_ms: int, expires_s: int | None = None
) -> bytes:
    """Like ``sign`` for a body whose ``BodyHash.digest`` is known already."""
    fields = relaxed_fields(header)
    if b"from" not in fields:
        raise InputError("the message has no From field, so it cannot be signed", mend="add a From field")
    names, signed = _chosen(fields)
    header_hash = hashlib.sha256(signed)
    at_s = now_ms // 1000
    times = b"t=%d;" % at_s if expires_s is None else b"t=%d; x=%d;" % (at_s, at_s + expires_s)
    tail = b"%b\r\n\th=%b;\r\n\tbh=%b;\r\n\tb=" % (times, _h_tag(names), base64.b64encode(body_digest))
    made = []
    for signer in signers:
        unsigned = b"v=1; a=%b; c=relaxed/relaxed; d=%b;\r\n\ts=%b; %b" % (
            signer.key.algorithm.encode(),
            signer.domain.encode(),
            signer.selector.encode(),
            tail,
        )
        digest = header_hash.copy()
        # Folded at single tabs only, so relaxing the field is one replacement; no CRLF at its end (RFC 6376 3.7).
        digest.update(b"dkim-signature:" + unsigned.replace(b"\r\n\t", b" "))
        signature = base64.b64encode(signer.key.sign_digest(digest.digest()))
        lines = [signature[at : at + 72] for at in range(0, len(signature), 72)]
        made.append(b"DKIM-Signature: %b%b\r\n" % (unsigned, b"\r\n\t ".join(lines)))
    return b"".join(made)


def _chosen(fields: dict[bytes, list[bytes]]) -> tuple[tuple[bytes, ...], bytes]:
    """The names for ``h=`` and the canonical fields they stand for. Of equal names the bottom one counts first (RFC 6376 5.4.2)."""
    names: list[bytes] = []
    lines: list[bytes] = []
    for name in OVERSIGNED:
        present = fields.get(name, ())
        names += [name] * (len(present) + 1)
        lines += reversed(present)
    for name in OVERSIGNED_IF_PRESENT:
        if present := fields.get(name, ()):
            names += [name] * (len(present) + 1)
            lines += reversed(present)
    for name in SIGNED:
        if present := fields.get(name, ()):
            names += [name] * len(present)
            lines += reversed(present)
    return tuple(names), b"".join(lines)


@lru_cache(maxsize=256)
def _h_tag(names: tuple[bytes, ...]) -> bytes:
    """The names joined by colons, folded after a colon before column 76."""
    lines = [b""]
    for name in names:
        if len(lines[-1]) + len(name) > 70:
            lines.append(b"")
        lines[-1] += name + b":"
    return b"\r\n\t".join(lines)[:-1]
