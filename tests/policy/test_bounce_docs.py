"""The guide to bounces names every class, and only classes that exist."""

from __future__ import annotations

import re
from pathlib import Path

from mailfleet.policy.bounce_classes import BOUNCE_CLASSES

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "reading-bounces.md"


def test_the_guides_table_has_every_class() -> None:
    table = GUIDE.read_text("utf-8").split("## The classes")[1].split("##")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]
    named = {word for cell in cells[1:] for word in re.split(r"[ ,]+", cell.strip())}
    assert named == set(BOUNCE_CLASSES) - {"none"}
