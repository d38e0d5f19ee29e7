"""The pages of docs/reference that are made from the program say what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailfleet.cli.reference import cli_markdown
from mailfleet.config.reference import example_toml, metrics_markdown, reference_markdown

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize(
    ("name", "made", "remake"),
    [
        ("cli.md", cli_markdown, "python -m mailfleet.cli.reference"),
        ("metrics.md", metrics_markdown, "python -m mailfleet.cli.reference metrics"),
        ("settings.md", reference_markdown, "mailfleet settings reference"),
        ("mailfleet.example.toml", example_toml, "mailfleet settings example"),
    ],
)
def test_the_page_is_the_one_that_the_program_makes(name: str, made: object, remake: str) -> None:
    assert callable(made)
    assert (REFERENCE / name).read_text("utf-8") == made(), f"make it again: {remake} > docs/reference/{name}"


def test_the_guide_names_only_commands_and_options_that_exist() -> None:
    guide = (REFERENCE.parent / "guides" / "first-campaign.md").read_text("utf-8")
    known = cli_markdown() + "`--json` `--rows` `--help`"
    for command in re.findall(r"mailfleet ((?:campaign|sandbox|domain) [a-z]+|send|trace|queue|events|serve)\b", guide):
        assert f"`mailfleet {command}" in known, command
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", guide):
        assert f"`{option}`" in known, option
