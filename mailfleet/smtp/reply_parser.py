"""Reading replies (RFC 5321 4.2) as they arrive, in whatever pieces. What a reply means belongs to the client."""

from __future__ import annotations

from mailfleet.base.errors import MailfleetError
from mailfleet.smtp.reply import Reply

MAX_REPLY_BYTES = 64 * 1024
MAX_REPLY_LINES = 512

# Remote text ends up in terminals and pages: control characters become U+FFFD. TAB stays.
_CONTROLS = {code: "�" for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029) if code != 0x09}
_SHOWN_BYTES = 80
# Hosts say the same few lines again and again. What differs each time fills it up, and then it begins anew.
_KNOWN: dict[bytes, Reply] = {}
_MAX_KNOWN, _SHORT = 512, 64


class ReplyError(MailfleetError):
    """What arrived is not an SMTP reply, or is longer than any reply may be. The message is a sentence for people."""


class ReplyParser:
    """Bytes in, replies out.

    ``receive`` adds bytes, ``next_reply`` takes one reply off, ``None`` when no whole one is there. Every split of the same
    bytes gives the same replies and then the same error. Tolerated: a bare LF as line end, ``250`` with no text, bytes
    outside ASCII. When the lines of one reply carry different codes the last line's counts, as its code is the one without
    a hyphen. Raises ``ReplyError``, from then on at every call.
    """

    __slots__ = ("_buffer", "_lines", "_size", "_wrong")

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[str] = []
        self._size = 0
        self._wrong = ""

    def receive(self, data: bytes) -> None:
        """Add what the remote sent."""
        self._buffer = self._buffer + data if self._buffer else data

    @property
    def pending(self) -> bool:
        """Some bytes have arrived that ``next_reply`` has not handed out."""
        return bool(self._buffer or self._lines)

    def next_reply(self) -> Reply | None:
        """The next whole reply. Raises ``ReplyError``."""
        while not self._wrong:
            end = self._buffer.find(b"\n")
            if end < 0:
                if self._size + len(self._buffer) > MAX_REPLY_BYTES:
                    self._wrong = f"a reply longer than {MAX_REPLY_BYTES} bytes"
                    break
                return None
            line, self._buffer = self._buffer[:end].rstrip(b"\r"), self._buffer[end + 1 :]
            self._size += end + 1
            if self._size > MAX_REPLY_BYTES:
                self._wrong = f"a reply longer than {MAX_REPLY_BYTES} bytes"
                break
            if not self._lines and (known := _KNOWN.get(line)) is not None:
                self._size = 0
                return known
            code, separator = line[:3], line[3:4]
            # RFC 5321 4.2.1: the first digit is 2 to 5 for a server's final or intermediate reply
            if len(code) != 3 or not code.isdigit() or not b"2" <= code < b"6" or separator not in b" -":
                self._wrong = f"a line that is not an SMTP reply: {_shown(line)}"
                break
            self._lines.append(_text(line[4:]))
            if separator != b"-":
                reply = Reply(int(code), tuple(self._lines))
                if len(self._lines) == 1 and len(line) <= _SHORT:
                    if len(_KNOWN) >= _MAX_KNOWN:
                        _KNOWN.clear()
                    _KNOWN[line] = reply
                self._lines, self._size = [], 0
                return reply
            if len(self._lines) >= MAX_REPLY_LINES:
                self._wrong = f"a reply of more than {MAX_REPLY_LINES} lines"
        self._buffer, self._lines = b"", []
        raise ReplyError(self._wrong)


def _text(raw: bytes) -> str:
    text = raw.decode("utf-8", "replace")
    return text if text.isprintable() else text.translate(_CONTROLS)


def _shown(line: bytes) -> str:
    return repr(_text(line[:_SHOWN_BYTES])) + (" ..." if len(line) > _SHOWN_BYTES else "")
