"""docs/guides/sandbox.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from mailfleet.config.settings import Sandbox
from mailfleet.sandbox import catalogue
from mailfleet.sandbox.manners import PREFIXES, REASONS, Manner
from mailfleet.sandbox.report import report
from mailfleet.sandbox.zone import SPECIAL

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "sandbox.md").read_text("utf-8")


def test_every_local_part_reason_and_special_name_is_explained() -> None:
    for word in [prefix for prefix, _ in PREFIXES] + list(REASONS.values()) + list(SPECIAL):
        assert f"`{word}`" in GUIDE, word


def test_every_provider_stands_with_its_limits_and_made_up_domains() -> None:
    for spec in catalogue.load():
        row = next(line for line in GUIDE.splitlines() if line.startswith(f"| `{spec.name}` |"))
        assert f"base + {spec.address} |" in row
        assert f"{spec.max_connections} connections" in row
        assert f"{spec.messages_per_connection:,} messages each" in row
        assert ("STARTTLS" in row) == spec.starttls
        made_up = {name for _, names in spec.mx for name in names if name.endswith(".example")}
        assert all(f"`{name}`" in row for name in made_up)
        assert f"{spec.connections_per_minute:,} new" in GUIDE.replace("\n", " ")


def test_the_table_of_shares_is_the_one_in_force() -> None:
    lines = GUIDE.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("| | unknown |"))
    manners = [Manner(cell.strip()) for cell in lines[head].split("|")[2:-1]]
    for spec, line in zip(catalogue.load(), lines[head + 2 :], strict=False):
        name, *cells = [cell.strip() for cell in line.split("|")[1:-1]]
        assert name == spec.name
        shown = {manner: float(cell) for manner, cell in zip(manners, cells, strict=True) if cell}
        assert shown == {manner: round(share * 100, 6) for manner, share in spec.rates.items()}


def test_defaults_and_report_keys_are_named(tmp_path: Path) -> None:
    defaults = Sandbox()
    for name in ("address_base", "smtp_port", "dns_port", "time_scale"):
        value = getattr(defaults, name)
        assert re.search(rf"`sandbox\.{name}`\s\({int(value) if name == 'time_scale' else value}\)", GUIDE), name
    for key in report(tmp_path)["totals"]:
        assert f'"{key}"' in GUIDE
        assert f"`{key}`" in GUIDE
