"""``mailfleet domain``: sending domains, what the DNS must hold for them, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.dns_show import (
    Adopt,
    Provider,
    ZoneLines,
    end,
    print_checks,
    print_history,
    print_plan,
    print_publish,
    print_records,
)
from mailfleet.cli.frame import DataOption, ExitCode, JsonOption, group
from mailfleet.cli.manage import print_list, remove

domain_app = group("domain", "Sending domains: their keys, their DNS records, and whether all is right.")

Domain = Annotated[str, typer.Argument(metavar="DOMAIN")]


@domain_app.command("add")
def add_domain(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="The domain in From, for example shop.example.")],
    ed25519: Annotated[bool, typer.Option("--ed25519", help="Sign with an Ed25519 key too, beside RSA-2048.")] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="Put its records into the DNS and check them; see mailfleet dns.")
    ] = False,
    adopt: Adopt = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Add a sending domain: makes its keys, and prints the DNS records or publishes them."""
    with Api.open(data) as api:
        view = api.post("/v1/domains", {"domain": domain, "ed25519": ed25519})
        if not publish:
            if as_json:
                show.json_line(view)
                return
            show.say(show.stdout(), f"{view['domain']} was added. Publish these records where its DNS is run:\n")
            print_records(view)
            return
        if not as_json:
            show.say(show.stdout(), f"{view['domain']} was added.")
        done = api.post(path_of("domains", domain) + "/publish", {"adopt": adopt})
        checks = api.post(path_of("domains", domain) + "/check", {})
    if as_json:
        show.json_line(view | {"publish": done, "checks": checks})
    else:
        print_publish(done, "domain")
        _print_checks(checks)
    end(checks, done)


@domain_app.command("list")
def list_domains(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the sending domains."""
    with Api.open(data) as api:
        items = api.get("/v1/domains")["items"]
    print_list(
        items, as_json,
        ("domain", "return-path host", "selectors", "added (UTC)"),
        lambda view: (view["domain"], view["return_path_host"], ", ".join(view["selectors"]), show.moment(view["created_at"])),
        "No sending domain yet. Add one: mailfleet domain add shop.example",
    )  # fmt: skip


@domain_app.command("show")
def show_domain(domain: Domain, as_json: JsonOption = False, data: DataOption = None) -> None:
    """Show a sending domain and its DNS records."""
    with Api.open(data) as api:
        view = api.get(path_of("domains", domain))
    if as_json:
        show.json_line(view)
        return
    show.say(show.stdout(), f"{view['domain']}, added {show.moment(view['created_at'])} UTC. Its records in the DNS:\n")
    print_records(view)


@domain_app.command("remove")
def remove_domain(
    domain: Domain,
    unpublish: Annotated[bool, typer.Option("--unpublish", help="Take its records out of the DNS first.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Forget a sending domain, its keys and its DMARC reports."""
    if unpublish:
        with Api.open(data) as api:
            done = api.post(path_of("domains", domain) + "/unpublish", {})
        if not as_json:
            print_publish(done, "domain")
    remove(path_of("domains", domain), domain, as_json, data)


@domain_app.command("plan")
def plan(
    domain: Domain,
    zone: ZoneLines = False,
    never_sends: Annotated[
        bool, typer.Option("--never-sends", help="For a domain that sends and receives nothing; it need not be added.")
    ] = False,
    provider: Provider = "",
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Print every record that the DNS must hold, with what others have there taken into account."""
    with Api.open(data) as api:
        if never_sends:
            view = api.get("/v1/dns-plans/never-sends", **{"domain": domain, "for": provider})
        else:
            view = api.get(path_of("domains", domain) + "/plan", **{"for": provider})
    print_plan(view, as_json, zone=zone)


@domain_app.command("check")
def check(
    domain: Domain,
    last: Annotated[bool, typer.Option("--last", help="As it was found last, without looking now.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Look whether the DNS holds what it must, on every authoritative server. Exit code 1 when something is wrong."""
    with Api.open(data) as api:
        view = (
            api.get(path_of("domains", domain) + "/checks")
            if last
            else api.post(path_of("domains", domain) + "/check", {})
        )
    if as_json:
        show.json_line(view)
    else:
        _print_checks(view)
    end(view)


@domain_app.command("history")
def history(
    domain: Domain,
    limit: Annotated[int, typer.Option("--last", metavar="N", min=1, max=1000)] = 50,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """What has changed in the checks of a domain, newest first."""
    with Api.open(data) as api:
        items = api.get(path_of("domains", domain) + "/history", limit=limit)["items"]
    print_history(items, as_json, "domain")


@domain_app.command("publish")
def publish(
    domain: Domain,
    adopt: Adopt = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be changed.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Put the plan into the DNS. Only records of ours are touched; doing it twice changes nothing."""
    with Api.open(data) as api:
        view = api.post(path_of("domains", domain) + "/publish", {"adopt": adopt, "dry_run": dry_run})
    if as_json:
        show.json_line(view)
    else:
        print_publish(view, "domain")
    if view["conflicts"] or view["missing"]:
        raise typer.Exit(ExitCode.REFUSED)


@domain_app.command("keys")
def keys(domain: Domain, as_json: JsonOption = False, data: DataOption = None) -> None:
    """The DKIM keys of a domain."""
    with Api.open(data) as api:
        view = api.get(path_of("domains", domain) + "/keys")
    _print_keys(view, as_json)


@domain_app.command("rotate")
def rotate(
    domain: Domain,
    leaked: Annotated[
        bool, typer.Option("--leaked", help="The old key goes as soon as the new one signs, older ones at once.")
    ] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Change the DKIM key: the next one signs as soon as every name server has it, the old one stays for mail under way."""
    with Api.open(data) as api:
        view = api.post(path_of("domains", domain) + "/rotate", {"at_once": leaked})
    _print_keys(view, as_json)


def _print_keys(view: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        show.json_line(view)
        return
    rows = [
        (one["selector"], one["algorithm"], str(one["bits"]), one["stage"], show.moment(one["since"]), one["warning"])
        for one in view["keys"]
    ]
    show.table(show.stdout(), ("selector", "algorithm", "bits", "stage", "since (UTC)", "remark"), rows)


def _print_checks(view: Mapping[str, Any]) -> None:
    if not print_checks(view, "domain"):
        return
    unknown = any(one["state"] == "unknown" for one in view["checks"])
    ready = "is ready for bulk mail"
    if not view["ready_for_bulk"]:
        ready = "is not ready for bulk mail: campaigns from it are refused"
    elif unknown:
        ready = "may send bulk mail: nothing that is known speaks against it"
    show.say(show.stdout(), f"\n{view['domain']} {ready}.")
