"""``mailfleet blocklist``: which lists are watched, what is on them, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api
from mailfleet.cli.frame import DataOption, JsonOption, group
from mailfleet.cli.manage import print_list

app = group("blocklist", "Block lists: what is watched, what is listed, and how to get off.")


@app.command("list")
def list_lists(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the block lists that are watched."""
    with Api.open(data) as api:
        items = api.get("/v1/blocklists")["items"]
    print_list(
        items,
        as_json,
        ("list", "zone", "of", "a listing leads to", "believed", "looked (UTC)", "lists of ours"),
        lambda one: (
            one["name"], one["zone"], "addresses" if one["kind"] == "ip" else "domains", one["action"],
            one["believed"], show.moment(one["looked"]) if one["looked"] else "", ", ".join(one["listed"]) or "nothing",
        ),
        "No list is watched.",
    )  # fmt: skip


@app.command("check")
def check(as_json: JsonOption = False, data: DataOption = None) -> None:
    """Look at everything again now."""
    with Api.open(data) as api:
        answer = api.post("/v1/blocklists/check")
    if as_json:
        show.json_line(answer)
    else:
        show.say(show.stdout(), "Everything is looked at again within some seconds: mailfleet blocklist list")


@app.command("incidents")
def incidents(
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most this many.")] = 50,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List what was and is listed, newest first, with how to get off."""
    with Api.open(data) as api:
        found = api.pages("/v1/incidents", limit=limit)
        print_list(
            found,
            as_json,
            ("incident", "list", "what", "state", "says", "led to", "since (UTC)", "what to do"),
            lambda one: (
                one["incident"], one["list"], one["source"] or one["target"], one["state"],
                show.shorten(one["words"] or one["codes"], 60), one["action"], show.moment(one["since"]),
                one["ended_why"] or show.shorten(f"{one['delist']} {one['page']}", 160),
            ),
            "Nothing was listed yet.",
        )  # fmt: skip
