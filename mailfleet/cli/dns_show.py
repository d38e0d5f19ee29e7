"""How plans, publishing and checks of the DNS look, for sending domains and for the server alike. No command is defined here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.frame import ExitCode
from mailfleet.cli.manage import print_list

Adopt = Annotated[
    bool, typer.Option("--adopt", help="Merge into or replace what others have where our records should be.")
]
ZoneLines = Annotated[bool, typer.Option("--zone", help="Print the lines of a zone file and nothing else.")]
Provider = Annotated[
    str,
    typer.Option(
        "--for", metavar="PROVIDER", help="As the form of a DNS provider wants it: cloudflare, route53, godaddy ..."
    ),
]
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red", "unknown": "magenta"}
SHOWN = 70


def print_plan(view: Mapping[str, Any], as_json: bool, *, zone: bool) -> None:
    """As JSON, as lines of a zone file, as a provider's form wants it, or record by record."""
    if as_json:
        show.json_line(view)
    elif zone:
        show.stdout().print(view["zone"], end="", soft_wrap=True, markup=False, highlight=False)
    elif view["provider"]:
        _print_forms(view)
    else:
        print_records(view)


def _print_forms(view: Mapping[str, Any]) -> None:
    """A block of fields for each record, each value whole on its line, to be copied."""
    console = show.stdout()
    zone = ""
    for record in view["records"]:
        if record["in_zone"] != zone and record["in_zone"]:
            zone = record["in_zone"]
            show.say(console, show.styled((f"Zone {zone} at {view['provider']}\n", "bold cyan")))
        show.say(console, show.styled((record["purpose"], "dim")))
        width = max(len(field["label"]) for field in record["fields"])
        for field in record["fields"]:
            value = (field["value"], "bold") if field["value"] else ("(leave it empty)", "dim")
            console.print(show.styled((f"    {field['label']:<{width}}  ", "dim"), value), soft_wrap=True)
        if record["note"]:
            show.say(console, show.styled((f"    {record['note']}", "yellow")))
        show.say(console)
    if view["provider_note"]:
        show.say(console, view["provider_note"])
    show.say(console, show.styled((f"{view['provider']} on its form: {view['provider_page']}", "dim")))


def print_records(view: Mapping[str, Any]) -> None:
    """Each record in blocks of lines, value whole on its own line: DKIM keys are long and must survive copying."""
    console = show.stdout()
    for record in view["records"]:
        show.say(
            console,
            show.styled((record["name"], "bold"), (f"  {record['type']}  ", "cyan"), (record["purpose"], "dim")),
        )
        console.print(show.styled(("    ", ""), (record["value"], "")), soft_wrap=True)
    show.say(console)


def print_publish(view: Mapping[str, Any], noun: str) -> None:
    """What was changed, what is left to a person, and what is in the way. ``noun``: of the commands."""
    console = show.stdout()
    if not (view["changes"] or view["by_hand"] or view["conflicts"] or view["unknown"]):
        show.say(console, "The DNS holds all of it already.")
    verb = {True: {"add": "added", "remove": "removed"}, False: {"add": "to add", "remove": "to remove"}}[
        view["applied"]
    ]
    for one in view["changes"]:
        _print_change(verb[one["action"]], one, "green" if one["action"] == "add" else "yellow")
    for one in view["by_hand"]:
        _print_change("by hand: add" if one["action"] == "add" else "by hand: remove", one, "cyan")
    for one in view["conflicts"]:
        show.say(
            console, show.styled(("left alone: ", "bold yellow"), (f"{one['name']} {one['type']}: {one['why']}", ""))
        )
        console.print(show.styled(("    there   ", "dim"), (one["there"], "")), soft_wrap=True)
        console.print(show.styled(("    wanted  ", "dim"), (one["wanted"], "")), soft_wrap=True)
        show.say(console, f"    Publish that text yourself, or let it be done: mailfleet {noun} publish --adopt")
    for name in view["unknown"]:
        show.say(console, show.styled(("no answer: ", "magenta"), (f"no server answers for {name}", "")))
    for name in view["missing"]:
        show.say(console, show.styled(("not seen yet: ", "yellow"), (name, "")))


def _print_change(word: str, one: Mapping[str, Any], colour: str) -> None:
    console = show.stdout()
    show.say(console, show.styled((f"{word} ", colour), (f"{one['name']} {one['type']}", "bold")))
    console.print(show.styled(("    ", ""), (one["value"], "")), soft_wrap=True)


def print_checks(view: Mapping[str, Any], noun: str) -> bool:
    """Each with what to do where it is not right; false where there are none yet."""
    console = show.stdout()
    if not view["checks"]:
        show.say(console, f"Nobody has looked yet: mailfleet {noun} check")
        return False
    for one in view["checks"]:
        found = show.shorten(one["found"], SHOWN)
        show.say(
            console,
            show.styled(
                (f"{one['state']:<8} ", _COLOURS[one["state"]]), (f"{one['name']:<22} ", "bold"), (found, "dim")
            ),
        )
        if one["state"] == "ok":
            continue
        show.say(console, f"         {one['meaning']}")
        if one["expected"] and one["state"] != "unknown":
            console.print(show.styled(("         expected: ", "dim"), (one["expected"], "")), soft_wrap=True)
        if one["next_step"]:
            show.say(console, show.styled(("         next: ", "dim"), (one["next_step"], "")))
    return True


def print_history(items: Iterable[Any], as_json: bool, noun: str) -> None:
    """Changes of state, newest first."""
    print_list(
        items,
        as_json,
        ("when (UTC)", "check", "was", "is", "meaning"),
        lambda one: (show.moment(one["at"]), one["name"], one["before"] or "new", one["state"], one["meaning"]),
        f"Nobody has looked yet: mailfleet {noun} check",
    )


def end(checks: Mapping[str, Any], done: Mapping[str, Any] | None = None) -> None:
    """The exit code: something is wrong, or could not be put right."""
    if checks["state"] == "failed" or (done and (done["conflicts"] or done["missing"])):
        raise typer.Exit(ExitCode.REFUSED)
