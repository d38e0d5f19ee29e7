"""xtext (RFC 3461 4), the encoding of ENVID and ORCPT values in SMTP parameters, and its UTF-8 kin of RFC 6533 3."""

from __future__ import annotations

import re

from mailfleet.base.errors import InputError

_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR = re.compile(rb"\+([0-9A-F]{2})")
_UNSAFE = re.compile(rb"[^!-*,-<>-~]")
# RFC 6533 3: QCHAR leaves out "+", "=" and "\"; HEXPOINT has two to six digits.
_EMBEDDED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_NOT_QCHAR = re.compile(r"[^!-*,-<>-\[\]-~]")
_UTF8_ADDRESS = re.compile(r"(?:[!-*,-<>-\[\]-~]|[^\x00-\x7f]|\\x\{[0-9A-F]{2,6}\})*")
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")


def encode(text: str) -> str:
    """``text`` as xtext: ``+``, ``=``, controls, space and every byte of non-ASCII UTF-8 become ``+HH``."""
    return _UNSAFE.sub(lambda match: b"+%02X" % match[0][0], text.encode()).decode("ascii")


def decode(text: str) -> str:
    """Read xtext back. Raises ``InputError`` on anything that is not xtext, or does not decode to UTF-8."""
    try:
        raw = text.encode("ascii")
        if not _XTEXT.fullmatch(raw):
            raise ValueError(text)
        return _HEXCHAR.sub(lambda match: bytes([int(match[1], 16)]), raw).decode("utf-8")
    except ValueError:
        raise InputError(
            f"{text[:60]!r} is not xtext", mend="write +HH with capital hex digits for +, = and what is not printable"
        ) from None


def decode_orcpt(text: str) -> str:
    """An ORCPT parameter to ``type;address``. The type ``utf-8`` has an encoding of its own (RFC 6533 3). Raises ``InputError``."""
    address_type, semicolon, address = text.partition(";")
    if not semicolon or not address or not _ADDRESS_TYPE.fullmatch(address_type):
        raise InputError(f"{text[:60]!r} is not an ORCPT value", mend="write it as rfc822;name@domain in xtext")
    if address_type.lower() != "utf-8":
        return f"{address_type};{decode(address)}"
    return f"{address_type};{decode_utf8_address(address)}"


def encode_utf8_address(address: str) -> str:
    r"""An internationalised address in ASCII (utf-8-addr-xtext, RFC 6533 3): ``\x{HEX}`` for whatever ASCII cannot show."""
    return _NOT_QCHAR.sub(lambda match: f"\\x{{{ord(match[0]):02X}}}", address)


def decode_utf8_address(text: str) -> str:
    """Read utf-8-addr-xtext or utf-8-addr-unitext (RFC 6533 3). Raises ``InputError``."""
    try:
        if not _UTF8_ADDRESS.fullmatch(text):
            raise ValueError(text)
        decoded = _EMBEDDED.sub(lambda match: chr(int(match[1], 16)), text)
        decoded.encode()  # a surrogate is no character
    except (ValueError, OverflowError):
        raise InputError(
            f"{text[:60]!r} is not an address of type utf-8", mend="write \\x{HEX} as in RFC 6533"
        ) from None
    return decoded
