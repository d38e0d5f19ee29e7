"""``mailfleet provider``: who takes mail, what is kept to towards them, and where each limit comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api
from mailfleet.cli.frame import CliError, DataOption, JsonOption, group
from mailfleet.cli.manage import print_list

app = group("provider", "Mailbox providers, and the limits towards them.")


@app.command("list")
def list_providers(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the providers that are known, with the limits that hold."""
    with Api.open(data) as api:
        items = api.get("/v1/providers")["items"]
    print_list(
        items,
        as_json,
        ("provider", "who", "connections", "messages each", "rate", "TLS", "its mail hosts end in"),
        _row,
        "No provider is known.",
    )


@app.command("explain")
def explain(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="A recipients' domain, or an address.")],
    source: Annotated[str, typer.Option("--source", metavar="NAME", help="A source or relay.")] = "default",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Every limit towards a domain: which file it comes from, and which one binds now."""
    with Api.open(data) as api:
        view = api.get("/v1/limits", domain=domain, source=source)
    if as_json:
        show.json_line(view)
        return
    console = show.stdout()
    hosts = ", ".join(view["mail_hosts"][:5]) or "none: it takes no mail, or cannot be looked up"
    show.say(console, f"{view['domain']}: {view['provider'] or 'no known provider'}, by {view['source']}")
    show.say(console, f"Mail hosts: {hosts}\n")
    rows = [("*" if one["binds"] else "", one["limit"], one["value"], one["origin"]) for one in view["limits"]]
    show.table(console, ("binds", "limit", "value", "comes from"), rows)


@app.command("lint")
def lint(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="Your own providers files.")] = None,
    shaping: Annotated[
        Path | None,
        typer.Option("--shaping", metavar="FILE", help="Shaping rules to look at instead of the shipped ones."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find rules that cannot match, that shadow others, or that do nothing."""
    from mailfleet.config import providers as config
    from mailfleet.config import shaping as rules
    from mailfleet.config.bounce_rules import load_rules
    from mailfleet.policy.bounce_classes import BOUNCE_CLASSES
    from mailfleet.policy.shaping import faults

    own = files or []
    table = config.load_providers(*own)
    found = config.faults(table, own)
    loaded = rules.load_shaping(shaping) if shaping else rules.load_shaping()
    found += faults(loaded, BOUNCE_CLASSES, [one.name for one in load_rules()], table.providers)
    if as_json:
        show.json_line({"faults": found})
    for fault in [] if as_json else found:
        show.say(show.stdout(), fault)
    if found:
        raise CliError(f"{len(found)} in vain", mend="correct or remove them")
    if not as_json:
        show.say(show.stdout(), f"{len(table.providers)} providers and {len(loaded)} shaping rules: none is in vain.")


def _row(view: dict[str, Any]) -> tuple[str, ...]:
    holds = {one["limit"]: one["value"] for one in view["limits"] if one["binds"]}
    return (
        view["name"],
        view["label"],
        holds.get("connections", ""),
        holds.get("messages per connection", ""),
        holds.get("rates", ""),
        "required" if holds.get("tls required") == "true" else "if offered",
        ", ".join(view["mx_suffixes"]),
    )
