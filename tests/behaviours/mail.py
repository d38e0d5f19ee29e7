"""What tests look for in mail that arrived: signatures by dkimpy, parts by the standard library."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Callable
from email.message import EmailMessage
from typing import cast

import dkim

from mailfleet.sandbox.published import Published
from tests.behaviours.server import Server

KeyOf = Callable[[str], str | None]


def keys_of_sandbox(server: Server) -> KeyOf:
    """The TXT records that the sandbox's domains have published."""
    return Published(server.data).txt


def signed_well(message: bytes, key_of: KeyOf) -> bool:
    """dkimpy's opinion of every DKIM-Signature; false when there is none."""

    def look_up(name: bytes, timeout: int = 5) -> bytes | None:
        found = key_of(name.decode().rstrip("."))
        return None if found is None else found.encode()

    count = len(re.findall(rb"^DKIM-Signature:", message, re.MULTILINE | re.IGNORECASE))
    verifier = dkim.DKIM(message)
    return count > 0 and all(verifier.verify(index, dnsfunc=look_up) for index in range(count))


def as_sent(stored: bytes) -> bytes:
    """A message from a Maildir with the line ends it travelled with."""
    return re.sub(rb"\r?\n", b"\r\n", stored)


def parsed(message: bytes) -> EmailMessage:
    """The message as the standard library reads it."""
    return email.message_from_bytes(message, policy=email.policy.default)


def text_of(message: bytes, kind: str = "plain") -> str:
    """The text of the first part ``text/<kind>``."""
    part = parsed(message).get_body((kind,))
    assert part is not None
    return str(part.get_content())


def attachments_of(message: bytes) -> dict[str, bytes]:
    """File name -> bytes."""
    return {
        str(part.get_filename()): cast(bytes, part.get_payload(decode=True))
        for part in parsed(message).walk()
        if part.get_filename()
    }
