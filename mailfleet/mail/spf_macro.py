"""Macros of SPF records (RFC 7208 7): read once, filled as often as needed. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from mailfleet.base.errors import MailfleetError

MAX_NAME = 253  # RFC 7208 7.3: longer names lose labels from the left
_LETTERS = "slodiphcrtv"
_ONLY_IN_EXPLANATIONS = "crt"  # RFC 7208 7.2
_EXPAND = re.compile(r"%(?:\{([A-Za-z])([0-9]*)([rR]?)([.\-+,/_=]*)\}|([%_\-]))")
_LITERAL = re.compile(r"[\x21-\x24\x26-\x7e]+")
_LITERAL_OR_SPACE = re.compile(r"[\x20-\x24\x26-\x7e]+")
_ESCAPED = {"%": "%", "_": " ", "-": "%20"}
_TOPLABEL = re.compile(r"\.(?:[0-9A-Za-z]*[A-Za-z][0-9A-Za-z]*|[0-9A-Za-z]+-[0-9A-Za-z-]*[0-9A-Za-z])\.?")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class SpfSyntaxError(MailfleetError):
    """A record that RFC 7208 does not allow; the message says which term and why."""


class Expand(NamedTuple):
    """One ``%{...}``: ``digits`` 0 keeps all parts."""

    letter: str
    digits: int
    reverse: bool
    delimiters: str
    escape: bool  # a letter in upper case: URL-escaped


@dataclass(frozen=True, slots=True)
class MacroString:
    """Text with macros; ``parts`` are literal text and ``Expand``."""

    text: str
    parts: tuple[str | Expand, ...]

    @property
    def letters(self) -> frozenset[str]:
        """The macros in it."""
        return frozenset(part.letter for part in self.parts if isinstance(part, Expand))

    def filled(self, values: Mapping[str, str]) -> str:
        """With the value of each letter put in."""
        return "".join(part if isinstance(part, str) else _one(part, values[part.letter]) for part in self.parts)


def parse_macro_string(text: str, *, explanation: bool = False) -> MacroString:
    """Raises ``SpfSyntaxError``. ``explanation``: blanks and the letters c, r, t are allowed."""
    parts: list[str | Expand] = []
    place = 0
    literal = _LITERAL_OR_SPACE if explanation else _LITERAL
    while place < len(text):
        found = literal.match(text, place)
        if found:
            parts.append(found[0])
            place = found.end()
            continue
        found = _EXPAND.match(text, place)
        if not found:
            raise SpfSyntaxError(f"{text[place:][:20]!r} in {text[:80]!r} is no macro and no plain text")
        parts.append(_ESCAPED[found[5]] if found[5] else _expand(found, explanation))
        place = found.end()
    return MacroString(text, tuple(parts))


def parse_domain_spec(text: str) -> MacroString:
    """A domain with macros (RFC 7208 7.1): it ends in a macro, or in a label that is not all digits."""
    spec = parse_macro_string(text)
    ends_in_macro = bool(spec.parts) and text.endswith("}") and isinstance(spec.parts[-1], Expand)
    if not ends_in_macro and not text.endswith(("%%", "%_", "%-")):
        place = text.rstrip(".").rfind(".") if text.endswith(".") else text.rfind(".")
        if place < 0 or not _TOPLABEL.fullmatch(text[place:]):
            raise SpfSyntaxError(f"{text!r} is no domain name")
    return spec


def address_macro(ip: Address) -> str:
    """``%{i}``: IPv6 as dotted nibbles (RFC 7208 7.3)."""
    return str(ip) if ip.version == 4 else ".".join(ip.exploded.replace(":", ""))


def shortened(name: str) -> str:
    """A name that DNS can hold: labels are taken off the left side (RFC 7208 7.3)."""
    while len(name) > MAX_NAME and "." in name:
        name = name.partition(".")[2]
    return name


def _expand(found: re.Match[str], explanation: bool) -> Expand:
    letter = found[1].lower()
    if letter not in _LETTERS:
        raise SpfSyntaxError(f"{found[0]} is no macro")
    if letter in _ONLY_IN_EXPLANATIONS and not explanation:
        raise SpfSyntaxError(f"{found[0]} is for explanations only")
    if found[2] and int(found[2]) == 0:
        raise SpfSyntaxError(f"{found[0]}: no part at all is left")
    return Expand(letter, int(found[2] or 0), bool(found[3]), found[4] or ".", found[1].isupper())


def _one(macro: Expand, value: str) -> str:
    parts = re.split(f"[{re.escape(macro.delimiters)}]", value)
    if macro.reverse:
        parts.reverse()
    if macro.digits:
        parts = parts[-macro.digits :]
    filled = ".".join(parts)
    return quote(filled, safe="-._~") if macro.escape else filled
