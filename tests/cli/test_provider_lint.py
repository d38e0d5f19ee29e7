"""``mailfleet provider lint`` finds what is in vain, and says so in its exit code."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from mailfleet.cli.app import app


def test_the_shipped_files_are_fine() -> None:
    ran = CliRunner().invoke(app, ["provider", "lint"])
    assert ran.exit_code == 0
    assert "none is in vain" in ran.output


def test_an_own_file_that_does_nothing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[[provider]]\nname = "gmail"\nconnections = 5\n')
    ran = CliRunner().invoke(app, ["provider", "lint", str(path), "--json"])
    assert ran.exit_code == 1
    assert json.loads(ran.output.splitlines()[0]) == {"faults": ["mine.toml: provider gmail: it changes nothing"]}
