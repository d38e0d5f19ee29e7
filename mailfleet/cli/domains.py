"""``mailfleet domain`` and ``mailfleet dns``: sending domains, what the DNS must hold for them, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.frame import DataOption, ExitCode, JsonOption, group
from mailfleet.cli.manage import print_list, remove

domain_app = group("domain", "Sending domains: their keys, their DNS records, and whether all is right.")
dns_app = group("dns", "Zones that Mailfleet may write to, by dynamic update (RFC 2136).")

Domain = Annotated[str, typer.Argument(metavar="DOMAIN")]
Adopt = Annotated[
    bool, typer.Option("--adopt", help="Merge into or replace what others have where our records should be.")
]
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "bold red", "unknown": "magenta"}
SHOWN = 70


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
            _print_records(view)
            return
        if not as_json:
            show.say(show.stdout(), f"{view['domain']} was added.")
        done = api.post(path_of("domains", domain) + "/publish", {"adopt": adopt})
        checks = api.post(path_of("domains", domain) + "/check", {})
    if as_json:
        show.json_line(view | {"publish": done, "checks": checks})
    else:
        _print_publish(done)
        _print_checks(checks)
    _end(checks, done)


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
    _print_records(view)


@domain_app.command("remove")
def remove_domain(
    domain: Domain,
    unpublish: Annotated[bool, typer.Option("--unpublish", help="Take its records out of the DNS first.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Forget a sending domain and its keys."""
    if unpublish:
        with Api.open(data) as api:
            done = api.post(path_of("domains", domain) + "/unpublish", {})
        if not as_json:
            _print_publish(done)
    remove(path_of("domains", domain), domain, as_json, data)


@domain_app.command("plan")
def plan(
    domain: Domain,
    zone: Annotated[bool, typer.Option("--zone", help="Print the lines of a zone file and nothing else.")] = False,
    never_sends: Annotated[
        bool, typer.Option("--never-sends", help="For a domain that sends and receives nothing; it need not be added.")
    ] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Print every record that the DNS must hold, with what others have there taken into account."""
    with Api.open(data) as api:
        if never_sends:
            view = api.get("/v1/dns-plans/never-sends", domain=domain)
        else:
            view = api.get(path_of("domains", domain) + "/plan")
    if as_json:
        show.json_line(view)
    elif zone:
        show.stdout().print(view["zone"], end="", soft_wrap=True, markup=False, highlight=False)
    else:
        _print_records(view)


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
    _end(view)


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
    print_list(
        items,
        as_json,
        ("when (UTC)", "check", "was", "is", "meaning"),
        lambda one: (show.moment(one["at"]), one["name"], one["before"] or "new", one["state"], one["meaning"]),
        "Nobody has looked yet: mailfleet domain check",
    )


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
        _print_publish(view)
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
    leaked: Annotated[bool, typer.Option("--leaked", help="The old key goes as soon as the new one signs.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Change the DKIM key: the next one signs as soon as every name server has it, the old one stays for mail under way."""
    with Api.open(data) as api:
        view = api.post(path_of("domains", domain) + "/rotate", {"at_once": leaked})
    _print_keys(view, as_json)


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


def _print_records(view: Mapping[str, Any]) -> None:
    """Each record in blocks of lines, value whole on its own line: DKIM keys are long and must survive copying."""
    console = show.stdout()
    for record in view["records"]:
        show.say(
            console,
            show.styled((record["name"], "bold"), (f"  {record['type']}  ", "cyan"), (record["purpose"], "dim")),
        )
        console.print(show.styled(("    ", ""), (record["value"], "")), soft_wrap=True)
    show.say(console)


def _print_publish(view: Mapping[str, Any]) -> None:
    console = show.stdout()
    if not (view["changes"] or view["by_hand"] or view["conflicts"]):
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
        show.say(console, "    Publish that text yourself, or let it be done: mailfleet domain publish --adopt")
    for name in view["unknown"]:
        show.say(console, show.styled(("no answer: ", "magenta"), (f"no server answers for {name}", "")))
    for name in view["missing"]:
        show.say(console, show.styled(("not seen yet: ", "yellow"), (name, "")))


def _print_change(word: str, one: Mapping[str, Any], colour: str) -> None:
    console = show.stdout()
    show.say(console, show.styled((f"{word} ", colour), (f"{one['name']} {one['type']}", "bold")))
    console.print(show.styled(("    ", ""), (one["value"], "")), soft_wrap=True)


def _print_checks(view: Mapping[str, Any]) -> None:
    console = show.stdout()
    if not view["checks"]:
        show.say(console, "Nobody has looked yet: mailfleet domain check")
        return
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
    unknown = any(one["state"] == "unknown" for one in view["checks"])
    ready = "is ready for bulk mail"
    if not view["ready_for_bulk"]:
        ready = "is not ready for bulk mail: campaigns from it are refused"
    elif unknown:
        ready = "may send bulk mail: nothing that is known speaks against it"
    show.say(console, f"\n{view['domain']} {ready}.")


def _print_keys(view: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        show.json_line(view)
        return
    rows = [
        (one["selector"], one["algorithm"], str(one["bits"]), one["stage"], show.moment(one["since"]), one["warning"])
        for one in view["keys"]
    ]
    show.table(show.stdout(), ("selector", "algorithm", "bits", "stage", "since (UTC)", "remark"), rows)


def _end(checks: Mapping[str, Any], done: Mapping[str, Any] | None = None) -> None:
    """The exit code: something is wrong, or could not be put right."""
    if checks["state"] == "failed" or (done and (done["conflicts"] or done["missing"])):
        raise typer.Exit(ExitCode.REFUSED)
