"""The transcript of a session or transaction: cheap to keep, put into words only when somebody asks.

One line for each command or reply: ``+12 < 250 2.1.0 Ok``. The number is milliseconds since the start; ``>`` was sent, ``<``
was received, ``*`` is a remark (TLS, a time-out, a lost connection). The message appears as its size only.
"""

from __future__ import annotations

from mailfleet.smtp.reply import Reply

MAX_TRANSCRIPT_CHARS = 4096
_MAX_LINE_CHARS = 500
_TAIL_CHARS = 1536  # the last words matter most: that is where it ended


class TranscriptLog:
    """Entries with their time. ``start_s`` and every ``now_s`` are seconds on the same monotonic clock."""

    __slots__ = ("_entries", "_start_s")

    def __init__(self, start_s: float) -> None:
        self._start_s = start_s
        self._entries: list[tuple[float, str, str | Reply]] = []

    def sent(self, now_s: float, commands: str) -> None:
        """``commands`` may be several, each ending CRLF."""
        self._entries.append((now_s, ">", commands))

    def received(self, now_s: float, reply: Reply) -> None:
        """A whole reply."""
        self._entries.append((now_s, "<", reply))

    def remark(self, now_s: float, words: str) -> None:
        """Something that was not said but happened."""
        self._entries.append((now_s, "*", words))

    def text(self) -> str:
        """All lines, at most ``MAX_TRANSCRIPT_CHARS``; what is left out of the middle is counted."""
        lines: list[str] = []
        start_s = self._start_s
        for at_s, direction, what in self._entries:
            stamp = f"+{round((at_s - start_s) * 1000)} {direction} "
            if isinstance(what, str):
                lines += [stamp + command for command in what.removesuffix("\r\n").split("\r\n")]
            else:
                last = len(what.lines) - 1
                for index, line in enumerate(what.lines):
                    lines.append(f"{stamp}{what.code}{' ' if index == last else '-'}{line}".rstrip())
        text = "\n".join(lines)
        if len(text) <= _MAX_LINE_CHARS:
            return text
        lines = [line if len(line) <= _MAX_LINE_CHARS else line[: _MAX_LINE_CHARS - 4] + " ..." for line in lines]
        text = "\n".join(lines)
        return text if len(text) <= MAX_TRANSCRIPT_CHARS else "\n".join(_without_middle(lines))


def _without_middle(lines: list[str]) -> list[str]:
    tail: list[str] = []
    room = _TAIL_CHARS
    while lines and room >= len(lines[-1]) + 1:
        room -= len(lines[-1]) + 1
        tail.insert(0, lines.pop())
    head: list[str] = []
    room = MAX_TRANSCRIPT_CHARS - _TAIL_CHARS - 40
    for line in lines:
        if room < len(line) + 1:
            break
        room -= len(line) + 1
        head.append(line)
    return [*head, f"* ({len(lines) - len(head)} lines left out)", *tail]
