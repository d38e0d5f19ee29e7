"""Checking DKIM signatures (RFC 6376 6, RFC 8301, RFC 8463). Pure: whoever calls brings the DNS answers and the time.

Stricter than it must be in one thing: a body only part of which is signed (``l=``) does not pass.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mailfleet.base.errors import InputError, MailfleetError
from mailfleet.mail.address import domain_to_ascii, is_within
from mailfleet.mail.dkim_canon import relaxed_body, relaxed_field, simple_body
from mailfleet.mail.dkim_key import ED25519, PADDING, PREHASHED, RSA
from mailfleet.mail.dkim_record import PublicKey, colon_list, parse_record, parse_tags
from mailfleet.mail.fields import HeaderField, get_all, split_fields, split_message

MAX_SIGNATURES = 16  # of one message that are worth the work; the rest are permerror
CLOCK_SLACK_S = 3600  # a signature may be this far in the future
Result = Literal["ok", "fail", "permerror", "temperror"]
_B_VALUE = re.compile(rb"((?:^|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")
_SELECTOR = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_NAME = re.compile(r"[!-9<-~]+")


class LookupFailedError(MailfleetError):
    """What ``lookup`` raises when DNS did not answer: the signature is then ``temperror``."""


@dataclass(frozen=True, slots=True)
class SignatureResult:
    """What one DKIM-Signature field is worth. ``reason`` is a plain sentence, empty for ``ok``.

    ``domain`` and ``selector`` are A-labels, or what the field said when it could not be read. ``testing``: the key's
    record carries ``t=y``, so a failure must not be held against the domain (RFC 6376 3.6.1).
    """

    domain: str
    selector: str
    result: Result
    reason: str = ""
    algorithm: str = ""
    key_bits: int = 0
    testing: bool = False


class _VerdictError(Exception):
    """Ends the check of one signature."""

    def __init__(self, result: Result, reason: str) -> None:
        self.result: Result = result
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class _Signature:
    """A DKIM-Signature field, read."""

    field: HeaderField
    algorithm: str
    domain: str
    selector: str
    identity_domain: str
    relaxed_header: bool
    relaxed_body: bool
    names: tuple[str, ...]
    body_hash: bytes
    signature: bytes
    signed_length: int | None


class _Arrived:
    """The message under check; each canonical body is made once for all signatures."""

    def __init__(self, fields: list[HeaderField], body: bytes) -> None:
        self.fields = fields
        self._body = body

    @cached_property
    def relaxed(self) -> bytes:
        return relaxed_body(self._body)

    @cached_property
    def simple(self) -> bytes:
        return simple_body(self._body)


def verify(message: bytes, lookup: Callable[[str], str | None], *, now_ms: int | None = None) -> list[SignatureResult]:
    """Check every DKIM-Signature of ``message``, from the top; an unsigned message gives an empty list.

    ``lookup`` gets ``selector._domainkey.domain`` and returns the TXT record with its strings joined, ``None`` when there
    is none, or raises ``LookupFailedError``. Without ``now_ms`` the instants of ``t=`` and ``x=`` are not compared with
    any clock. Raises ``InputError`` when the header of ``message`` is malformed.
    """
    header, body = split_message(message)
    arrived = _Arrived(split_fields(header), body)
    results = []
    for index, field in enumerate(get_all(arrived.fields, "DKIM-Signature")):
        if index >= MAX_SIGNATURES:
            results.append(SignatureResult("", "", "permerror", f"more than {MAX_SIGNATURES} signatures"))
            continue
        results.append(_verify_one(field, arrived, lookup, now_ms))
    return results


def _verify_one(
    field: HeaderField, arrived: _Arrived, lookup: Callable[[str], str | None], now_ms: int | None
) -> SignatureResult:
    tags: dict[str, str] = {}
    key: PublicKey | None = None
    result: Result = "ok"
    reason = ""
    try:
        tags = parse_tags(field.raw_value.decode("utf-8"))
        signature = _read(field, tags, now_ms)
        key = _fetch(signature, lookup)
        _check_body(signature, arrived)
        _check_header(signature, key, arrived.fields)
    except _VerdictError as verdict:
        result, reason = verdict.result, verdict.reason
    except LookupFailedError:
        result, reason = "temperror", "the key could not be looked up in DNS"
    except (InputError, UnicodeDecodeError) as error:
        result, reason = "permerror", error.what if isinstance(error, InputError) else "the field is not UTF-8"
    return SignatureResult(
        domain=_shown_domain(tags.get("d", "")),
        selector=tags.get("s", "").lower(),
        result=result,
        reason=reason,
        algorithm=tags.get("a", ""),
        key_bits=key.bits if key else 0,
        testing=key.testing if key else False,
    )


def _shown_domain(text: str) -> str:
    try:
        return domain_to_ascii(text)
    except InputError:
        return text


def _read(field: HeaderField, tags: dict[str, str], now_ms: int | None) -> _Signature:
    """RFC 6376 6.1.1: everything that can be refused without asking DNS."""
    missing = [name for name in ("v", "a", "b", "bh", "d", "h", "s") if not tags.get(name)]
    if missing:
        raise InputError(f"the signature lacks the tag {missing[0]}=")
    if tags["v"] != "1":
        raise InputError(f"unknown version v={tags['v'][:20]}")
    if tags["a"] not in (RSA, ED25519):  # RFC 8301 3.1: rsa-sha1 must not pass
        raise InputError(f"the algorithm {tags['a'][:30]} is not accepted")
    if "dns/txt" not in colon_list(tags.get("q", "dns/txt")):
        raise InputError("the signature does not offer its key by DNS")
    header_canon, _, body_canon = tags.get("c", "simple/simple").partition("/")
    if {header_canon, body_canon or "simple"} - {"simple", "relaxed"}:
        raise InputError(f"unknown canonicalisation c={tags['c'][:40]}")
    names = tuple(colon_list(tags["h"].lower()))
    if not all(_NAME.fullmatch(name) for name in names):
        raise InputError("h= is not a list of header field names")
    if "from" not in names:
        raise InputError("From is not among the signed fields")  # RFC 6376 5.4
    _check_times(tags, now_ms)
    domain = domain_to_ascii(tags["d"])
    return _Signature(
        field=field,
        algorithm=tags["a"],
        domain=domain,
        selector=_ascii_selector(tags["s"]),
        identity_domain=_identity_domain(tags.get("i", ""), domain),
        relaxed_header=header_canon == "relaxed",
        relaxed_body=body_canon == "relaxed",
        names=names,
        body_hash=_base64(tags["bh"], "bh"),
        signature=_base64(tags["b"], "b"),
        signed_length=_number(tags, "l", 76),
    )


def _ascii_selector(selector: str) -> str:
    if _SELECTOR.fullmatch(selector):
        return selector.lower()
    try:
        # RFC 8616 4: U-labels are allowed. domain_to_ascii insists on a dot, which a selector need not have.
        return domain_to_ascii(f"{selector}.example").removesuffix(".example")
    except InputError:
        raise InputError("s= is not a selector") from None


def _identity_domain(identity: str, domain: str) -> str:
    """``i=`` must be ``d=`` or a subdomain of it (RFC 6376 6.1.1)."""
    if not identity:
        return domain
    _, at, host = identity.rpartition("@")
    found = domain_to_ascii(host) if at else ""
    if not is_within(found, domain):
        raise InputError("i= is not within the domain of d=")
    return found


def _number(tags: dict[str, str], name: str, digits: int) -> int | None:
    if name not in tags:
        return None
    if not tags[name].isascii() or not tags[name].isdigit() or len(tags[name]) > digits:
        raise InputError(f"{name}= is not a number")
    return int(tags[name])


def _check_times(tags: dict[str, str], now_ms: int | None) -> None:
    made_s, expires_s = _number(tags, "t", 12), _number(tags, "x", 12)
    if made_s is not None and expires_s is not None and expires_s <= made_s:
        raise InputError("x= is not after t=")  # RFC 6376 3.5
    if now_ms is None:
        return
    if expires_s is not None and expires_s * 1000 < now_ms:
        raise _VerdictError("fail", "the signature has expired")
    if made_s is not None and made_s > now_ms // 1000 + CLOCK_SLACK_S:
        raise _VerdictError("fail", "the signature was made in the future")


def _base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"[ \t\r\n]+", "", text).encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{name}= is not base64") from None


def _fetch(signature: _Signature, lookup: Callable[[str], str | None]) -> PublicKey:
    """RFC 6376 6.1.2."""
    name = f"{signature.selector}._domainkey.{signature.domain}"
    record = lookup(name)
    if record is None:
        raise _VerdictError("permerror", f"there is no key at {name}")
    key = parse_record(record)
    if key.strict and signature.identity_domain != signature.domain:
        raise _VerdictError("permerror", "the key may not sign for subdomains (t=s)")
    expected = RSA if isinstance(key.public, RSAPublicKey) else ED25519
    if expected != signature.algorithm:
        raise _VerdictError("permerror", f"the key at {name} is not for {signature.algorithm}")
    return key


def _check_body(signature: _Signature, arrived: _Arrived) -> None:
    canonical = arrived.relaxed if signature.relaxed_body else arrived.simple
    length = signature.signed_length
    if length is not None and length > len(canonical):
        raise _VerdictError("permerror", "l= is longer than the body")  # RFC 6376 3.5
    if not hmac.compare_digest(hashlib.sha256(canonical[:length]).digest(), signature.body_hash):
        raise _VerdictError("fail", "the body is not the one that was signed")
    if length is not None and length < len(canonical):
        raise _VerdictError("fail", f"l= leaves {len(canonical) - length} bytes of the body unsigned")  # RFC 6376 8.2


def _check_header(signature: _Signature, key: PublicKey, fields: Sequence[HeaderField]) -> None:
    """RFC 6376 3.7: the chosen fields from the bottom up, then the signature itself with ``b=`` emptied."""
    pool: dict[str, list[HeaderField]] = {}
    for field in fields:
        if field is not signature.field:
            pool.setdefault(field.key, []).append(field)
    data = [_canonical(pool[name].pop(), signature) + b"\r\n" for name in signature.names if pool.get(name)]
    own = signature.field
    emptied = _B_VALUE.sub(rb"\1", own.raw_value, count=1)
    own = own._replace(raw=own.raw[: -len(own.raw_value)] + emptied, raw_value=emptied)
    data.append(_canonical(own, signature))
    digest = hashlib.sha256(b"".join(data)).digest()
    try:
        if isinstance(key.public, Ed25519PublicKey):
            key.public.verify(signature.signature, digest)
        else:
            key.public.verify(signature.signature, digest, PADDING, PREHASHED)
    except InvalidSignature:
        raise _VerdictError("fail", "the signed header fields were changed, or another key signed") from None


def _canonical(field: HeaderField, signature: _Signature) -> bytes:
    return relaxed_field(field.name, field.raw_value) if signature.relaxed_header else field.raw.removesuffix(b"\r\n")
