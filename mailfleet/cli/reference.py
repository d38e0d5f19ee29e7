"""``docs/reference/cli.md``, made from the tree of commands: ``python -m mailfleet.cli.reference > docs/reference/cli.md``.

With the argument ``metrics`` it prints ``docs/reference/metrics.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from mailfleet.cli.app import app
from mailfleet.cli.frame import EXIT_CODE_HELP
from mailfleet.config.reference import metrics_markdown

_HEAD = """\
# Command line

Made by `python -m mailfleet.cli.reference` from `mailfleet/cli/`; do not edit this page.

All commands but `serve`, `sandbox`, `explain` and `settings` talk to a running server over its HTTP API. They find it by
`--data DIR` (the server's data folder, whose `connection.json` says where it answers and holds a token), else by `MAILFLEET_URL`
with `MAILFLEET_TOKEN`, else by `MAILFLEET_DATA`, the folder named in `./mailfleet.toml`, or `./data`.

Results go to standard output: tables in colour on a terminal, plain whole lines when piped, JSON with `--json`. Notices, progress
and errors go to standard error; with `--json` an error is an object `{"error", "where", "mend", "problems"}` as the last
line of standard output.

## Exit codes

| code | meaning |
|---|---|
"""

_WAIT = """
`mailfleet send --wait --json` prints two lines: the answer to the upload, then, as the last line, one object with `campaign`,
`state`, `recipients` (rows read), `invalid`, `duplicates`, `suppressed`, `delivered`, `bounced`, `expired`, `cancelled`, `pending` and
`seconds`. Bounces are outcomes like any other: a campaign that ends with them exits 0.
"""


def cli_markdown() -> str:
    """The whole page."""
    codes = "".join(f"| {code.value} | {text} |\n" for code, text in EXIT_CODE_HELP.items())
    return _HEAD + codes + _WAIT + "\n".join(_command_lines("mailfleet", get_command(app))) + "\n"


def _command_lines(path: str, command: Any) -> Iterator[str]:
    """A command's section; for a group those of its commands in the order of ``--help``."""
    children = getattr(command, "commands", None)
    if children is not None:
        if path != "mailfleet":
            yield from ("", f"## `{path}`", "", command.help or "")
        for name, child in children.items():
            yield from _command_lines(f"{path} {name}", child)
        return
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and one.name != "help"]
    usage = " ".join([path, *(_metavar(one) for one in arguments), *(["[OPTIONS]"] if options else [])])
    level = "##" if path.count(" ") == 1 else "###"
    yield from ("", f"{level} `{usage}`", "", " ".join(command.help.split()))
    if any(one.help for one in arguments) or options:
        yield from ("", "| option | meaning |", "|---|---|")
    for one in arguments:
        if one.help:
            yield f"| `{_metavar(one)}` | {one.help} |"
    for one in options:
        names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
        value = "" if one.is_flag else f" `{_metavar(one)}`"
        required = " Required." if one.required else ""
        yield f"| {names}{value} | {_words(one)}{required} |"


def _metavar(param: Any) -> str:
    return str(param.metavar or param.name.upper())


def _words(option: Any) -> str:
    text = " ".join(str(option.help or "").split()).replace("|", "\\|")
    default = option.default
    if option.is_flag or default in (None, "", 0, []) or callable(default) or "Default:" in text:
        return text
    return f"{text} Default: {default}."


if __name__ == "__main__":
    sys.stdout.write(metrics_markdown() if sys.argv[1:] == ["metrics"] else cli_markdown())
