"""``mailfleet certificate``: of this server and of every host that sending domains show."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.files import read_text
from mailfleet.cli.frame import DataOption, ExitCode, JsonOption, group
from mailfleet.cli.manage import print_list, remove

certificate_app = group("certificate", "Certificates of this server and of its sending domains' hosts.")

Host = Annotated[str, typer.Argument(metavar="HOST")]
LOOK_S = 1.0
_COLOURS = {"ok": "green", "waiting": "yellow", "expiring": "yellow", "expired": "bold red"}
_FROM = {"acme": "authority", "authority": "sandbox", "own": "imported"}


@certificate_app.command("list")
def list_certificates(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the certificates, and the hosts that wait for one."""
    with Api.open(data) as api:
        items = api.get("/v1/certificates")["items"]
    print_list(
        items,
        as_json,
        ("host", "state", "from", "until (UTC)", "renewed or tried again (UTC)", "remark"),
        lambda one: (
            one["host"],
            show.styled((one["state"], _COLOURS[one["state"]])),
            _FROM[one["issuer"]],
            show.moment(one["not_after"]) if one["not_after"] else "",
            show.moment(one["next_try"]) if one["next_try"] else "",
            one["problem"] or _next_key(one) or ("early, as the authority asks" if one["suggested"] else ""),
        ),
        "No certificate. Set acme.directory, or import one: mailfleet certificate import",
    )


@certificate_app.command("renew")
def renew(
    host: Host,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="With another key, once the DNS has told of it (TLSA).")
    ] = False,
    wait_s: Annotated[int, typer.Option("--wait", metavar="SECONDS", min=0, help="Wait for it; 0: do not.")] = 120,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Renew a certificate now. Exit code 1 when it cannot be had."""
    with Api.open(data) as api:
        before = _one(api, host)
        view = api.post(path_of("certificates", host) + "/renew", {"new_key": new_key})
        until_s = time.monotonic() + (0 if new_key else wait_s)
        while time.monotonic() < until_s:
            now = _one(api, host)
            if now["next_try"] != view["next_try"]:  # it was made, or put off
                view = now
                break
            time.sleep(LOOK_S)
    if as_json:
        show.json_line(view)
    elif new_key:
        show.say(show.stdout(), f"{view['host']}: {_next_key(view) or 'it is asked for'}.")
        if view["next_key"] and not view["next_key_from"]:
            show.say(show.stdout(), f"Its TLSA records: _25._tcp.{view['host']} TLSA {view['tlsa'][-1]}")
    elif view["problem"]:
        show.say(show.stdout(), f"{view['host']}: {view['problem']}")
    elif view["not_after"] != before["not_after"]:
        show.say(show.stdout(), f"{view['host']} has a certificate until {show.moment(view['not_after'])} UTC.")
    else:
        show.say(show.stdout(), f"{view['host']}: asked for; see mailfleet certificate list")
    if view["problem"]:
        raise typer.Exit(ExitCode.REFUSED)


@certificate_app.command("import")
def import_certificate(
    chain: Annotated[Path, typer.Argument(metavar="CHAIN", help="PEM, the server's own certificate first.")],
    key: Annotated[Path, typer.Argument(metavar="KEY", help="PEM, its private key, unencrypted.")],
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show a certificate that you have, for every host that it names, without a connection lost."""
    body = {"chain": read_text(chain, "CHAIN"), "key": read_text(key, "KEY")}
    with Api.open(data) as api:
        items = api.post("/v1/certificates", body)["items"]
    if as_json:
        show.json_line({"items": items})
        return
    for one in items:
        show.say(show.stdout(), f"{one['host']} shows it until {show.moment(one['not_after'])} UTC.")


@certificate_app.command("remove")
def remove_certificate(host: Host, as_json: JsonOption = False, data: DataOption = None) -> None:
    """Forget a certificate; a host that is to have one gets a new one."""
    remove(path_of("certificates", host), host, as_json, data)


def _next_key(view: Mapping[str, Any]) -> str:
    if not view["next_key"]:
        return ""
    if view["next_key_from"]:
        return f"another key is shown from {show.moment(view['next_key_from'])} UTC"
    return "another key waits until the DNS tells of it: mailfleet server publish"


def _one(api: Api, host: str) -> Mapping[str, Any]:
    name = host.strip().lower().rstrip(".")
    found: list[Mapping[str, Any]] = api.get("/v1/certificates")["items"]
    return next((one for one in found if one["host"] == name), {"not_after": "", "problem": "", "next_try": ""})
