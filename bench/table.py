"""The results as a table."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from bench.rounds import number_of


def show(record: dict[str, Any], names: list[str]) -> None:
    """One row a figure, the ratios below each scenario's first, promises of durability at the end."""
    table = Table("scenario", "system", "median", "min", "max", "unit", "ratio to it")
    for name in names:
        found = record["results"][name]
        ratios = found.get("ratio", {})
        for system, figure in found.items():
            if not isinstance(figure, dict) or "median" not in figure:
                continue
            row = [number_of(figure[key]) for key in ("median", "min", "max")]
            table.add_row(name, system, *row, figure["unit"], f"{ratios[system]:.2f}" if system in ratios else "")
        for other in ratios.keys() - found.keys():
            table.add_row(name, f"[dim]against {other}[/dim]", "", "", "", "", f"{ratios[other]:.2f}")
        table.add_section()
    console = Console()
    console.print(table)
    if "durability" in names:
        promises = Table("system", "what is on disk before it says yes")
        for system, figure in record["results"]["durability"].items():
            if isinstance(figure, dict) and "durability" in figure:
                promises.add_row(system, figure["durability"])
        console.print(promises)
    machine = record["machine"]
    console.print(
        f"{machine['cores']} cores, {machine['cpu']}, {machine['file_system']}, a sync takes {machine['fdatasync_ms']} ms. "
        "Quote the ratios, not the rates."
    )
