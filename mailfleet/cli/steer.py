"""``mailfleet brake`` and ``mailfleet warmup``: what holds mail back, and how sources get known."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mailfleet.base.errors import InputError
from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.frame import DataOption, JsonOption, group
from mailfleet.cli.manage import print_list
from mailfleet.engine.views import site_name

brake_app = group("brake", "Brakes: what holds mail back, why, and until when.")
warmup_app = group("warmup", "Warm-up: how much each source may send to each provider while it gets known.")

Source = Annotated[str, typer.Argument(metavar="SOURCE")]
Provider = Annotated[
    str, typer.Option("--provider", metavar="NAME", help="Only this one; other: all sites of no known provider.")
]


@brake_app.command("list")
def list_brakes(
    ended: Annotated[bool, typer.Option("--ended", help="Those that are over.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List the brakes in force."""
    with Api.open(data) as api:
        found = api.pages("/v1/brakes", {"ended": "true" if ended else "false"}, limit=200)
        print_list(
            found,
            as_json,
            (
                "brake",
                "what",
                "left",
                "for",
                "why",
                "their words",
                "since (UTC)",
                "ended (UTC)" if ended else "until (UTC)",
            ),
            _brake_row,
            "No brake is on." if not ended else "No brake has ended yet.",
        )


@brake_app.command("set")
def set_brake(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="rest, slow or stop.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")],
    source: Annotated[str, typer.Option("--source", metavar="NAME", help="Only this source or relay.")] = "",
    provider: Provider = "",
    stream: Annotated[str, typer.Option("--stream", metavar="NAME", help="Only this stream.")] = "",
    share: Annotated[
        float | None, typer.Option("--share", metavar="PERCENT", help="Of slow: what is left of the normal rate.")
    ] = None,
    minutes: Annotated[float, typer.Option("--for", metavar="MINUTES", min=0, help="0: until it is lifted.")] = 0,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Hold mail back by hand; nothing is lost by it."""
    body: dict[str, object] = {
        "action": action,
        "reason": reason,
        "source": source,
        "provider": provider,
        "stream": stream,
    }
    body |= {"share": share, "for_s": minutes * 60}
    with Api.open(data) as api:
        view = api.post("/v1/brakes", body)
    if as_json:
        show.json_line(view)
    else:
        show.say(show.stdout(), f"{view['brake']} is on for {_scope(view)}.")


@brake_app.command("lift")
def lift_brake(
    brake: Annotated[str, typer.Argument(metavar="BRAKE", help="Its id, brk_...")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")] = "",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """End a brake at once."""
    with Api.open(data) as api:
        view = api.delete(path_of("brakes", brake), reason=reason)
    if as_json:
        show.json_line(view)
    else:
        show.say(show.stdout(), f"{brake} is lifted.")


@warmup_app.command("plan")
def plan(
    source: Source,
    name: Annotated[
        str, typer.Option("--plan", metavar="PLAN", help="cautious, standard, fast, or your own.")
    ] = "standard",
    provider: Provider = "",
    stage: Annotated[
        int, typer.Option("--stage", metavar="N", min=0, help="Begin here, for a source that is known.")
    ] = 0,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Begin to warm a source up."""
    with Api.open(data) as api:
        items = api.post("/v1/warmups", {"source": source, "plan": name, "provider": provider, "stage": stage})["items"]
    if as_json:
        for view in items:
            show.json_line(view)
        return
    caps = sorted({view["cap"] for view in items})
    show.say(show.stdout(), f"{source} warms up with {len(items)} providers, {caps[0]:,} deliveries today with each.")


