"""``mailfleet domain set`` and ``domain logo``: what a sending domain says of itself, beside what its mail needs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.domains import Domain, domain_app
from mailfleet.cli.files import read_text
from mailfleet.cli.frame import CliError, DataOption, ExitCode, JsonOption

__all__ = ["domain_app"]  # with these commands


@domain_app.command("set")
def set_domain(
    domain: Domain,
    dmarc: Annotated[str | None, typer.Option("--dmarc", metavar="POLICY", help="none, quarantine or reject.")] = None,
    reports_to: Annotated[
        str | None, typer.Option("--dmarc-reports-to", metavar="ADDRESS", help="'' for nobody.")
    ] = None,
    rollout: Annotated[
        str | None, typer.Option("--dmarc-rollout", metavar="HOW", help="by-hand, or auto: as reports show.")
    ] = None,
    rotate_days: Annotated[
        int | None, typer.Option("--rotate-days", metavar="N", min=0, help="A new key after so many days; 0: by hand.")
    ] = None,
    mta_sts: Annotated[
        str | None, typer.Option("--mta-sts", metavar="MODE", help="For mail to it: off, testing or enforce.")
    ] = None,
    mta_sts_mx: Annotated[
        list[str] | None,
        typer.Option("--mta-sts-mx", metavar="HOST", help="A mail host of the policy; repeatable; default: its MX."),
    ] = None,
    tls_reports_to: Annotated[
        str | None, typer.Option("--tls-reports-to", metavar="ADDRESS", help="TLS-RPT; '' for nobody.")
    ] = None,
    public_host: Annotated[
        str | None, typer.Option("--public-host", metavar="HOST", help="Shows its files, for example assets.DOMAIN.")
    ] = None,
    bimi_evidence: Annotated[
        str | None, typer.Option("--bimi-evidence", metavar="URL", help="Where its mark certificate is; '' for none.")
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Set the stage of DMARC, reports, key rotation, its own MTA-STS policy and hosts. Publish afterwards."""
    if mta_sts is not None and mta_sts_mx is None:
        mta_sts_mx = []  # look again
    given = {
        "dmarc_policy": dmarc, "dmarc_reports_to": reports_to, "dmarc_rollout": rollout, "rotate_days": rotate_days,
        "mta_sts": mta_sts, "mta_sts_mx": mta_sts_mx, "tls_reports_to": tls_reports_to, "public_host": public_host,
        "bimi_evidence": bimi_evidence,
    }  # fmt: skip
    with Api.open(data) as api:
        now = api.get(path_of("domains", domain) + "/settings")
        changed = {name: value for name, value in given.items() if value is not None}
        view = api.put(path_of("domains", domain) + "/settings", now | changed) if changed else now
    if as_json:
        show.json_line(view)
        return
    _print_settings(domain, view)
    if changed:
        show.say(show.stdout(), f"Put it into the DNS: mailfleet domain publish {domain}")


@domain_app.command("logo")
def logo(
    domain: Domain,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="SVG Tiny PS, at most 32 KB.")] = None,
    take_away: Annotated[bool, typer.Option("--remove", help="Show none any more.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Set the logo that mailbox providers may show beside its mail (BIMI). Publish afterwards."""
    path = path_of("domains", domain) + "/logo"
    if (file is None) != take_away:
        raise CliError("give either a file or --remove", mend="mailfleet domain logo DOMAIN FILE", code=ExitCode.USAGE)
    with Api.open(data) as api:
        view = api.delete(path) if file is None else api.put(path, {"svg": read_text(file, "FILE")})
    if as_json:
        show.json_line(view)
        return
    show.say(
        show.stdout(), f"{domain} shows no logo." if file is None else f"The logo is shown at {view['public_host']}."
    )
    show.say(show.stdout(), f"Put it into the DNS: mailfleet domain publish {domain}")


def _print_settings(domain: str, view: Mapping[str, Any]) -> None:
    console = show.stdout()
    often = f"every {view['rotate_days']} days" if view["rotate_days"] else "by hand"
    reports = view["dmarc_reports_to"] or "nobody"
    how = " and on from there as reports show" if view["dmarc_rollout"] == "auto" else ""
    show.say(console, f"{domain}: DMARC p={view['dmarc_policy']}{how}, reports to {reports}; the key changes {often}.")
    if view["mta_sts"] != "off":
        show.say(console, f"Mail to it: MTA-STS {view['mta_sts']}, by way of {', '.join(view['mta_sts_mx'])}.")
    if view["tls_reports_to"]:
        show.say(console, f"Reports on TLS go to {view['tls_reports_to']}.")
    if view["public_host"]:
        show.say(console, f"Its files are shown at https://{view['public_host']}.")
