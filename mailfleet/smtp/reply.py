"""SMTP replies (RFC 5321 4.2) and enhanced status codes (RFC 3463): the words of the protocol, as values."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailfleet.base.errors import InputError

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|$)")


@dataclass(frozen=True, slots=True, order=True)
class EnhancedStatus:
    """``class.subject.detail`` of RFC 3463, for example 5.1.1."""

    klass: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"

    @classmethod
    def parse(cls, text: str) -> EnhancedStatus | None:
        """The code at the start of ``text``, or ``None``."""
        match = _ENHANCED.match(text)
        return cls(int(match[1]), int(match[2]), int(match[3])) if match else None


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply. ``lines`` hold the text of each line after code and separator, enhanced status included, undecorated.

    Bytes outside ASCII are decoded as UTF-8 with replacement characters: some remotes send Latin-1.
    """

    code: int
    lines: tuple[str, ...]

    @classmethod
    def of(cls, code: int, enhanced: str, *lines: str) -> Reply:
        """A reply of ours: the enhanced status stands on every line (RFC 2034 4); empty ``enhanced`` for 220, 221-less greetings."""
        return cls(code, tuple(f"{enhanced} {line}" if enhanced else line for line in lines))

    @property
    def enhanced(self) -> EnhancedStatus | None:
        """The enhanced status of the first line, if it has one whose class agrees with the code (RFC 2034 4)."""
        found = EnhancedStatus.parse(self.lines[0]) if self.lines else None
        return found if found and found.klass == self.code // 100 else None

    @property
    def text(self) -> str:
        """All lines joined by a space, enhanced status included: what people quote and rules match."""
        return " ".join(self.lines)

    @property
    def positive(self) -> bool:
        """2yz."""
        return 200 <= self.code < 300

    @property
    def intermediate(self) -> bool:
        """3yz."""
        return 300 <= self.code < 400

    @property
    def transient(self) -> bool:
        """4yz."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5yz."""
        return 500 <= self.code < 600

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()

    def encode(self) -> bytes:
        """The wire form, every line ending CRLF; UTF-8, which RFC 6531 3.7.4.1 allows only where the client asked for it."""
        last = len(self.lines) - 1
        if last < 0:
            return b"%d \r\n" % self.code
        return b"".join(
            b"%d%s%s\r\n" % (self.code, b" " if index == last else b"-", line.encode())
            for index, line in enumerate(self.lines)
        )


class RefusedMessage(InputError):  # noqa: N818 (it reads as what happened, beside InputError)
    """Mail that is refused with a reply of the refuser's choice: raised where a message is accepted, said by the entrance.

    ``where`` and ``mend`` are for entrances that do not speak SMTP.
    """

    def __init__(self, reply: Reply, *, where: str = "", mend: str = "") -> None:
        self.reply = reply
        super().__init__(reply.lines[0].partition(" ")[2] if reply.enhanced else reply.text, where=where, mend=mend)
