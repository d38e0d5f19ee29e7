"""What ``mailfleet serve`` says when it is ready."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from mailfleet.app.folder import DataFolder
from mailfleet.config.settings import Settings

EXAMPLE = (
    "mailfleet send --from 'Harbour & Pine <news@shop.example>' \\\n"
    "    --subject 'Spring at the harbour, {{ first_name | default(\"friend\", true) }}' \\\n"
    "    --html examples/newsletter/newsletter.html --recipients examples/newsletter/recipients.csv \\\n"
    "    --skip-invalid --wait"
)


def show(settings: Settings, folder: DataFolder, console: Console | None = None) -> None:
    """Where to go, how to get in, and what to try first."""
    console = console or Console(highlight=False)
    connection = folder.read_connection()
    table = Table.grid(padding=(0, 2))
    table.add_row("Control room", connection["http"])
    table.add_row("API reference", f"{connection['http']}/v1/docs")
    table.add_row("API token", connection["token"])
    if "smtp" in connection:
        table.add_row("SMTP submission", connection["smtp"])
    if "smtp_user" in connection:
        table.add_row("SMTP login", f"{connection['smtp_user']} / {connection['smtp_password']}")
    table.add_row("Data", f"{_short(folder.root)} (this page again: {folder.connection.name})")
    console.print("\n[bold]Mailfleet is running.[/bold]")
    if settings.sandbox.enabled:
        console.print(
            "Sandbox: every delivery goes to simulated providers on this machine; nothing can leave it. "
            f"Retry time runs {settings.time_scale:g} times faster."
        )
    console.print(table)
    if settings.sandbox.enabled:
        console.print("\nSend the example campaign, from another terminal in this folder:\n")
        console.print(
            f"  {_program()} {EXAMPLE.removeprefix('mailfleet ')}", style="bold", markup=False, soft_wrap=True
        )
    console.print("\nStop with Ctrl-C.\n")


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _program() -> str:
    """How this program is called from here."""
    local = Path(".venv/bin/mailfleet")
    return str(local) if local.exists() else "mailfleet"