@warmup_app.command("status")
def status(
    source: Annotated[str, typer.Argument(metavar="[SOURCE]")] = "",
    every: Annotated[bool, typer.Option("--all", help="Those without mail today too.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """How far each source is with each provider today."""
    with Api.open(data) as api:
        items = api.get("/v1/warmups", source=source)["items"]
    if not as_json and not every:
        items = [
            one for one in items if one["delivered"] or one["under_way"] or one["stage"] or one["deferred"]
        ] or items[:10]
    print_list(
        items,
        as_json,
        ("source", "provider", "state", "plan", "stage", "today", "room now", "deferred", "why"),
        _warmup_row,
        "No source warms up. Begin: mailfleet warmup plan SOURCE",
    )


@warmup_app.command("history")
def history(source: Source, as_json: JsonOption = False, data: DataOption = None) -> None:
    """What each day held, what came of it, and what followed."""
    with Api.open(data) as api:
        items = api.get(f"{path_of('warmups', source)}/history")["items"]
    print_list(
        items,
        as_json,
        ("day (UTC)", "provider", "stage", "cap", "delivered", "deferred", "bounced", "move", "why"),
        lambda one: (
            show.moment(one["day"]), one["provider"], str(one["stage"]), show.number(one["cap"]), show.number(one["delivered"]),
            show.number(one["deferred"]), show.number(one["bounced"]), one["move"], one["reason"],
        ),
        "No day is over yet.",
    )  # fmt: skip


def _set(source: str, state: str, provider: str, reason: str, as_json: bool, data: Any) -> None:
    with Api.open(data) as api:
        items = api.put(path_of("warmups", source), {"state": state, "provider": provider, "reason": reason})["items"]
    if as_json:
        for view in items:
            show.json_line(view)
    else:
        count = sum(one["state"] == state for one in items)
        show.say(show.stdout(), f"{source}: {count} of {len(items)} providers are {state} now.")


def _add(word: str, state: str, says: str) -> None:
    @warmup_app.command(word, help=says)
    def command(
        source: Source,
        provider: Provider = "",
        reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")] = "",
        as_json: JsonOption = False,
        data: DataOption = None,
    ) -> None:
        _set(source, state, provider, reason, as_json, data)


_add("pause", "paused", "Send nothing by a source to the providers it warms up with.")
_add("resume", "warming", "Go on with a warm-up.")
_add("end", "warm", "Take the caps away: the source is known.")


@warmup_app.command("forecast")
def forecast(
    what: Annotated[str, typer.Argument(metavar="MESSAGES|CAMPAIGN", help="How many more, or a campaign (cmp_...).")],
    stream: Annotated[str, typer.Option("--stream", metavar="NAME", help="Of so many messages.")] = "bulk",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """When a campaign, or so many messages, would be out, and by which sources."""
    campaign = what.startswith("cmp_")
    number = what.replace(",", "").replace("_", "")
    if not campaign and not (number.isascii() and number.isdecimal() and int(number)):
        raise InputError(
            f"{what!r} is neither a number of messages nor a campaign", where="MESSAGES", mend="200000, or cmp_..."
        )
    with Api.open(data) as api:
        if campaign:
            view = api.get(f"/v1/campaigns/{what}/forecast")
        else:
            view = api.get("/v1/forecast", messages=int(number), stream=stream)
    if as_json:
        show.json_line(view)
        return
    console = show.stdout()
    show.say(console, f"{view['sentence']}.\n")
    if view["by_source"]:
        rows = [(one["source"], show.number(one["messages"]), one["why"]) for one in view["by_source"]]
        show.table(console, ("source", "messages", "busy"), rows)
        mix = "" if campaign else " and recipients are spread over providers as the latest were"
        show.say(console, f"\nIf every day goes well{mix}.")


def _scope(view: dict[str, Any]) -> str:
    """Which mail it is about, in words."""
    where = [view["source"] or "any source", view["provider"] or (site_name(view["site"]) if view["site"] else "")]
    whose = view["stream"] or view["campaign"]
    return " to ".join(word for word in where if word) + (f", {whose}" if whose else "")


def _brake_row(view: dict[str, Any]) -> tuple[str, ...]:
    until = view["ended"] or view["until"]
    return (
        view["brake"],
        view["action"],
        f"{view['share']:g} %",
        _scope(view),
        view["reason"] if not view["ended_why"] else f"{view['reason']} ({view['ended_why']})",
        show.shorten(view["words"], 80),
        show.moment(view["since"]),
        show.moment(until) if until else "lifted by hand",
    )


def _warmup_row(view: dict[str, Any]) -> tuple[str, ...]:
    today = f"{show.number(view['delivered'])} of {show.number(view['cap'])}"
    return (
        view["source"],
        view["provider"],
        view["state"],
        view["plan"],
        str(view["stage"]),
        today if view["state"] != "warm" else show.number(view["delivered"]),
        show.number(view["room"]),
        show.number(view["deferred"]),
        view["reason"],
    )
