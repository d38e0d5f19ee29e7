"""``mailfleet server``: what the DNS must hold for the install itself, and whether it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api
from mailfleet.cli.dns_show import (
    Adopt,
    Provider,
    ZoneLines,
    end,
    print_checks,
    print_history,
    print_plan,
    print_publish,
)
from mailfleet.cli.files import read_text
from mailfleet.cli.frame import DataOption, ExitCode, JsonOption, group

server_app = group("server", "The server itself in the DNS: its name, its sources, the key that it shows.")


@server_app.command("plan")
def plan(
    zone: ZoneLines = False, provider: Provider = "", as_json: JsonOption = False, data: DataOption = None
) -> None:
    """Print every record that the DNS must hold for the server, with what is there taken into account."""
    with Api.open(data) as api:
        view = api.get("/v1/server/plan", **{"for": provider})
    print_plan(view, as_json, zone=zone)
    if not as_json:
        _print_notes(view["notes"])


@server_app.command("publish")
def publish(
    adopt: Adopt = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be changed.")] = False,
    also: Annotated[
        Path | None,
        typer.Option(
            "--also", metavar="CHAIN", help="Tell of the key of this certificate (PEM) too: it is shown later."
        ),
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Put the plan into the DNS. Only records of ours are touched; doing it twice changes nothing."""
    body = {"adopt": adopt, "dry_run": dry_run, "also": read_text(also, "CHAIN") if also else ""}
    with Api.open(data) as api:
        view = api.post("/v1/server/publish", body)
    if as_json:
        show.json_line(view)
    else:
        print_publish(view, "server")
        _print_notes(view["notes"])
    if view["conflicts"] or view["missing"]:
        raise typer.Exit(ExitCode.REFUSED)


@server_app.command("check")
def check(
    last: Annotated[bool, typer.Option("--last", help="As it was found last, without looking now.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Look whether the DNS holds what it must, on every authoritative server. Exit code 1 when something is wrong."""
    with Api.open(data) as api:
        view = api.get("/v1/server/checks") if last else api.post("/v1/server/check", {})
    if as_json:
        show.json_line(view)
    else:
        print_checks(view, "server")
    end(view)


@server_app.command("history")
def history(
    limit: Annotated[int, typer.Option("--last", metavar="N", min=1, max=1000)] = 50,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """What has changed in the checks of the server, newest first."""
    with Api.open(data) as api:
        items = api.get("/v1/server/history", limit=limit)["items"]
    print_history(items, as_json, "server")


def _print_notes(notes: list[str]) -> None:
    """On standard error: lines of a zone file must stay such."""
    for one in notes:
        show.say(show.stderr(), show.styled(("note: ", "yellow"), (one, "")))
