"""Finding out: ``mailfleet trace``, ``mailfleet queue`` and ``mailfleet events``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api
from mailfleet.cli.frame import CliError, DataOption, JsonOption, UnreachableError
from mailfleet.cli.story import headline, print_story
from mailfleet.engine.views import site_name

PATIENCE_S = 900.0


def trace(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="An address, a delivery id (dlv_...), a Message-ID or a queue id.")
    ],
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="At most this many messages, newest first.")
    ] = 5,
    transcripts: Annotated[
        bool, typer.Option("--transcripts/--no-transcripts", help="Show the SMTP dialogues.")
    ] = True,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Tell the whole story of a message.

    Every event, the remote's words, what they were taken to mean, and the SMTP dialogue.
    """
    with Api.open(data) as api:
        answer = api.get("/v1/trace", what=what)
    stories = answer["items"] if isinstance(answer, dict) else answer
    if not stories:
        raise CliError(
            "nothing is known of it",
            where=what,
            mend="give the whole address or id; mailfleet events lists what happened",
        )
    if as_json:
        for story in stories:
            show.json_line(story)
        return
    console = show.stdout()
    for story in stories[:limit]:
        print_story(console, story, transcripts=transcripts)
    if len(stories) > limit:
        show.say(console, f"{len(stories) - limit:,} more, older; raise --limit to see them.")


OLD_COUNT_S = 5  # counts older than this say so


def queue(as_json: JsonOption = False, data: DataOption = None) -> None:
    """Show what waits: by provider and site, how old, and why."""
    with Api.open(data) as api:
        view = api.get("/v1/queue")
    if as_json:
        show.json_line(view)
        return
    console = show.stdout()
    if not view["sites"]:
        show.say(console, "The queue is empty.")
        return
    show.say(
        console,
        f"{view['queued']:,} queued, {view['deferred']:,} of them deferred; {view['leased']:,} being sent now.",
    )
    show.say(console)
    numbers = ("queued", "deferred", "sending", "oldest", "next try in")
    show.table(
        console,
        ("provider", "site", *numbers, "deferred because of"),
        [_queue_row(site) for site in sorted(view["sites"], key=lambda site: -(site["queued"] + site["leased"]))],
        right=numbers,
    )
    if view.get("further_sites"):
        show.say(console, f"{view['further_sites']:,} more sites have a shorter backlog.")
    if view.get("age_s", 0) >= OLD_COUNT_S:
        show.say(console, f"Counted {show.duration(view['age_s'])} ago.")


def _queue_row(site: Mapping[str, Any]) -> tuple[str, ...]:
    reasons = sorted(site["reasons"].items(), key=lambda item: -item[1])
    due = site["next_due_in_s"]
    return (
        site["provider"] or "others",
        site_name(site["site"]),
        show.number(site["queued"]),
        show.number(site["deferred"]),
        show.number(site["leased"]),
        show.duration(site["oldest_age_s"]),
        "" if due is None else "now" if due <= 0 else show.duration(due),
        ", ".join(f"{name} {count:,}" for name, count in reasons),
    )


def events(
    follow: Annotated[
        bool, typer.Option("--follow", help="Stay and print events as they happen; Ctrl-C ends it.")
    ] = False,
    campaign: Annotated[str, typer.Option("--campaign", metavar="ID", help="Only this campaign.")] = "",
    delivery: Annotated[str, typer.Option("--delivery", metavar="ID", help="Only this delivery.")] = "",
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only this kind: delivered, deferred, bounced ... Repeatable."),
    ] = None,
    after: Annotated[
        int | None, typer.Option("--after", metavar="N", min=0, help="Only events with an id above this; 0 for all.")
    ] = None,
    last: Annotated[
        int | None, typer.Option("--last", metavar="N", min=1, max=1000, help="Begin with the newest N events.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="End after this many. Default: all.")
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List what happened, oldest first.

    With --follow it begins with the newest ten events, unless --after or --last says otherwise.
    """
    asked = {"campaign": campaign, "delivery": delivery, "kind": kind or []}
    if follow and after is None and last is None:
        last = 10
    for count, event in enumerate(_stream(data, asked, after, last, follow=follow), start=1):
        if as_json:
            show.json_line(event)
        else:
            _print_event(event)
        if count == limit:
            return


def _stream(
    data: Path | None, asked: Mapping[str, object], after: int | None, last: int | None, *, follow: bool
) -> Iterator[dict[str, Any]]:
    """Events from ``after`` on, or the ``last`` so many."""
    begin: dict[str, object] = {"after": after} if last is None else {"tail": "true", "limit": last}
    if follow:
        yield from _followed(data, asked, begin)
        return
    with Api.open(data) as api:
        if last is not None:
            yield from api.get("/v1/events", **asked, **begin)["items"]
        else:
            yield from api.pages("/v1/events", asked, after=str(after or 0))


def _followed(data: Path | None, asked: Mapping[str, object], begin: dict[str, object]) -> Iterator[dict[str, Any]]:
    """Events as they happen, through restarts of the server: it goes on after the last id seen."""
    reached, lost_at_s = False, 0.0
    while True:
        try:
            with Api.open(data) as api:
                for event in api.lines("/v1/events", follow="true", **asked, **begin):
                    begin, reached, lost_at_s = {"after": int(event["id"])}, True, 0.0
                    yield event
            lost = UnreachableError("the server ended the stream")
        except UnreachableError as error:
            if not reached and not lost_at_s:
                raise
            lost = UnreachableError(error.what, mend="when the server is back, run this again")
        now_s = time.monotonic()
        if lost_at_s and now_s - lost_at_s > PATIENCE_S:
            raise lost
        if not lost_at_s:
            lost_at_s = now_s
            show.say(show.stderr(), "The server does not answer; waiting for it to come back.")
        time.sleep(1.0)


def _print_event(event: Mapping[str, Any]) -> None:
    """One event on one line: when, what, who, the words."""
    console, kind = show.stdout(), str(event["kind"])
    who = event["recipient"] or event["campaign"] or event["delivery"] or ""
    line = show.styled(
        (str(event["at"]).replace("T", " ").removesuffix("Z"), "dim"),
        (f"  {kind:<17}  ", show.STATE_STYLE.get(kind, "bold")),
        (who, ""),
        (f"  {show.shorten(headline(event['data']), 160)}", "dim"),
    )
    console.print(line, soft_wrap=True)
