"""``mailfleet credential``, ``token`` and ``suppression``: what may send, who may ask, who must not be mailed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.frame import DataOption, JsonOption, group

credential_app = group("credential", "SMTP logins for your applications.")
token_app = group("token", "Bearer tokens for the HTTP API and this command line.")
suppression_app = group("suppression", "Addresses that must not be mailed.")


@credential_app.command("add")
def add_credential(
    username: Annotated[str, typer.Argument(metavar="USERNAME", help="The login name, for example shop-app.")],
    stream: Annotated[
        str, typer.Option("--stream", metavar="NAME", help="The stream its mail belongs to.")
    ] = "transactional",
    domain: Annotated[
        list[str] | None,
        typer.Option(
            "--domain", metavar="DOMAIN", help="May send only from this domain. Repeatable. Default: from all."
        ),
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Make an SMTP login. Its password is shown once, now."""
    body = {"username": username, "stream": stream, "allowed_domains": domain or []}
    with Api.open(data) as api:
        view = api.post("/v1/credentials", body)
    if as_json:
        show.json_line(view)
        return
    _once([("credential", view["credential"]), ("username", view["username"]), ("password", view["password"])])


@credential_app.command("list")
def list_credentials(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the SMTP logins."""
    _list(
        "/v1/credentials", as_json, data,
        ("credential", "username", "stream", "may send from", "made (UTC)"),
        lambda view: (
            view["credential"], view["username"], view["stream"],
            ", ".join(view["allowed_domains"]) or "every domain", show.moment(view["created_at"]),
        ),
        "No SMTP login yet. Make one: mailfleet credential add NAME",
    )  # fmt: skip


@credential_app.command("remove")
def remove_credential(
    credential: Annotated[str, typer.Argument(metavar="CREDENTIAL", help="Its id, crd_...")],
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Revoke an SMTP login at once."""
    remove(path_of("credentials", credential), credential, as_json, data)


@token_app.command("add")
def add_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for, for example crm-import.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="send, read or manage. Repeatable. Default: send and read."),
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Make an API token. Its secret is shown once, now."""
    with Api.open(data) as api:
        view = api.post("/v1/tokens", {"name": name, "scopes": scope or ["send", "read"]})
    if as_json:
        show.json_line(view)
        return
    _once([("token", view["token"]), ("scopes", ", ".join(view["scopes"])), ("secret", view["secret"])])


@token_app.command("list")
def list_tokens(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the API tokens."""
    _list(
        "/v1/tokens", as_json, data,
        ("token", "name", "scopes", "made (UTC)"),
        lambda view: (view["token"], view["name"], ", ".join(view["scopes"]), show.moment(view["created_at"])),
        "No API token yet. Make one: mailfleet token add NAME",
    )  # fmt: skip


@token_app.command("remove")
def remove_token(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, tok_...")],
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Revoke an API token at once."""
    remove(path_of("tokens", token), token, as_json, data)


@suppression_app.command("add")
def add_suppression(
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    stream: Annotated[
        str, typer.Option("--stream", metavar="NAME", help="Only for this stream. Default: for all mail.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")] = "manual",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Mail this address no more."""
    body = {"address": address, "stream": stream or None, "reason": reason}
    with Api.open(data) as api:
        view = api.post("/v1/suppressions", body)
    if as_json:
        show.json_line(view)
    else:
        show.say(show.stdout(), f"{view['address']} gets no more mail{_scope(view)}.")


@suppression_app.command("list")
def list_suppressions(
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="At most this many. Default: all.")
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List the addresses that must not be mailed, oldest first."""
    with Api.open(data) as api:
        found = api.pages("/v1/suppressions", limit=limit)
        print_list(
            found, as_json,
            ("address", "stream", "reason", "evidence", "since (UTC)"),
            lambda view: (
                view["address"], view["stream"] or "all", view["reason"],
                show.shorten(view["evidence"], 100), show.moment(view["created_at"]),
            ),
            "No address is suppressed.",
        )  # fmt: skip


@suppression_app.command("remove")
def remove_suppression(
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    stream: Annotated[
        str,
        typer.Option("--stream", metavar="NAME", help="The suppression of this stream. Default: the one for all mail."),
    ] = "",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Lift a suppression."""
    remove("/v1/suppressions", address, as_json, data, address=address, stream=stream)


def _scope(view: Mapping[str, Any]) -> str:
    return f" of stream {view['stream']}" if view["stream"] else ""


def _once(facts: list[tuple[str, str]]) -> None:
    console = show.stdout()
    for name, value in facts:
        show.say(console, show.styled((f"{name:<11}", "dim"), (value, "")))
    show.say(show.stderr(), "The last line is shown only this once. Keep it where secrets are kept.")


def _list(path: str, as_json: bool, data: Any, columns: tuple[str, ...], row: Any, none: str) -> None:
    with Api.open(data) as api:
        answer = api.get(path)
    print_list(answer["items"] if isinstance(answer, dict) else answer, as_json, columns, row, none)


def print_list(found: Iterable[Any], as_json: bool, columns: tuple[str, ...], row: Any, none: str) -> None:
    """A listing as a table, or ``none`` where it is empty; as JSON one object a line."""
    if as_json:
        for view in found:
            show.json_line(view)
        return
    rows = [row(view) for view in found]
    if rows:
        show.table(show.stdout(), columns, rows, whole=columns[:1])
    else:
        show.say(show.stdout(), none)


def remove(path: str, what: str, as_json: bool, data: Any, **params: object) -> None:
    """Remove a record by its path, and say so."""
    with Api.open(data) as api:
        api.delete(path, **params)
    if as_json:
        show.json_line({"removed": what})
    else:
        show.say(show.stdout(), f"{what} was removed.")
