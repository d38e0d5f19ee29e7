"""``mailfleet settings``: the example file and the reference page, made from the one schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mailfleet.cli import show
from mailfleet.cli.frame import DataOption, JsonOption, group
from mailfleet.config import reference
from mailfleet.config.settings import load

app = group("settings", "What can be set, and what is set.")


@app.command("example")
def example() -> None:
    """Print a mailfleet.toml with every setting, its default and its meaning, all commented out."""
    typer.echo(reference.example_toml(), nl=False)


@app.command("reference")
def reference_page() -> None:
    """Print the settings reference as Markdown."""
    typer.echo(reference.reference_markdown(), nl=False)


@app.command("check")
def check(
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The file to check.")] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Check the settings that serve would use, environment included, without starting anything."""
    settings = load(config, data=data)
    if as_json:
        show.json_line(settings.model_dump(mode="json"))
    else:
        show.say(show.stdout(), f"The settings are usable. The data folder is {settings.data}.")
