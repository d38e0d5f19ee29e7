"""``mailfleet dns``: zones that may be written to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.files import read_text
from mailfleet.cli.frame import CliError, DataOption, ExitCode, JsonOption, group
from mailfleet.cli.manage import print_list, remove

dns_app = group(
    "dns", "Zones that Mailfleet may write to, by dynamic update (RFC 2136) or through a provider of octoDNS."
)

_TSIG = "MAILFLEET_TSIG_SECRET"


@dns_app.command("add")
def add_zone(
    zone: Annotated[str, typer.Argument(metavar="ZONE")],
    server: Annotated[
        str, typer.Option("--server", metavar="ADDRESS[:PORT]", help="Its primary name server, for dynamic update.")
    ] = "",
    key_name: Annotated[str, typer.Option("--key", metavar="NAME", help="Of the TSIG key.")] = "",
    algorithm: Annotated[str, typer.Option("--algorithm", metavar="NAME", help="Of the TSIG key.")] = "hmac-sha256",
    provider: Annotated[
        str,
        typer.Option(
            "--provider",
            metavar="PACKAGE.CLASS",
            help="Instead: of octoDNS, as in octodns_cloudflare.CloudflareProvider.",
        ),
    ] = "",
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--setting",
            metavar="NAME=VALUE",
            help="Of the provider; repeatable. Numbers, true and false are taken as such.",
        ),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            metavar="SECRET",
            help="Of the TSIG key, in base64; or env:VARIABLE or @FILE that holds it; default: MAILFLEET_TSIG_SECRET. "
            "Of a provider: NAME (asked for, or a line of standard input), NAME=env:VARIABLE or NAME=@FILE; repeatable.",
        ),
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Let Mailfleet write to a zone. Nothing is written yet; a provider is asked whether it has the zone."""
    secrets = secret or []
    body: dict[str, Any] = {"zone": zone}
    if provider:
        if server or key_name:
            raise _usage("--server and --key are of dynamic update, --provider is not")
        body |= {"provider": provider, "settings": _settings(setting or []), "secrets": _secrets(secrets)}
    else:
        if not server or setting or len(secrets) > 1:
            raise _usage("give either --server with one --secret, or --provider with its settings and secrets")
        key = _kept(secrets[0]) or secrets[0] if secrets else os.environ.get(_TSIG, "")
        body |= {"server": server, "key_name": key_name, "secret": key, "algorithm": algorithm}
    with Api.open(data) as api:
        view = api.post("/v1/dns-zones", body)
    if as_json:
        show.json_line(view)
    else:
        by = f"at {view['server']}" if view["server"] else f"through {view['provider']}"
        show.say(show.stdout(), f"{view['zone']} is written to {by}: mailfleet domain publish DOMAIN")


@dns_app.command("list")
def list_zones(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the zones that may be written to."""
    with Api.open(data) as api:
        items = api.get("/v1/dns-zones")["items"]
    print_list(
        items,
        as_json,
        ("zone", "how", "where", "with"),
        lambda one: (one["zone"], one["kind"], one["server"] or one["provider"], _with(one)),
        "No zone yet: records are published by hand. Add one: mailfleet dns add",
    )


@dns_app.command("remove")
def remove_zone(
    zone: Annotated[str, typer.Argument(metavar="ZONE")], as_json: JsonOption = False, data: DataOption = None
) -> None:
    """Write to a zone no more; what is there stays."""
    remove(path_of("dns-zones", zone), zone, as_json, data)


def _with(one: Mapping[str, Any]) -> str:
    if one["provider"]:
        return ", ".join(f"{name}={value}" for name, value in one["settings"].items())
    return f"{one['key_name']} ({one['algorithm']})" if one["key_name"] else "no key"


def _settings(given: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise _usage("a setting is NAME=VALUE", where="--setting")
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        found[name] = read if isinstance(read, str | int | float | bool) else value
    return found


def _secrets(given: Sequence[str]) -> dict[str, str]:
    """By name, each from where it was said to be: none stands on the command line, where every user of the machine sees it."""
    found = {}
    for text in given:
        name, equals, source = text.partition("=")
        if not equals:
            found[name] = _asked(name)
            continue
        kept = _kept(source)
        if kept is None:
            raise _usage(
                f"the secret {name} would stand on the command line",
                where="--secret",
                mend=f"--secret {name} asks for it; or --secret {name}=@FILE, --secret {name}=env:VARIABLE",
            )
        found[name] = kept
    return found


def _kept(source: str) -> str | None:
    """What a file or a variable of the environment holds; None where the text names neither."""
    if source.startswith("@"):
        return read_text(Path(source[1:]), "--secret").rstrip("\r\n")
    if not source.startswith("env:"):
        return None
    variable = source.removeprefix("env:")
    if not os.environ.get(variable):
        raise _usage(f"{variable} is not set", where="--secret")
    return os.environ[variable]


def _asked(name: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(name, hide_input=True, err=True))
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise _usage(f"standard input has no line with the secret {name}", where="--secret")
    return line


def _usage(what: str, *, where: str = "", mend: str = "see: mailfleet dns add --help") -> CliError:
    return CliError(what, where=where, mend=mend, code=ExitCode.USAGE)
