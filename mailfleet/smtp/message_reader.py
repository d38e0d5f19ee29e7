"""A message as it arrives at a server: after DATA up to the line with a single dot, or in BDAT chunks.

Only CRLF ends a line. A bare CR, a bare LF or a NUL is a violation: whoever sends it may hope that another server sees an
end of message where this one sees none (SMTP smuggling), so the message is never accepted and the connection must close.

A line longer than 998 bytes (RFC 5322 2.1.1) is refused too, once the message has ended: a good part of the mail hosts
out there refuse or break such lines, and breaking them spoils the DKIM signature. The submitter is the one who can still
encode the message otherwise.

Bytes arrive in large pieces and pass through ``find``, ``count`` and ``replace`` only; no line is looked at by itself.
"""

from __future__ import annotations

import io

from mailfleet.smtp.reply import Reply

MAX_TEXT_LINE_BYTES = 998  # RFC 5322 2.1.1, without CRLF; the dot of transparency does not count (RFC 5321 4.5.3.1.6)
_END_OF_DATA = b"\r\n.\r\n"

VIOLATION = Reply.of(554, "5.6.0", "Bare CR, bare LF or NUL in the message: end every line with CRLF")
LINE_TOO_LONG = Reply.of(
    554, "5.6.0", f"A line is longer than {MAX_TEXT_LINE_BYTES} bytes: use quoted-printable or base64"
)


class MessageReader:
    """Gathers one message. Use either ``feed_data`` or ``feed_chunk``, then ``finish``.

    ``violated`` is set as soon as the bytes cannot be trusted: reply ``VIOLATION`` and close. ``refusal`` is set when the
    message will be refused once its end has come; from then on nothing of it is kept. Both depend on the bytes alone, not
    on how they were cut.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._chunks: list[bytes] = []
        self._carry = b"\r\n"  # the line end that DATA stands for: a dot on the first line is found like any other
        self._at_start = True  # _carry is not of the message
        self._size = 0
        self._line_bytes = 0  # of the line not yet ended
        self._long_line = False
        self._refused: Reply | None = None
        self.violated = False

    @property
    def refusal(self) -> Reply | None:
        """What to say at the end of the message, if it cannot be taken."""
        if self._refused:
            return self._refused
        if self._size > self._max_bytes:
            return too_large(self._max_bytes)
        return LINE_TOO_LONG if self._long_line else None

    @property
    def kept_bytes(self) -> int:
        """Bytes of the message held in memory."""
        return self._size if self._chunks else 0

    def refuse(self, reply: Reply) -> None:
        """Forget the message; the rest of it is read and thrown away."""
        self._refused = reply
        self._chunks.clear()

    def feed_data(self, data: bytes) -> bytes | None:
        """Take bytes after DATA. Returns what follows the end of data once that has come, else None."""
        joined = self._carry + data
        dot = joined.find(b"\r\n.")
        end = joined.find(_END_OF_DATA, dot) if dot >= 0 else -1
        # What may be the beginning of the end stays until more is known. It starts at a CR, so no "\r\n." is cut in two.
        held = 0 if end >= 0 else next((size for size in (4, 3, 2, 1) if joined.endswith(_END_OF_DATA[:size])), 0)
        text = joined[: end + 2] if end >= 0 else joined[: len(joined) - held]
        self._carry = joined[len(joined) - held :] if held else b""
        self._take(text.replace(b"\r\n.", b"\r\n") if dot >= 0 else text)  # RFC 5321 4.5.2
        if end >= 0:
            return joined[end + len(_END_OF_DATA) :]
        return None

    def feed_chunk(self, data: bytes) -> None:
        """Take bytes of a BDAT chunk (RFC 3030 2): no transparency, no end of data."""
        if self._at_start:
            self._carry, self._at_start = b"", False
        joined = self._carry + data
        held = joined.endswith(b"\r")
        self._carry = b"\r" if held else b""
        self._take(joined[:-1] if held else joined)

    def finish(self) -> bytes:
        """The whole message, with the CRLF at its end that a last chunk may lack. Look at ``violated`` and ``refusal`` after it."""
        if self._carry == b"\r":
            self._violate()
        elif self._line_bytes:
            self._take(b"\r\n")
        return b"".join(self._chunks)

    def _take(self, text: bytes) -> None:
        """Check and keep a piece whose edges cut no CRLF."""
        if self.violated or not text:
            return
        if not only_crlf(text) or b"\0" in text:
            self._violate()
            return
        if self._at_start:
            text, self._at_start = text[2:], False
        self._size += len(text)
        self._long_line = self._long_line or self._has_long_line(text)
        if self.refusal:
            self._chunks.clear()
        else:
            self._chunks.append(text)

    def _violate(self) -> None:
        self.violated = True
        self._chunks.clear()

    def _has_long_line(self, text: bytes) -> bool:
        """Look for a line end in each stretch that must have one. ``text`` has no bare LF."""
        size, window, from_end = len(text), MAX_TEXT_LINE_BYTES + 2, text.rfind
        start = 0
        if self._line_bytes + size >= window:
            start = from_end(b"\n", 0, window - self._line_bytes) + 1
            if not start:
                return True
        while start + window <= size:
            newline = from_end(b"\n", start, start + window)
            if newline < 0:
                return True
            start = newline + 1
        last = text.rfind(b"\n")
        self._line_bytes = len(text) - last - 1 if last >= 0 else self._line_bytes + len(text)
        return self._line_bytes > MAX_TEXT_LINE_BYTES


def only_crlf(text: bytes) -> bool:
    """Whether CR and LF occur in ``text`` only side by side. Two gigabytes a second; counting the three takes six times as long."""
    decoder = io.IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(text.decode("latin-1"), final=True)
    return decoder.newlines in (None, "\r\n")


def too_large(max_bytes: int) -> Reply:
    """The reply to a message, or a declared size, above the limit (RFC 1870 6.1)."""
    return Reply.of(552, "5.3.4", f"The message is larger than {max_bytes} bytes")
