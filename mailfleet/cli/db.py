"""``mailfleet db``: the database itself. Works on what is stored, not through the server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mailfleet.app.folder import DataFolder
from mailfleet.base.errors import ConfigError, ConflictError
from mailfleet.cli import show
from mailfleet.cli.frame import ExitCode, JsonOption, group
from mailfleet.config.settings import Settings, load

app = group("db", "The database: upgrade it, check it, move it to a server or back.")

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="The data folder. Default: MAILFLEET_DATA, else the folder in ./mailfleet.toml, else ./data.",
        show_default=False,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The settings. Default: ./mailfleet.toml, then DIR/mailfleet.toml."),
]


def _known(config: Path | None, data: Path | None) -> tuple[Settings, DataFolder]:
    """The settings and the data folder that they mean, which must be there."""
    settings = load(config, data=data)
    folder = DataFolder(settings.data.resolve())
    if not folder.run.is_dir():
        raise ConfigError(
            "there is no data folder", where=str(folder.root), mend="name the server's folder with --data"
        )
    return settings, folder


@app.command("migrate")
def migrate(as_json: JsonOption = False, data: FolderOption = None, config: ConfigOption = None) -> None:
    """Bring the database to this program's schema now; serve does the same when it starts."""
    from mailfleet.store import migrate as store

    settings, folder = _known(config, data)
    with folder.held(wait_s=0):
        place = folder.place(settings.database.url)
        before = store.version_of(place)
        store.upgrade(place)
    if as_json:
        show.json_line({"database": store.place_words(place), "from": before, "to": store.HEAD})
    elif before == store.HEAD:
        show.say(show.stdout(), f"{store.place_words(place)} has schema {store.HEAD} already.")
    else:
        show.say(show.stdout(), f"{store.place_words(place)}: upgraded from {before or 'nothing'} to {store.HEAD}.")


@app.command("check")
def check(as_json: JsonOption = False, data: FolderOption = None, config: ConfigOption = None) -> None:
    """Check that what is stored fits together. Reads only, and may run beside the server. Exit code 1 if anything does not."""
    from mailfleet.app.moving import stored_place
    from mailfleet.store import checks, transfer
    from mailfleet.store import migrate as store

    place = stored_place(*_known(config, data))
    version = store.version_of(place)
    if version != store.HEAD:
        raise ConflictError(
            f"the database has schema {version}, this Mailfleet knows {store.HEAD}",
            where=store.place_words(place),
            mend="run: mailfleet db migrate",
        )
    with transfer.snapshot(place) as tx:
        findings, rows = checks.check(tx), checks.counts(tx)
    good = not any(one.wrong for one in findings)
    if as_json:
        found = [{"check": one.check, "ok": not one.wrong, "wrong": one.wrong} for one in findings]
        show.json_line(
            {"database": store.place_words(place), "version": version, "ok": good, "checks": found, "rows": rows}
        )
    else:
        _say_checked(store.place_words(place), version, findings, rows)
    if not good:
        raise typer.Exit(ExitCode.REFUSED)


def _say_checked(place: str, version: str | None, findings: list[Any], rows: dict[str, int]) -> None:
    console = show.stdout()
    show.say(console, f"{place}, schema {version}")
    for one in findings:
        word = show.styled(("wrong  ", "bold red")) if one.wrong else show.styled(("ok     ", "green"))
        show.say(console, word.append(one.check))
        for line in one.wrong:
            show.say(console, f"         {show.clean(line)}")
    show.say(console, "rows:  " + ", ".join(f"{name} {count:,}" for name, count in rows.items() if count))


@app.command("move")
def move(
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="URL",
            help="The empty database to move to, as postgresql://USER@HOST:5432/DATABASE; its password is taken from PGPASSWORD "
            "or ~/.pgpass if the URL has none. Or 'embedded': back into the data folder.",
        ),
    ],
    as_json: JsonOption = False,
    data: FolderOption = None,
    config: ConfigOption = None,
) -> None:
    """Move everything to a PostgreSQL server, or back, with the server stopped. Checks the copy before anything else changes."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from mailfleet.app.moving import EMBEDDED
    from mailfleet.app.moving import move as move_all
    from mailfleet.store import checks, transfer
    from mailfleet.store import migrate as store

    settings, folder = _known(config, data)
    source = folder.database if folder.database.exists() else settings.database.url
    console = show.stderr()
    bar = Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("rows, copied and read back"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with folder.held(wait_s=0), bar:
        total = 0
        if source and store.version_of(source) == store.HEAD:
            with transfer.snapshot(source) as tx:
                total = 2 * sum(checks.counts(tx).values())
        task = bar.add_task("", total=total)
        moved = move_all(settings, folder, to, lambda table, n: bar.update(task, description=table, advance=n))
    if as_json:
        show.json_line(
            {"moved": [one._asdict() for one in moved], "to": to if to == EMBEDDED else store.place_words(to)}
        )
        return
    for one in moved:
        if one.rows:
            show.say(show.stdout(), f"{one.table:<16}{one.rows:>12,} rows  {one.checksum}")
    if to == EMBEDDED:
        show.say(show.stdout(), f"Moved to {folder.database}. Now remove database.url from the settings.")
    else:
        show.say(
            show.stdout(), f"Moved to {store.place_words(to)}. Now set database.url, or MAILFLEET_DATABASE__URL, to it."
        )
        show.say(
            show.stdout(), f"What was here is kept as {folder.database.name}.before-move; remove it when all is well."
        )
