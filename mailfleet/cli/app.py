"""The tree of commands, and ``mailfleet serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mailfleet import __version__
from mailfleet.cli import (
    blocklist,
    campaign,
    certificates,
    db,
    digest,
    dmarc,
    dns,
    explain,
    find,
    fleet,
    manage,
    pools,
    provider,
    rehearse,
    reputation,
    sandbox,
    send,
    server,
    settings,
    steer,
    tls,
)
from mailfleet.cli.frame import EPILOG, Group

app = typer.Typer(
    name="mailfleet",
    cls=Group,
    help="Send your own marketing and transactional mail from your own servers.",
    epilog=EPILOG,
    context_settings={"max_content_width": 110},
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mailfleet {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Send your own marketing and transactional mail from your own servers."""


@app.command("serve")
def serve(
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Send to simulated mailbox providers on this machine and nowhere else.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            envvar="MAILFLEET_DATA",
            help="The one folder for everything. Default: as in mailfleet.toml, else ./data.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", help="The settings. Default: ./mailfleet.toml, then DIR/mailfleet.toml."
        ),
    ] = None,
) -> None:
    """Run the server until Ctrl-C or SIGTERM."""
    from mailfleet.app.supervisor import serve as run_server
    from mailfleet.config.settings import load

    raise typer.Exit(run_server(load(config, data=data, sandbox=sandbox)))


app.command("send")(send.send)
app.add_typer(campaign.app)
app.command("rehearse", cls=rehearse.ByDay)(rehearse.rehearse)
app.command("trace")(find.trace)
app.command("queue")(find.queue)
app.command("events")(find.events)
app.add_typer(digest.domain_app)
app.add_typer(certificates.certificate_app)
app.add_typer(server.server_app)
app.add_typer(dns.dns_app)
app.add_typer(manage.credential_app)
app.add_typer(manage.token_app)
app.add_typer(manage.suppression_app)
app.add_typer(fleet.source_app)
app.add_typer(fleet.relay_app)
app.add_typer(pools.pool_app)
app.add_typer(pools.stream_app)
app.add_typer(pools.tenant_app)
app.add_typer(provider.app)
app.add_typer(reputation.app)
app.add_typer(blocklist.app)
app.add_typer(tls.app)
app.add_typer(dmarc.app)
app.add_typer(steer.brake_app)
app.add_typer(steer.warmup_app)
app.add_typer(sandbox.app)
app.add_typer(explain.app)
app.add_typer(settings.app)
app.add_typer(db.app)
