"""What a server offers in its reply to EHLO (RFC 5321 4.1.1.1), as the client needs to know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Extensions:
    """Service extensions offered. ``max_message_bytes`` is the SIZE limit, 0 when there is none or it is not told."""

    pipelining: bool = False  # RFC 2920
    size: bool = False  # RFC 1870
    max_message_bytes: int = 0
    eightbitmime: bool = False  # RFC 6152
    smtputf8: bool = False  # RFC 6531
    dsn: bool = False  # RFC 3461
    chunking: bool = False  # RFC 3030
    starttls: bool = False  # RFC 3207
    enhanced_status_codes: bool = False  # RFC 2034
    requiretls: bool = False  # RFC 8689
    auth: frozenset[str] = frozenset()  # RFC 4954

    @classmethod
    def parse(cls, lines: Sequence[str]) -> Extensions:
        """Read the lines of the EHLO reply. The first line is the greeting; keywords that are not known are passed over."""
        offered: dict[str, list[str]] = {}
        for line in lines[1:]:
            # "AUTH=LOGIN" is how servers of the nineties wrote it, and some still add that line
            words = line.replace("AUTH=", "AUTH ", 1).split()
            if words:
                offered.setdefault(words[0].upper(), []).extend(words[1:])
        size = offered.get("SIZE", [])
        return cls(
            pipelining="PIPELINING" in offered,
            size="SIZE" in offered,
            max_message_bytes=int(size[0]) if size and size[0].isascii() and size[0].isdigit() else 0,
            eightbitmime="8BITMIME" in offered,
            smtputf8="SMTPUTF8" in offered,
            dsn="DSN" in offered,
            chunking="CHUNKING" in offered,
            starttls="STARTTLS" in offered,
            enhanced_status_codes="ENHANCEDSTATUSCODES" in offered,
            requiretls="REQUIRETLS" in offered,
            auth=frozenset(mechanism.upper() for mechanism in offered.get("AUTH", [])),
        )
