"""``mailfleet dns``: zones that may be written to."""

from __future__ import annotations

from typing import Annotated

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.frame import DataOption, JsonOption, group
from mailfleet.cli.manage import print_list, remove

dns_app = group("dns", "Zones that Mailfleet may write to, by dynamic update (RFC 2136).")


@dns_app.command("add")
def add_zone(
    zone: Annotated[str, typer.Argument(metavar="ZONE")],
    server: Annotated[str, typer.Option("--server", metavar="ADDRESS[:PORT]", help="Its primary name server.")],
    key_name: Annotated[str, typer.Option("--key", metavar="NAME", help="Of the TSIG key.")] = "",
    secret: Annotated[
        str, typer.Option("--secret", metavar="BASE64", envvar="MAILFLEET_TSIG_SECRET", help="Of the TSIG key.")
    ] = "",
    algorithm: Annotated[str, typer.Option("--algorithm", metavar="NAME")] = "hmac-sha256",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Let Mailfleet write to a zone. Nothing is written yet."""
    body = {"zone": zone, "server": server, "key_name": key_name, "secret": secret, "algorithm": algorithm}
    with Api.open(data) as api:
        view = api.post("/v1/dns-zones", body)
    if as_json:
        show.json_line(view)
    else:
        show.say(show.stdout(), f"{view['zone']} is written to at {view['server']}: mailfleet domain publish DOMAIN")


@dns_app.command("list")
def list_zones(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the zones that may be written to."""
    with Api.open(data) as api:
        items = api.get("/v1/dns-zones")["items"]
    print_list(
        items,
        as_json,
        ("zone", "how", "server", "key", "algorithm"),
        lambda one: (one["zone"], one["kind"], one["server"], one["key_name"] or "none", one["algorithm"]),
        "No zone yet: records are published by hand. Add one: mailfleet dns add",
    )


@dns_app.command("remove")
def remove_zone(
    zone: Annotated[str, typer.Argument(metavar="ZONE")], as_json: JsonOption = False, data: DataOption = None
) -> None:
    """Write to a zone no more; what is there stays."""
    remove(path_of("dns-zones", zone), zone, as_json, data)
