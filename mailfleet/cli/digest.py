"""``mailfleet domain digest``: the nightly mail of what changed, before it is sent."""

from __future__ import annotations

from typing import Annotated

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api
from mailfleet.cli.domain_settings import domain_app
from mailfleet.cli.frame import DataOption, JsonOption

__all__ = ["domain_app"]  # with this command


@domain_app.command("digest")
def digest(
    html: Annotated[bool, typer.Option("--html", help="Print its HTML and nothing else.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Print the nightly mail of what changed as it would be sent now. Nothing is sent."""
    with Api.open(data) as api:
        view = api.get("/v1/digest")
    console = show.stdout()
    if as_json:
        show.json_line(view)
    elif html:
        console.print(view["html"], end="", soft_wrap=True)
    else:
        for name, value in (("From", view["sender"]), ("To", view["to"]), ("Subject", view["subject"])):
            console.print(show.styled((f"{name + ':':<9}", "dim"), (value or "nobody", "")), soft_wrap=True)
        console.print()
        console.print(show.clean(view["text"]), end="", soft_wrap=True)
        _print_fate(view["to"], view["nothing"], view["problem"], show.moment(view["next"])[:16])


def _print_fate(to: str, nothing: bool, problem: str, due: str) -> None:
    """What becomes of it, beside what it says."""
    if not to:
        fate = "Nobody gets it: set digest.to."
    elif problem:
        fate = f"It cannot be sent: {problem}."
    elif nothing:
        fate = f"Nothing to tell: no mail would be sent. Next look: {due} UTC."
    else:
        fate = f"The next one is due at {due} UTC."
    show.say(show.stderr(), show.styled((fate, "bold")))
