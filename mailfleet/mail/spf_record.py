"""SPF records as text and as terms (RFC 7208 4.5, 4.6, 5, 6, 12). Pure; nothing is evaluated here."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from mailfleet.mail.spf_macro import MacroString, SpfSyntaxError, parse_domain_spec, parse_macro_string

VERSION = "v=spf1"
QUALIFIERS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
LOOKUP_MECHANISMS = frozenset({"include", "a", "mx", "ptr", "exists"})
MAX_LOOKUPS = 10  # RFC 7208 4.6.4
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TERM = re.compile(
    r"([+\-?~]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?=[:/]|$)(?::([^ ]*?))?((?:/[0-9]+)?(?://[0-9]+)?)", re.I
)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9._\-]*)=(.*)")
_NEEDS_DOMAIN = frozenset({"include", "exists"})
_NO_CIDR = frozenset({"all", "include", "ptr", "exists"})


@dataclass(frozen=True, slots=True)
class Directive:
    """A mechanism with its qualifier. ``domain`` None: the current domain. ``cidr4`` and ``cidr6``: of ``a`` and ``mx``."""

    qualifier: str
    mechanism: str
    domain: MacroString | None = None
    network: Network | None = None
    cidr4: int = 32
    cidr6: int = 128

    def __str__(self) -> str:
        text = ("" if self.qualifier == "+" else self.qualifier) + self.mechanism
        if self.domain is not None:
            text += f":{self.domain.text}"
        if self.network is not None:
            single = self.network.prefixlen == self.network.max_prefixlen
            text += f":{self.network.network_address if single else self.network}"
        text += f"/{self.cidr4}" if self.cidr4 != 32 else ""
        return text + (f"//{self.cidr6}" if self.cidr6 != 128 else "")


@dataclass(frozen=True, slots=True)
class SpfRecord:
    """A record. ``unknown``: modifiers that nobody knows, as they are written."""

    directives: tuple[Directive, ...]
    redirect: MacroString | None = None
    explanation: MacroString | None = None
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        words = [VERSION, *map(str, self.directives)]
        words += [f"redirect={self.redirect.text}"] if self.redirect else []
        words += [f"exp={self.explanation.text}"] if self.explanation else []
        return " ".join([*words, *self.unknown])

    @property
    def has_all(self) -> bool:
        """Something matches always."""
        return any(one.mechanism == "all" for one in self.directives)


def is_spf(text: str) -> bool:
    """Whether a TXT record is an SPF record at all (RFC 7208 4.5)."""
    return text[:6].lower() == VERSION and text[6:7] in ("", " ")


def parse(text: str) -> SpfRecord:
    """Raises ``SpfSyntaxError`` naming the term."""
    if not is_spf(text):
        raise SpfSyntaxError(f"it does not begin with {VERSION}")
    if not text.isascii():
        raise SpfSyntaxError("it has a character that is not ASCII")
    directives: list[Directive] = []
    known: dict[str, MacroString] = {}
    unknown: list[str] = []
    for term in text[6:].split(" "):
        if not term:
            continue
        modifier = _MODIFIER.fullmatch(term)
        if modifier is None:
            directives.append(_directive(term))
            continue
        name, value = modifier[1].lower(), modifier[2]
        if name not in ("redirect", "exp"):
            parse_macro_string(value)
            unknown.append(term)
        elif name in known:
            raise SpfSyntaxError(f"{name} is there twice")
        else:
            known[name] = parse_domain_spec(value)
    return SpfRecord(tuple(directives), known.get("redirect"), known.get("exp"), tuple(unknown))


def _directive(term: str) -> Directive:
    found = _TERM.fullmatch(term)
    if found is None:
        raise SpfSyntaxError(f"{term[:80]!r} is no mechanism")
    qualifier, mechanism, value, cidr = found[1] or "+", found[2].lower(), found[3], found[4]
    if mechanism in ("ip4", "ip6"):
        return Directive(qualifier, mechanism, network=_network(term, mechanism, value, cidr))
    if value == "" or (value is None and mechanism in _NEEDS_DOMAIN):
        raise SpfSyntaxError(f"{term!r} names no domain")
    if value is not None and mechanism == "all":
        raise SpfSyntaxError(f"{term!r}: all takes nothing")
    if cidr and mechanism in _NO_CIDR:
        raise SpfSyntaxError(f"{term!r}: {mechanism} takes no prefix length")
    domain = None if value is None else parse_domain_spec(value)
    four, _, six = cidr.partition("//")
    return Directive(qualifier, mechanism, domain, None, _bits(term, four[1:], 32), _bits(term, six, 128))


def _bits(term: str, text: str, most: int) -> int:
    if not text:
        return most
    if (text[0] == "0" and text != "0") or int(text) > most:
        raise SpfSyntaxError(f"{term!r}: /{text} is no prefix length")
    return int(text)


def _network(term: str, mechanism: str, value: str | None, cidr: str) -> Network:
    try:
        if not value or cidr.startswith("//") or cidr.count("/") > 1:
            raise ValueError
        if mechanism == "ip4":
            bits = _bits(term, cidr[1:], 32)
            return ipaddress.IPv4Network((ipaddress.IPv4Address(value), bits), strict=False)
        bits = _bits(term, cidr[1:], 128)
        if "%" in value:
            raise ValueError
        return ipaddress.IPv6Network((ipaddress.IPv6Address(value), bits), strict=False)
    except ValueError:
        raise SpfSyntaxError(f"{term!r} has no {'IPv4' if mechanism == 'ip4' else 'IPv6'} address") from None
