"""Addresses (RFC 5321 4.1.2, RFC 6531 3.3) and mailboxes (RFC 5322 3.4): parsing, identity and wire form.

A domain is compared and sent as its A-label (IDNA 2008, UTS 46 mapping); a local-part is sent as it was written and
compared without regard to letter case, because no mailbox provider of today tells ``Ann`` from ``ann``.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import idna

from mailfleet.base.errors import InputError

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_PLAIN = re.compile(
    rf"({_ATEXT}+(?:\.{_ATEXT}+)*)@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{{0,61}}[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]{{0,61}}[A-Za-z0-9])"
)
_DOT_STRING = re.compile(rf"(?:{_ATEXT}|[^\x00-\x7f])+(?:\.(?:{_ATEXT}|[^\x00-\x7f])+)*")
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*)"')
_A_LABELS = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_INVISIBLE = frozenset(("Cc", "Cs", "Cf", "Zl", "Zp", "Zs", "Cn"))
_JOINERS = "\u200c\u200d"  # zero-width, but letters of some scripts need them
MAX_LOCAL_PART_BYTES = 64  # RFC 5321 4.5.3.1.1
MAX_DOMAIN_BYTES = 253
MAX_PATH_BYTES = 254  # RFC 5321 4.5.3.1.3 less the angle brackets


@dataclass(frozen=True, slots=True)
class Address:
    """``local_part`` is the value without quoting; ``domain`` is the A-label in lower case, or an address literal in brackets."""

    local_part: str
    domain: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an addr-spec or the inside of an SMTP path. Raises ``InputError`` naming what is wrong with it."""
        plain = _PLAIN.fullmatch(text)
        if (
            plain
            and len(plain[1]) <= MAX_LOCAL_PART_BYTES
            and len(text) <= MAX_PATH_BYTES
            and "xn--" not in plain[2].lower()
        ):
            return cls(plain[1], plain[2].lower())
        local_part, rest = _local_part(text)
        try:
            address = cls(local_part, domain_to_ascii(rest))
        except InputError as error:
            raise _wrong(text, error.what) from None  # the reader looks for the whole address, not for its domain
        if len(str(address).encode()) > MAX_PATH_BYTES:
            raise _wrong(text, f"the address is longer than {MAX_PATH_BYTES} bytes")
        return address

    @property
    def key(self) -> str:
        """What makes two addresses the same mailbox: for duplicates and suppressions."""
        return f"{self.local_part.casefold()}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """The local-part is not ASCII, so only a server with SMTPUTF8 can take it (RFC 6531)."""
        return not self.local_part.isascii()

    def __str__(self) -> str:
        """The wire form: quoted where it must be (RFC 5321 4.1.2)."""
        if _DOT_STRING.fullmatch(self.local_part):
            return f"{self.local_part}@{self.domain}"
        quoted = self.local_part.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"@{self.domain}'


def _local_part(text: str) -> tuple[str, str]:
    if len(text) > 1000:
        raise InputError(
            "the address is longer than 254 bytes", where=repr(text[:60] + "..."), mend="write it as name@domain"
        )
    quoted = _QUOTED.match(text)
    if quoted:
        local_part, rest = re.sub(r"\\(.)", r"\1", quoted[1]), text[quoted.end() :]
        if not rest.startswith("@"):
            raise _wrong(text, "the quoted local-part is not followed by @")
        rest = rest[1:]
    else:
        local_part, at, rest = text.rpartition("@")
        if not at:
            raise _wrong(text, "there is no @ in it")
        if not local_part:
            raise _wrong(text, "nothing stands before the @")
        if not _DOT_STRING.fullmatch(local_part):
            raise _wrong(text, "the part before the @ has a character or dot that is not allowed there unquoted")
    if not local_part.isascii():
        # RFC 6532 3.1; quoted or not, so that the same mailbox written either way is one address
        local_part = unicodedata.normalize("NFC", local_part)
        if any(
            unicodedata.category(letter) in _INVISIBLE
            for letter in local_part
            if letter > "\x7f" and letter not in _JOINERS
        ):
            raise _wrong(text, "the part before the @ has an invisible or control character")
    if len(local_part.encode("utf-8", "surrogatepass")) > MAX_LOCAL_PART_BYTES:
        raise _wrong(text, f"the part before the @ is longer than {MAX_LOCAL_PART_BYTES} bytes")
    return local_part, rest


def _wrong(text: str, what: str) -> InputError:
    return InputError(what, where=repr(text if len(text) <= 80 else text[:77] + "..."), mend="write it as name@domain")


def is_within(name: str, domain: str) -> bool:
    """Whether a domain is another or lies below it; both as A-labels in lower case, without a final dot."""
    return name == domain or name.endswith(f".{domain}")


@lru_cache(maxsize=65536)
def domain_to_ascii(domain: str) -> str:
    """A domain name or address literal in canonical form: A-labels in lower case, no trailing dot. Raises ``InputError``."""
    if domain.startswith("["):
        return _address_literal(domain)
    if not domain:
        raise _wrong("@" + domain, "nothing stands after the @")
    lowered = domain.removesuffix(".").lower()
    try:
        if not lowered.isascii() or "xn--" in lowered:
            lowered = idna.encode(lowered, uts46=True, transitional=False).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise _wrong("@" + domain, f"the domain is not a valid internationalised name: {error}") from None
    if not _A_LABELS.fullmatch(lowered) or len(lowered) > MAX_DOMAIN_BYTES:
        raise _wrong("@" + domain, "the domain has an empty, too long or misspelt label")
    if "." not in lowered:
        raise _wrong("@" + domain, "the domain has no dot")
    if lowered.rsplit(".", 1)[1].isdigit():
        raise _wrong("@" + domain, "the domain ends in a number; an IP address is written [192.0.2.1]")
    return lowered


def _address_literal(text: str) -> str:
    inner = text[1:-1] if text.endswith("]") else ""
    try:
        if "%" in inner:
            raise ValueError("a zone means nothing to another machine")  # RFC 5321 4.1.3 has no place for it
        if inner.lower().startswith("ipv6:"):
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError:
        raise _wrong("@" + text, "the address literal is not an IP address") from None


def address_literal(ip: str) -> str:
    """An IP address as it stands in place of a host (RFC 5321 4.1.3)."""
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"


def domain_to_unicode(domain: str) -> str:
    """The form for people: U-labels where they decode, else as it is."""
    if "xn--" not in domain:
        return domain
    try:
        return idna.decode(domain)
    except (idna.IDNAError, UnicodeError):
        return domain
