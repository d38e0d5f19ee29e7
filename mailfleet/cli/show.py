"""How things look: tables, JSON, problems. On a terminal in colour and within its width; piped plain, whole and unwrapped.

Words of strangers (a remote's reply, a recipient's name) pass ``clean`` first, so that they cannot steer the terminal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# C0, DEL, C1 and the bidirectional overrides: what moves a cursor, changes a colour or reorders what stands around it.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

STATE_STYLE = {
    "delivered": "green",
    "finished": "green",
    "bounced": "red",
    "expired": "red",
    "deferred": "yellow",
    "paused": "yellow",
    "suppressed": "magenta",
    "cancelled": "magenta",
    "sending": "cyan",
    "leased": "cyan",
}


def stdout() -> Console:
    """Standard output as it is now."""
    return Console(highlight=False, markup=False, emoji=False)


def stderr() -> Console:
    """Standard error as it is now: notices, progress, errors."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def clean(text: object) -> str:
    """``text`` with every character that could steer a terminal written as its escape. Line ends and tabs stay."""
    return _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def styled(*parts: tuple[object, str]) -> Text:
    """A line from (text, style) pairs; the text is cleaned."""
    line = Text()
    for text, style in parts:
        line.append(clean(text), style=style)
    return line


def say(console: Console, text: str | Text = "") -> None:
    """One line or paragraph: wrapped at words on a terminal, whole when piped."""
    console.print(clean(text) if isinstance(text, str) else text, soft_wrap=not console.is_terminal)


def json_line(value: object) -> None:
    """One JSON value on one line of standard output, flushed, so that a reader at the other end of a pipe sees it now."""
    utf8 = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(value, ensure_ascii=not utf8, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def table(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    title: str = "",
    whole: Sequence[str] = (),
) -> None:
    """Rows under headings. ``right`` names columns of numbers, ``whole`` columns that must not be broken or cut."""
    cells = [["" if cell is None else clean(cell) for cell in row] for row in rows]
    if not console.is_terminal:
        _plain_table(console, columns, cells, right, title)
        return
    drawn = Table(box=None, title=title or None, title_justify="left", title_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        drawn.add_column(
            name,
            justify="right" if name in right else "left",
            header_style="dim",
            overflow="fold",
            no_wrap=name in whole or name in right,
        )
    for row in cells:
        drawn.add_row(*(Text(cell, style=STATE_STYLE.get(cell, "")) for cell in row))
    console.print(drawn)


def _plain_table(
    console: Console, columns: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[str], title: str
) -> None:
    if title:
        console.print(title, soft_wrap=True)
    flat = [columns, *([cell.replace("\n", " ") for cell in row] for row in cells)]
    widths = [max(len(row[index]) for row in flat) for index in range(len(columns))]
    for row in flat:
        padded = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        )
        console.print("  ".join(padded).rstrip(), soft_wrap=True)


def problem_table(
    console: Console, problems: Sequence[Mapping[str, Any]], count: int, *, title: str = "Rows that cannot be used"
) -> None:
    """Every problem by line: ``ProblemView`` objects. ``count`` is the true number when the server cut its list."""
    rows = [
        (
            problem.get("line") or "",
            problem.get("field", ""),
            problem.get("what", ""),
            shorten(problem.get("value", ""), 60),
            problem.get("mend", ""),
        )
        for problem in problems
    ]
    names = ("line", "field", "what is wrong", "value", "mend")
    used = [index for index in range(len(names)) if index in (0, 2) or any(row[index] for row in rows)]
    table(
        console,
        [names[index] for index in used],
        ([row[index] for index in used] for row in rows),
        right=("line",),
        whole=("field",),
        title=title,
    )
    if count > len(problems):
        say(console, f"... and {count - len(problems):,} more")
    say(console)


def shorten(text: object, limit: int) -> str:
    """``text`` cut to ``limit`` characters, the cut marked."""
    whole = str(text)
    return whole if len(whole) <= limit else whole[: limit - 1] + "…"


def number(value: object) -> str:
    """``12345`` -> ``12,345``; what is no number stays."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def duration(seconds: float) -> str:
    """For people: ``0.8 s``, ``42 s``, ``3 min 5 s``, ``2 h 4 min``, ``3 d 1 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size(count: float) -> str:
    """Bytes for people: ``812 bytes``, ``2.4 MB``."""
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000 or unit == "GB":
            break
    return f"{count:.1f} {unit}"


def moment(at: object) -> str:
    """An RFC 3339 instant as ``2026-01-31 09:00:00`` (UTC, as the headings say); empty for none."""
    return str(at or "")[:19].replace("T", " ")
