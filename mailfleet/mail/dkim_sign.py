"""Making DKIM-Signature fields (RFC 6376 5): which fields are signed, how the field is written.

Always relaxed/relaxed, never ``l=`` (RFC 6376 8.2), never ``i=``.
"""

from __future__ import annotations

import hashlib
import re
from binascii import b2a_base64
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    b"tls-report-domain",
    b"tls-report-submitter",
)
_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs. ``domain`` may be given as U-labels and is kept as A-labels. Raises ``InputError``."""

    domain: str
    selector: str
    key: SigningKey
    tags: bytes = field(init=False, repr=False)  # v, a, c, d and s, as they begin the field's value

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
        tags = f"v=1; a={self.key.algorithm}; c=relaxed/relaxed; d={domain};\r\n\ts={selector}; "
        object.__setattr__(self, "tags", tags.encode())


def sign(header: bytes, body: bytes, signers: Sequence[Signer], *, now_ms: int, expires_s: int | None = None) -> bytes:
    """The DKIM-Signature fields for a message, in the order of ``signers``, folded, each ending CRLF: put them before ``header``.

    ``header`` has CRLF line ends and no blank line. ``expires_s`` seconds after ``now_ms`` the signatures lose their worth
    (``x=``). Raises ``InputError`` when there is no From, or a line of the header has no colon.
    """
    if not signers:
        return b""
    body_hash = BodyHash()
    body_hash.update(body)
    return _sign(relaxed_fields(header), body_hash.digest(), signers, now_ms, expires_s)


def sign_parts(
    parts: Sequence[bytes], body_digest: bytes, signers: Sequence[Signer], *, now_ms: int, expires_s: int | None = None
) -> bytes:
    """Like ``sign`` for a header in parts of whole fields and a body whose ``bh=`` is known.

    Parts that come again and again, as those of a campaign do, are canonicalised once.
    """
    if not signers:
        return b""
    fields: list[tuple[bytes, bytes]] = []
    for part in parts:
        if part:
            fields += _relaxed_part(part)
    return _sign(fields, body_digest, signers, now_ms, expires_s)


_relaxed_part = lru_cache(maxsize=1024)(relaxed_fields)


def _sign(
    fields: Sequence[tuple[bytes, bytes]],
    body_digest: bytes,
    signers: Sequence[Signer],
    now_ms: int,
    expires_s: int | None,
) -> bytes:
    h_tag, order = _chosen(tuple([one[0] for one in fields]))
    header_hash = hashlib.sha256(b"".join([fields[index][1] for index in order]))
    at_s = now_ms // 1000
    times = b"t=%d;" % at_s if expires_s is None else b"t=%d; x=%d;" % (at_s, at_s + expires_s)
    tail = b"%b\r\n\th=%b;\r\n\tbh=%b;\r\n\tb=" % (times, h_tag, b2a_base64(body_digest, newline=False))
    made = []
    for signer in signers:
        unsigned = signer.tags + tail
        digest = header_hash.copy()
        # Folded at single tabs only, so relaxing the field is one replacement; no CRLF at its end (RFC 6376 3.7).
        digest.update(b"dkim-signature:" + unsigned.replace(b"\r\n\t", b" "))
        signature = b2a_base64(signer.key.sign_digest(digest.digest()), newline=False)
        lines = [signature[at : at + 72] for at in range(0, len(signature), 72)]
        made.append(b"DKIM-Signature: %b%b\r\n" % (unsigned, b"\r\n\t ".join(lines)))
    return b"".join(made)


@lru_cache(maxsize=256)
def _chosen(present: tuple[bytes, ...]) -> tuple[bytes, tuple[int, ...]]:
    """For the names of a header's fields, from the top: the value of ``h=``, and which of them it stands for, in order.

    Of equal names the bottom one counts first (RFC 6376 5.4.2). Raises ``InputError`` when there is no From.
    """
    if b"from" not in present:
        raise InputError("the message has no From field, so it cannot be signed", mend="add a From field")
    names: list[bytes] = []
    order: list[int] = []
    for wanted, once_more, always in ((OVERSIGNED, 1, True), (OVERSIGNED_IF_PRESENT, 1, False), (SIGNED, 0, False)):
        for name in wanted:
            places = [index for index, one in enumerate(present) if one == name]
            if places or always:
                names += [name] * (len(places) + once_more)
                order += reversed(places)
    return _h_tag(names), tuple(order)


def _h_tag(names: Sequence[bytes]) -> bytes:
    """The names joined by colons, folded after a colon before column 76."""
    lines = [b""]
    for name in names:
        if len(lines[-1]) + len(name) > 70:
            lines.append(b"")
        lines[-1] += name + b":"
    return b"\r\n\t".join(lines)[:-1]
