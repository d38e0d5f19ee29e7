"""Accepted mail, read back byte for byte as it arrived, so that signatures still verify."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mailfleet.mail.address import Address
from mailfleet.sandbox import journal
from mailfleet.sandbox.spool import Place, SpoolReader

_UNSAFE = re.compile(r"[^\w@.+-]")


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One accepted delivery. ``data`` is the message after dot-unstuffing, CRLF line ends."""

    provider: str
    recipient: str
    sender: str
    at_ms: int
    data: bytes


def messages(data_dir: Path, address: str | None = None) -> Iterator[StoredMessage]:
    """What was accepted, oldest first, repeats included; only for ``address`` when given (letter case does not matter).

    Mail that was deleted to stay within ``sandbox.keep_mail_mb`` is left out. Raises ``InputError`` for a malformed address.
    """
    wanted = None if address is None else str(Address.parse(address)).casefold()
    return _messages(data_dir, wanted)


def _messages(data_dir: Path, wanted: str | None) -> Iterator[StoredMessage]:
    reader = SpoolReader(data_dir)
    try:
        for _, one in journal.read(data_dir):
            if not one.accepted or (wanted is not None and one.recipient.casefold() != wanted):
                continue
            data = reader.read(Place(one.segment, one.offset, one.length))
            if data is not None:
                yield StoredMessage(one.provider, one.recipient, one.sender, one.at_ms, data)
    finally:
        reader.close()


def save(data_dir: Path, folder: Path, address: str | None = None) -> int:
    """Write each message to ``folder`` as ``000001-ann@example.org.eml``; returns how many. Files of that name are replaced."""
    found = messages(data_dir, address)
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, message in enumerate(found, 1):
        name = _UNSAFE.sub("_", message.recipient)[:80]
        (folder / f"{count:06d}-{name}.eml").write_bytes(message.data)
    return count
