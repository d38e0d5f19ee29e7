"""``mailfleet pool``, ``stream`` and ``tenant``: who leaves by which ways out, and how fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.fleet import Name, given
from mailfleet.cli.frame import CliError, DataOption, ExitCode, JsonOption, group
from mailfleet.cli.manage import print_list

pool_app = group("pool", "Pools: weighted sets of sources and relays that streams send through.")
stream_app = group("stream", "Streams: kinds of mail, with the pool they leave through and their rates.")
tenant_app = group("tenant", "The tenant: the pool and the rates of all its mail together.")


@pool_app.command("list")
def list_pools(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the pools."""
    with Api.open(data) as api:
        items = api.get("/v1/pools")["items"]
    print_list(
        items,
        as_json,
        ("pool", "members", "overflows into", "used by", "remark"),
        lambda view: (
            view["name"], _members(view), view["overflow"], ", ".join(view["used_by"]), "; ".join(view["warnings"]),
        ),
        "No pool yet.",
    )  # fmt: skip


@pool_app.command("show")
def show_pool(name: Name, as_json: JsonOption = False, data: DataOption = None) -> None:
    """Show a pool."""
    with Api.open(data) as api:
        _print_pool(api.get(path_of("pools", name)), as_json)


Members = Annotated[
    list[str] | None,
    typer.Option(
        "--member", metavar="NAME[=WEIGHT]", help="A source or relay with its weight. Repeatable; all of them."
    ),
]
Overflow = Annotated[
    str | None, typer.Option("--overflow", metavar="POOL", help="Takes what this one has no room for; '' for none.")
]


@pool_app.command("add")
def add_pool(
    name: Name, member: Members = None, overflow: Overflow = None, as_json: JsonOption = False, data: DataOption = None
) -> None:
    """Add a pool."""
    with Api.open(data) as api:
        view = api.post("/v1/pools", {"name": name} | _pool_body(member or [], overflow))
    _print_pool(view, as_json)


@pool_app.command("set")
def set_pool(
    name: Name,
    member: Members = None,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", metavar="NAME[=WEIGHT]", help="One more member, or another weight; the others stay."),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", metavar="NAME", help="One member less; the others stay.")
    ] = None,
    overflow: Overflow = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Change a pool: its members as a whole or one by one, its overflow pool."""
    if member and (add or drop):
        raise CliError(
            "--member is all of them, --add and --drop one", where="--member", mend="choose", code=ExitCode.USAGE
        )
    with Api.open(data) as api:
        if add or drop:
            now = {one["name"]: one for one in api.get(path_of("pools", name))["members"]}
            for gone in drop or []:
                if now.pop(gone, None) is None:
                    raise CliError(f"{gone} is not in {name}", where="--drop", mend=f"mailfleet pool show {name}")
            now |= {one["name"]: one for one in map(_member, add or [])}
            member = [f"{one['name']}={one['weight']}" for one in now.values()]
        view = api.patch(path_of("pools", name), _pool_body(member, overflow))
    _print_pool(view, as_json)


@pool_app.command("remove")
def remove_pool(name: Name, as_json: JsonOption = False, data: DataOption = None) -> None:
    """Remove a pool that nothing sends through."""
    with Api.open(data) as api:
        api.delete(path_of("pools", name))
    if as_json:
        show.json_line({"removed": name})
    else:
        show.say(show.stdout(), f"{name} was removed.")


@stream_app.command("list")
def list_streams(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the streams."""
    with Api.open(data) as api:
        items = api.get("/v1/streams")["items"]
    print_list(
        items, as_json, ("stream", "kind", "pool", "beyond a warm-up", "rates", "weight"), _stream_row, "No stream."
    )


@stream_app.command("set")
def set_stream(
    name: Name,
    pool: Annotated[str | None, typer.Option("--pool", metavar="POOL", help="'' for the tenant's.")] = None,
    spill: Annotated[
        str | None, typer.Option("--spill", metavar="WHERE", help="later, or overflow: what is beyond a warm-up's cap.")
    ] = None,
    rates: Annotated[
        str | None, typer.Option("--rate", metavar="RATE", help="10/s, 1000/h, '10/s 20000/d'; '' for none.")
    ] = None,
    weight: Annotated[int | None, typer.Option("--weight", metavar="N", min=1)] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Change where a stream leaves, and how fast. Rates delay; they never reject."""
    with Api.open(data) as api:
        view = api.patch(path_of("streams", name), given(pool=pool, spill=spill, rates=rates, weight=weight))
    if as_json:
        show.json_line(view)
    else:
        show.table(
            show.stdout(), ("stream", "kind", "pool", "beyond a warm-up", "rates", "weight"), [_stream_row(view)]
        )


@tenant_app.command("show")
def show_tenant(as_json: JsonOption = False, data: DataOption = None) -> None:
    """Show what holds for all mail together."""
    with Api.open(data) as api:
        _print_tenant(api.get("/v1/tenant"), as_json)


@tenant_app.command("set")
def set_tenant(
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="POOL", help="For streams without their own; '' for default.")
    ] = None,
    rates: Annotated[
        str | None, typer.Option("--rate", metavar="RATE", help="Of all mail together; '' for any.")
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Change the pool or the rates of all mail together."""
    with Api.open(data) as api:
        _print_tenant(api.patch("/v1/tenant", given(pool=pool, rates=rates)), as_json)


def _print_tenant(view: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        show.json_line(view)
    else:
        show.say(show.stdout(), f"{view['name']} sends through {view['pool']}, {view['rates'] or 'at any rate'}.")


def _stream_row(view: Mapping[str, Any]) -> tuple[str, ...]:
    return view["name"], view["kind"], view["pool"], view["spill"], view["rates"] or "any", str(view["weight"])


def _pool_body(members: list[str] | None, overflow: str | None) -> dict[str, Any]:
    body: dict[str, Any] = given(overflow=overflow)
    if members is not None:
        body["members"] = [_member(text) for text in members]
    return body


def _member(text: str) -> dict[str, Any]:
    name, _, weight = text.partition("=")
    if weight and not weight.isdigit():
        raise CliError(f"{text!r} is no member", where="--member", mend="write it as s1=3", code=ExitCode.USAGE)
    return {"name": name, "weight": int(weight or 1)}


def _members(view: Mapping[str, Any]) -> str:
    return ", ".join(f"{one['name']}={one['weight']}" for one in view["members"]) or "none"


def _print_pool(view: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        show.json_line(view)
        return
    console = show.stdout()
    total = sum(one["weight"] for one in view["members"]) or 1
    rows = [(one["name"], str(one["weight"]), f"{100 * one['weight'] / total:.1f} %") for one in view["members"]]
    used = ", ".join(view["used_by"]) or "no stream"
    show.say(console, f"Pool {view['name']}, used by {used}, overflows into {view['overflow'] or 'nothing'}.\n")
    if rows:
        show.table(console, ("member", "weight", "share"), rows)
    for warning in view["warnings"]:
        show.say(console, show.styled(("warning: ", "bold yellow"), (warning, "")))
