"""The stored form of compiled content: a version, a JSON head, and the attachments' bytes behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from mailfleet.base.errors import InputError
from mailfleet.mail.mime import EncodedPart

_MAGIC = b"mfc1"


@dataclass(frozen=True, slots=True)
class ContentRecord:
    """Everything that filling needs, as plain values: CSS is inlined, the text is made, attachments are encoded."""

    sender: str
    subject: str
    html: str | None
    text: str | None
    reply_to: str
    headers: tuple[tuple[str, str], ...]
    templated: bool
    to: tuple[str, ...]
    cc: tuple[str, ...]
    boundary_seed: str
    warnings: tuple[str, ...]
    parts: tuple[EncodedPart, ...]

    def to_bytes(self) -> bytes:
        """Magic, length of the head (4 bytes, big-endian), head, then fields and body of each part."""
        head = orjson.dumps(
            {
                **{name: getattr(self, name) for name in _PLAIN},
                "parts": [(len(part.fields), len(part.body), part.content_id) for part in self.parts],
            }
        )
        return b"".join(
            (
                _MAGIC,
                len(head).to_bytes(4, "big"),
                head,
                *(piece for part in self.parts for piece in (part.fields, part.body)),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> ContentRecord:
        """Read ``to_bytes`` back. Raises ``InputError`` when it is not that, or was cut short."""
        try:
            if data[:4] != _MAGIC:
                raise ValueError("magic")
            at = 8 + int.from_bytes(data[4:8], "big")
            head: dict[str, Any] = orjson.loads(data[8:at])
            parts = []
            for fields_length, body_length, content_id in head["parts"]:
                middle, end = at + fields_length, at + fields_length + body_length
                parts.append(EncodedPart(data[at:middle], data[middle:end], content_id))
                at = end
            if at != len(data):
                raise ValueError("length")
            values = {name: head[name] for name in _PLAIN}
        except (ValueError, KeyError, TypeError):
            raise InputError(
                "these bytes are not content of this version", where="content", mend="make the content again"
            ) from None
        for name in ("to", "cc", "warnings"):
            values[name] = tuple(values[name])
        values["headers"] = tuple((name, value) for name, value in values["headers"])
        return cls(**values, parts=tuple(parts))


_PLAIN = tuple(name for name in ContentRecord.__dataclass_fields__ if name != "parts")
