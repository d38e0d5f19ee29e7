"""What every command shares: exit codes, errors, options and the way an error is shown. No command is defined here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mailfleet.base.errors import InputError
from mailfleet.cli import show


class ExitCode(IntEnum):
    """What the exit code of every command means."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    UNFINISHED = 4
    INTERRUPTED = 130


EXIT_CODE_HELP = {
    ExitCode.DONE: "done",
    ExitCode.REFUSED: "the input was refused or the record does not exist; nothing was changed",
    ExitCode.USAGE: "wrong use of the command line",
    ExitCode.UNREACHABLE: "the server cannot be reached, or does not accept the token",
    ExitCode.UNFINISHED: "the campaign waited for was cancelled before every recipient had an outcome",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C; a campaign that was started goes on",
}

# \b keeps the lines as they are.
EPILOG = "\b\nExit codes:\n" + "\n".join(f"{code.value:>5}  {text}" for code, text in EXIT_CODE_HELP.items())


class CliError(InputError):
    """Ends a command. ``problems`` are the records that were refused, in the API's shape."""

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        mend: str = "",
        code: ExitCode = ExitCode.REFUSED,
        problems: Sequence[Mapping[str, Any]] = (),
        problem_count: int | None = None,
    ) -> None:
        super().__init__(what, where=where, mend=mend)
        self.code = code
        self.problems = problems
        self.problem_count = len(problems) if problem_count is None else problem_count


class UnreachableError(CliError):
    """The server does not answer, or not to us."""

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        super().__init__(what, where=where, mend=mend, code=ExitCode.UNREACHABLE)


class Group(TyperGroup):
    """A group of commands that turns the errors meant for people into words (or JSON) and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta.setdefault("mailfleet.json", "--json" in args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as error:
            if ctx.meta["mailfleet.json"]:
                show.json_line(error_object(error))
            else:
                show_error(error)
            raise typer.Exit(error.code if isinstance(error, CliError) else ExitCode.REFUSED) from None


def error_object(error: InputError) -> dict[str, Any]:
    """The error as ``--json`` prints it, on standard output, as the last line."""
    problems = list(error.problems) if isinstance(error, CliError) else []
    return {"error": error.what, "where": error.where, "mend": error.mend, "problems": problems}


def show_error(error: InputError) -> None:
    """The error for people, on standard error: the refused records first, the sum of it last."""
    console = show.stderr()
    if isinstance(error, CliError) and error.problems:
        show.problem_table(console, error.problems, error.problem_count)
    text = show.styled(("error: ", "bold red"), (f"{error.where}: " if error.where else "", "bold"), (error.what, ""))
    show.say(console, text)
    if error.mend:
        show.say(console, show.styled(("  mend: ", "bold"), (error.mend, "")))


DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="The server's data folder, whose connection.json says where it answers. "
        "Default: MAILFLEET_URL with MAILFLEET_TOKEN if set, else MAILFLEET_DATA, else the folder in ./mailfleet.toml, else ./data.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON for programs: one object, or one object a line for a list.")
]


def group(name: str, help_text: str) -> typer.Typer:
    """A group of commands under one noun."""
    return typer.Typer(name=name, help=help_text, cls=Group, no_args_is_help=True, rich_markup_mode=None)
