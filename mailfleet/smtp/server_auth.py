"""The server's side of SASL PLAIN (RFC 4616) and LOGIN, as AUTH carries them (RFC 4954)."""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field

from mailfleet.smtp.commands import CommandError

MECHANISMS = ("PLAIN", "LOGIN")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client says it is."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What to ask the client, before base64."""

    text: bytes


class PlainExchange:
    """One message: authorization identity NUL authentication identity NUL password."""

    def step(self, response: bytes | None) -> Challenge | Credentials:
        """Take the client's response, None when AUTH carried none. Raises ``CommandError``."""
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise CommandError(501, "5.5.2", "PLAIN needs identity NUL user name NUL password")
        identity, username, password = (_utf8(part) for part in parts)
        if identity not in ("", username):
            raise CommandError(535, "5.7.8", "Nobody may act for another user")
        return Credentials(username, password)


class LoginExchange:
    """User name and password, each asked for in words that clients compare literally."""

    def __init__(self) -> None:
        self._username: str | None = None

    def step(self, response: bytes | None) -> Challenge | Credentials:
        """Take the client's response, None when AUTH carried none. Raises ``CommandError``."""
        if response is None:
            return Challenge(b"Username:")
        if self._username is None:
            self._username = _utf8(response)
            return Challenge(b"Password:")
        return Credentials(self._username, _utf8(response))


def exchange(mechanism: str) -> PlainExchange | LoginExchange:
    """A fresh exchange. Raises ``CommandError`` for a mechanism that is not offered."""
    if mechanism == "PLAIN":
        return PlainExchange()
    if mechanism == "LOGIN":
        return LoginExchange()
    raise CommandError(504, "5.5.4", "That mechanism is not offered; use PLAIN or LOGIN")


def decode_response(text: bytes) -> bytes:
    """Base64 of a response line. Raises ``CommandError``, also for ``*``, by which the client gives up (RFC 4954 4)."""
    if text == b"*":
        raise CommandError(501, "5.7.0", "Authentication cancelled")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise CommandError(501, "5.5.2", "The response is not base64") from None


def encode_challenge(challenge: Challenge) -> str:
    """The text of a 334 reply."""
    return binascii.b2a_base64(challenge.text, newline=False).decode("ascii")


def _utf8(text: bytes) -> str:
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        decoded = "\0"
    if "\0" in decoded:
        raise CommandError(501, "5.5.2", "User name and password must be UTF-8 without NUL") from None
    return decoded
