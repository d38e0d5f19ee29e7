"""``mailfleet source`` and ``relay``: the ways out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.frame import CliError, DataOption, JsonOption, group
from mailfleet.cli.manage import print_list

source_app = group("source", "Sources: the addresses that mail leaves from.")
relay_app = group("relay", "Relays: other SMTP servers that mail leaves by.")

Name = Annotated[str, typer.Argument(metavar="NAME")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for whoever looks at it later.")]
Ehlo = Annotated[
    str | None, typer.Option("--ehlo", metavar="NAME", help="The EHLO name: what the address resolves to.")
]
Connections = Annotated[
    int | None, typer.Option("--connections", metavar="N", min=1, help="At a time to one site; of a relay in all.")
]
Rate = Annotated[
    str | None, typer.Option("--rate", metavar="RATE", help="To one site, of a relay in all: 10/s, or '10/s 20000/d'.")
]
MonthCost = Annotated[float | None, typer.Option("--cost-month", metavar="PRICE", min=0, help="What it costs a month.")]
Price = Annotated[float | None, typer.Option("--price-1000", metavar="PRICE", min=0, help="Price of 1,000 messages.")]
Currency = Annotated[str, typer.Option("--currency", metavar="CODE", help="Of the prices.")]


@source_app.command("add")
def add_source(
    name: Name,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="IPv4 or IPv6 address of this machine.")],
    ehlo: Ehlo = None,
    node: Annotated[str | None, typer.Option("--node", metavar="NAME", help="Where the address is.")] = None,
    connections: Connections = None,
    rate: Rate = None,
    cost_month: MonthCost = None,
    price_1000: Price = None,
    currency: Currency = "EUR",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Add a source. It sends once it is in a pool."""
    body = given(name=name, address=address, ehlo_name=ehlo, node=node)
    body |= _limits(connections, rate) | _cost(cost_month, price_1000, currency)
    _added("/v1/sources", "source", body, as_json, data)


