"""A message's whole story for people: when it was accepted, each try with the remote's words, what that meant, what is next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mailfleet.cli import show
from mailfleet.engine.views import site_name

_KIND_WORDS = {
    "lease_released": "handed back untried",
    "repeat_possible": "worker died on the wire",
    "dsn_sent": "DSN sent",
}
# Told in the first line of an event, or in the lines made for them below; every other key is shown as it is.
_TOLD = frozenset(
    {
        "reply", "detail", "evidence", "reason", "failure", "transcript", "attempt", "mx", "ip", "tls", "phase", "seconds",
        "class", "fault", "rule", "provider", "due_at",
    }
)  # fmt: skip


def print_story(console: Console, trace: Mapping[str, Any], *, transcripts: bool = True) -> None:
    """One ``Trace`` object: the delivery, then its events in order of time."""
    delivery = trace["delivery"]
    state = str(delivery["state"])
    show.say(
        console, show.styled((delivery["recipient"], "bold"), ("  ", ""), (state, show.STATE_STYLE.get(state, "")))
    )
    facts = [((f"  {name:<11}", "dim"), (value, "")) for name, value in _facts(delivery) if value not in (None, "")]
    _print_columns(console, facts)
    show.say(console)
    for event in trace["events"]:
        print_event(console, event)
        transcript = event["data"].get("transcript")
        if transcript and transcripts:
            _print_transcript(console, transcript)
    show.say(console)


def _facts(delivery: Mapping[str, Any]) -> list[tuple[str, Any]]:
    state = delivery["state"]
    waiting = state in ("queued", "paused")
    return [
        ("delivery", delivery["delivery"]),
        ("Message-ID", delivery["message_id"]),
        ("campaign", delivery["campaign"]),
        ("stream", delivery["stream"]),
        ("provider", " at ".join(part for part in (delivery["provider"], site_name(delivery["site"])) if part)),
        ("tries", delivery["attempts"]),
        ("verdict", delivery["bounce_class"] if delivery["bounce_class"] != "none" else None),
        ("next try", _utc(delivery["due_at"]) if waiting else None),
        ("expires", _utc(delivery["expires_at"]) if waiting or state == "leased" else None),
        ("last words", delivery["reason"]),
    ]


def _utc(at: object) -> str:
    return f"{show.moment(at)} UTC" if at else ""


def print_event(console: Console, event: Mapping[str, Any]) -> None:
    """When and what; beside it the words, and below them how and why."""
    data, kind = event["data"], str(event["kind"])
    at = str(event["at"]).replace("T", " ").removesuffix("Z")
    words = [line for line in (headline(data), *_how(data)) if line] or [""]
    what = _KIND_WORDS.get(kind, kind.replace("_", " "))
    what = f"{what:<12}" if words[0] else what
    lead = ((at, "dim"), ("  ", ""), (what, show.STATE_STYLE.get(kind, "bold")))
    if console.is_terminal:
        told = [
            show.styled((words[0], "" if headline(data) else "dim")),
            *(show.styled((one, "dim")) for one in words[1:]),
        ]
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(show.styled(*lead), Text("\n").join(told))
        console.print(grid)
        return
    show.say(console, show.styled(*lead, (f"  {words[0]}" if words[0] else "", "")))
    for line in words[1:]:
        show.say(console, " " * 39 + line)


def _print_columns(console: Console, rows: Sequence[tuple[tuple[str, str], tuple[Any, str]]]) -> None:
    """Name and value; long values stay in their column on a terminal."""
    if not console.is_terminal:
        for name, value in rows:
            show.say(console, show.styled(name, ("  ", ""), value))
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(show.styled(name), show.styled(value))
    console.print(grid)


def headline(data: Mapping[str, Any]) -> str:
    """What was said: the remote's reply, else what happened in our words."""
    return str(data.get("reply") or data.get("detail") or data.get("evidence") or data.get("reason") or "")


def _how(data: Mapping[str, Any]) -> list[str]:
    """Where it was tried, what the words were taken to mean, what comes next, and whatever else the event carries."""
    rest = [f"{name}: {value}" for name, value in data.items() if name not in _TOLD and value not in (None, "", [], {})]
    return [
        _tried(data),
        _meant(data),
        f"next try {show.moment(data['due_at'])} UTC" if data.get("due_at") else "",
        ", ".join(rest),
    ]


def _tried(data: Mapping[str, Any]) -> str:
    """``try 2 to mx1.example [192.0.2.1], TLSv1.3, ended in phase rcpt after 0.3 s``."""
    if not data.get("attempt"):
        return ""
    host = " ".join(part for part in (str(data.get("mx") or ""), f"[{data['ip']}]" if data.get("ip") else "") if part)
    parts = [
        f"try {data['attempt']}{f' to {host}' if host else ''}",
        str(data.get("tls") or ""),
        f"ended in phase {data.get('phase')} after {show.duration(float(data.get('seconds') or 0))}",
    ]
    return ", ".join(part for part in parts if part)


def _meant(data: Mapping[str, Any]) -> str:
    """``unknown-user, fault: recipient, rule: gmail-unknown-user``; nothing for a success, which needs no reading."""
    if data.get("class") in (None, "", "none"):
        return ""
    return ", ".join(
        [
            str(data["class"]),
            *(f"{name}: {data[name]}" for name in ("fault", "rule") if data.get(name) not in (None, "", "none")),
        ]
    )


def _print_transcript(console: Console, transcript: object) -> None:
    """The SMTP dialogue as ``smtp.client_transcript`` writes it: milliseconds, then ``>`` sent, ``<`` received, ``*`` a remark."""
    lines = [str(line) for line in transcript] if isinstance(transcript, list) else str(transcript).splitlines()
    if not console.is_terminal:
        for line in lines:
            show.say(console, " " * 39 + line)
        return
    body = Text("\n").join(show.styled((line, _dialogue_style(line))) for line in lines)
    panel = Panel(body, title="transcript", title_align="left", border_style="dim", expand=False)
    console.print(Padding(panel, (0, 0, 0, 2)))


def _dialogue_style(line: str) -> str:
    """What we said, what the remote refused, what only happened."""
    _, _, spoken = line.partition(" ")
    if spoken.startswith(">"):
        return "cyan"
    return {"< 5": "red", "< 4": "yellow"}.get(spoken[:3], "" if spoken.startswith("<") else "dim")
