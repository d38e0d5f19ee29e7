"""Watching a campaign until it ends: the live progress display, and patience while the server restarts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.frame import UnreachableError

POLL_S = 0.5
PATIENCE_S = 900.0
PLAIN_EVERY_S = 10.0
RATE_WINDOW_S = 10.0


def watch_campaign(data: Path | None, campaign: str, *, patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """Poll until the campaign is finished or cancelled and nothing is pending; returns its last view.

    A server that goes away is waited for, ``patience_s`` at a time; its address and token are read anew at each try, as they may
    change with a restart. Raises ``UnreachableError`` when it was never there or does not come back. Progress goes to
    standard error, live on a terminal, else one line every ten seconds.
    """
    console = show.stderr()
    pace = Pace()
    with Display(console) as display:
        api = Api.open(data)
        gone_since: float | None = None
        reached = False
        while True:
            try:
                view = api.get(path_of("campaigns", campaign))
                if gone_since is not None:
                    display.notice("The server is back.")
                    pace = Pace()  # the time away says nothing about what is left
                gone_since, reached = None, True
                pace.add(time.monotonic(), settled(view))
                display.update(view, pace)
                if is_over(view):
                    return dict(view)
                time.sleep(POLL_S)
            except UnreachableError:
                now = time.monotonic()
                if not reached or (gone_since is not None and now - gone_since > patience_s):
                    raise
                if gone_since is None:
                    gone_since = now
                    display.notice("The server does not answer. What it accepted is safe; waiting for it to come back.")
                time.sleep(1.0)
                api = _reopened(api, data)


def _reopened(api: Api, data: Path | None) -> Api:
    """A fresh client on what connection.json says now, or the old one while there is none."""
    try:
        fresh = Api.open(data)
    except UnreachableError:
        return api
    api.__exit__(None, None, None)
    return fresh


def is_over(view: Mapping[str, Any]) -> bool:
    """No recipient of this campaign will change state any more."""
    return view["state"] in ("finished", "cancelled") and not view["pending"]


def settled(view: Mapping[str, Any]) -> int:
    """Recipients that have their final outcome."""
    return sum(view[name] for name in ("delivered", "bounced", "expired", "cancelled", "suppressed"))


class Pace:
    """Outcomes a second over the last ten seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now_s: float, done: int) -> None:
        """One sample. Samples older than the window go."""
        self._samples.append((now_s, done))
        while len(self._samples) > 2 and now_s - self._samples[0][0] > RATE_WINDOW_S:
            self._samples.popleft()

    @property
    def per_second(self) -> float:
        """0 until two samples are there."""
        if len(self._samples) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return max(0.0, (last - first) / (last_s - first_s)) if last_s > first_s else 0.0

    def left(self, view: Mapping[str, Any]) -> str:
        """How long it may take still, in words; empty when that cannot be told."""
        if view["state"] == "paused":
            return "paused" + (f": {view['pause_reason']}" if view.get("pause_reason") else "")
        if view["state"] == "scheduled":
            return f"starts at {show.moment(view['send_at'])} UTC"
        if view["state"] == "loading":
            return "being accepted"
        fresh = view["pending"] - view["deferred"]
        if fresh <= 0 and view["deferred"]:
            return f"{view['deferred']:,} waiting for their next try"
        if fresh > 0 and self.per_second > 0:
            return f"about {show.duration(fresh / self.per_second)} left"
        return ""


class Display:
    """The progress display on ``console``: live on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, *, now_s: Any = time.monotonic) -> None:
        self._console = console
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        self._now_s = now_s
        self._plain_at_s = -PLAIN_EVERY_S
        self._plain_last = ""

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def notice(self, text: str) -> None:
        """A line that stays above the display."""
        show.say(self._console, text)

    def update(self, view: Mapping[str, Any], pace: Pace) -> None:
        """Show the campaign as it is now."""
        if self._live:
            self._live.update(progress_block(view, pace, self._console.width), refresh=True)
            return
        now_s = self._now_s()
        line = progress_line(view, pace)
        if line != self._plain_last and (now_s - self._plain_at_s >= PLAIN_EVERY_S or is_over(view)):
            self._plain_at_s, self._plain_last = now_s, line
            show.say(self._console, line)


def progress_line(view: Mapping[str, Any], pace: Pace) -> str:
    """``6,201 of 9,964: delivered 5,900, deferred 120, bounced 170, expired 11; 412/s, about 9 s left``."""
    counts = ", ".join(f"{name} {view[name]:,}" for name in _shown(view))
    tail = ", ".join(part for part in (f"{pace.per_second:,.0f}/s", pace.left(view)) if part)
    return f"{settled(view):,} of {view['recipients']:,}: {counts}; {tail}"


def progress_block(view: Mapping[str, Any], pace: Pace, width: int) -> Group:
    """Three lines: what, how far, and how it goes."""
    total, done = max(view["recipients"], 1), settled(view)
    head = show.styled(
        (view["name"], "bold"), ("  ", ""), (view["state"], show.STATE_STYLE.get(view["state"], "")), ("  ", "")
    )
    head.append(view["campaign"], style="dim")
    bar = Table.grid(padding=(0, 2, 0, 0))
    facts = [f"{100 * done // total} %", f"{done:,} of {view['recipients']:,}", f"{pace.per_second:,.0f}/s"]
    bar.add_row(
        ProgressBar(
            total=total,
            completed=done,
            width=max(10, min(40, width - 48)),
            complete_style="cyan",
            finished_style="green",
        ),
        *(Text(fact, no_wrap=True) for fact in facts),
        show.styled((pace.left(view), "dim")),
    )
    counts = Text()
    for name in _shown(view):
        style = show.STATE_STYLE.get(name, "") if view[name] else "dim"
        counts.append(f"{name} ", style="dim").append(f"{view[name]:,}   ", style=style)
    return Group(head, bar, counts)


def _shown(view: Mapping[str, Any]) -> list[str]:
    """The counts to show: the usual ones always, the others when there is something to count."""
    always = ["delivered", "deferred", "bounced", "expired"]
    return always + [name for name in ("suppressed", "cancelled") if view[name]]