@source_app.command("change")
def change_source(
    name: Name,
    address: Annotated[str | None, typer.Option("--address", metavar="ADDRESS")] = None,
    ehlo: Ehlo = None,
    connections: Connections = None,
    rate: Rate = None,
    cost_month: MonthCost = None,
    price_1000: Price = None,
    currency: Currency = "EUR",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Change what is given of a source."""
    body = given(address=address, ehlo_name=ehlo) | _limits(connections, rate)
    _changed("sources", name, body | _cost(cost_month, price_1000, currency), as_json, data)


@relay_app.command("add")
def add_relay(
    name: Name,
    host: Annotated[str, typer.Argument(metavar="HOST", help="Name or address of the SMTP server.")],
    port: Annotated[int, typer.Option("--port", metavar="PORT", min=1, max=65_535)] = 587,
    tls: Annotated[
        str, typer.Option("--tls", metavar="HOW", help="verified, required, opportunistic or none.")
    ] = "verified",
    username: Annotated[str | None, typer.Option("--username", metavar="NAME", help="To log in with.")] = None,
    password: Annotated[
        str | None,
        typer.Option("--password", metavar="TEXT", envvar="MAILFLEET_RELAY_PASSWORD", help="To log in with."),
    ] = None,
    connections: Connections = None,
    rate: Rate = None,
    cost_month: MonthCost = None,
    price_1000: Price = None,
    currency: Currency = "EUR",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Add a relay. It sends once it is in a pool."""
    body = given(name=name, host=host, port=port, tls=tls, username=username, password=password)
    body |= _limits(connections, rate) | _cost(cost_month, price_1000, currency)
    _added("/v1/relays", "relay", body, as_json, data)


@relay_app.command("change")
def change_relay(
    name: Name,
    host: Annotated[str | None, typer.Option("--host", metavar="HOST")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="PORT", min=1, max=65_535)] = None,
    tls: Annotated[str | None, typer.Option("--tls", metavar="HOW")] = None,
    username: Annotated[str | None, typer.Option("--username", metavar="NAME")] = None,
    password: Annotated[
        str | None, typer.Option("--password", metavar="TEXT", envvar="MAILFLEET_RELAY_PASSWORD")
    ] = None,
    connections: Connections = None,
    rate: Rate = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Change what is given of a relay."""
    body = given(host=host, port=port, tls=tls, username=username, password=password)
    _changed("relays", name, body | _limits(connections, rate), as_json, data)


def _steer(app: typer.Typer, kind: str) -> None:
    """The commands that sources and relays share."""
    many = f"{kind}s"

    @app.command("list")
    def list_all(as_json: JsonOption = False, data: DataOption = None) -> None:
        with Api.open(data) as api:
            items = api.get(f"/v1/{many}")["items"]
        print_list(
            items,
            as_json,
            (kind, "leaves from" if kind == "source" else "goes to", "EHLO name", "state", "pools", "under way", "why"),
            _row,
            f"No {kind} yet. Add one: mailfleet {kind} add",
        )

    @app.command("show")
    def show_one(name: Name, as_json: JsonOption = False, data: DataOption = None) -> None:
        with Api.open(data) as api:
            view = api.get(path_of(many, name))
        _print_egress(view, as_json)

    list_all.__doc__, show_one.__doc__ = f"List the {many}.", f"Show a {kind}."
    for word, state, says in (
        ("pause", "paused", f"Stop sending by a {kind}; what it holds goes to others or waits."),
        ("resume", "active", f"Send by a {kind} again."),
        ("drain", "draining", f"Let a {kind} send what it holds and take nothing new."),
        ("retire", "retired", f"Take a {kind} out of use for good; its history stays."),
    ):
        _add_state(app, many, word, state, says)


def _add_state(app: typer.Typer, many: str, word: str, state: str, says: str) -> None:
    @app.command(word, help=says)
    def set_state(name: Name, reason: Reason = "", as_json: JsonOption = False, data: DataOption = None) -> None:
        with Api.open(data) as api:
            view = api.put(f"{path_of(many, name)}/state", {"state": state, "reason": reason})
        if as_json:
            show.json_line(view)
        else:
            show.say(show.stdout(), f"{name} is {view['state']}{': ' + view['reason'] if view['reason'] else ''}.")


_steer(source_app, "source")
_steer(relay_app, "relay")


@relay_app.command("check")
def check_relay(name: Name, as_json: JsonOption = False, data: DataOption = None) -> None:
    """Try a relay: connect, TLS and login as a delivery would. No message is sent."""
    with Api.open(data) as api:
        view = api.post(f"{path_of('relays', name)}/check", {})
    if as_json:
        show.json_line(view)
    elif view["ok"]:
        secured = view["tls"] or "in the clear"
        show.say(show.stdout(), f"{name} takes us: {view['peer']}, {secured}.\n\n{view['transcript']}")
    if not view["ok"]:
        if not as_json and view["transcript"]:
            show.say(show.stdout(), view["transcript"])
        raise CliError(f"{view['phase']}: {view['words']}", where=name, mend=view["next_step"])


def given(**values: Any) -> dict[str, Any]:
    """What was said on the command line, as the body of a request."""
    return {name: value for name, value in values.items() if value is not None}


def _limits(connections: int | None, rate: str | None) -> dict[str, Any]:
    limits = given(connections=connections, rate=rate)
    return {"limits": limits} if limits else {}


def _cost(month: float | None, per_1000: float | None, currency: str) -> dict[str, Any]:
    cost = given(month=month, per_1000=per_1000)
    return {"cost": cost | {"currency": currency}} if cost else {}


def _added(path: str, kind: str, body: dict[str, Any], as_json: bool, data: Any) -> None:
    with Api.open(data) as api:
        view = api.post(path, body)
    if as_json:
        show.json_line(view)
        return
    show.say(show.stdout(), f"{view['name']} was added. It sends once it is in a pool:")
    show.say(show.stdout(), f"  mailfleet pool set default --add {view['name']}")


def _changed(many: str, name: str, body: dict[str, Any], as_json: bool, data: Any) -> None:
    with Api.open(data) as api:
        view = api.patch(path_of(many, name), body)
    _print_egress(view, as_json)


def _row(view: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        view["name"],
        view["address"] or (f"{view['host']}:{view['port']}" if view["host"] else "any address"),
        view["ehlo_name"] or "the node's",
        view["state"],
        ", ".join(view["pools"]) or "none",
        show.number(view["leased"]),
        view["reason"],
    )


def _print_egress(view: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        show.json_line(view)
        return
    limits = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in view["limits"].items() if value)
    cost = view["cost"]
    facts = [
        (view["kind"], view["name"]),
        ("state", f"{view['state']} since {show.moment(view['since'])} UTC"),
        ("why", view["reason"]),
        ("address", view["address"]),
        ("goes to", f"{view['host']}:{view['port']}, TLS {view['tls']}" if view["host"] else ""),
        ("logs in as", view["username"]),
        ("EHLO name", view["ehlo_name"] or "the node's"),
        ("limits", limits or "each provider's"),
        ("cost", f"{cost['month']:g} a month, {cost['per_1000']:g} per 1,000 {cost['currency']}"),
        ("pools", ", ".join(view["pools"]) or "none: nothing leaves by it"),
        ("under way", show.number(view["leased"])),
    ]
    for name, value in facts:
        if value:
            show.say(show.stdout(), show.styled((f"{name:<12}", "dim"), (value, "")))
