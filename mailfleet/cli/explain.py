"""``mailfleet explain``: how Mailfleet reads what a remote says. Needs no server."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import typer

from mailfleet.base.errors import InputError
from mailfleet.cli import show
from mailfleet.cli.frame import ExitCode, JsonOption, group, show_error

app = group("explain", "How Mailfleet reads what a remote says.")

VERDICT_STYLE = {"deliver": "green", "defer": "yellow", "bounce": "red"}


@app.callback()
def root() -> None:
    """How Mailfleet reads what a remote says."""


@app.command("reply")
def reply(as_json: JsonOption = False) -> None:
    """Read SMTP replies from standard input, one a line, and print what each means.

    A line may start with a provider's name and a tab, as in a log: its own rules are then tried first. Printed are the class, the
    verdict (deliver, defer, bounce), whose fault it is, whether the address is suppressed, and the rule that matched.
    """
    from mailfleet.config.bounce_rules import load_rules
    from mailfleet.policy.classify import Classifier
    from mailfleet.policy.explain import explain_line

    classifier = Classifier(load_rules())
    if sys.stdin.isatty():
        show.say(show.stderr(), "Paste SMTP replies, one a line, for example: 550 5.1.1 User unknown. Ctrl-D ends.")
    wrong = 0
    for number, line in enumerate(_lines(), start=1):
        if not line.strip():
            continue
        try:
            found = explain_line(classifier, line, number)
        except InputError as error:
            wrong += 1
            _print_wrong(error, line, as_json)
            continue
        if as_json:
            show.json_line(found)
        else:
            _print_found(found)
    if wrong:
        raise typer.Exit(ExitCode.REFUSED)


def _print_wrong(error: InputError, line: str, as_json: bool) -> None:
    """A line that is no reply, in its place: with ``--json`` every line of input has its object."""
    if as_json:
        show.json_line({"error": error.what, "where": error.where, "mend": error.mend, "reply": line})
    else:
        show_error(error)


def _lines() -> Iterable[str]:
    """Standard input as UTF-8 whatever the locale; some remotes' words are not, and must not end the reading."""
    for raw in sys.stdin.buffer:
        yield raw.decode("utf-8", "replace").rstrip("\r\n")


def _print_found(found: Mapping[str, Any]) -> None:
    console, verdict = show.stdout(), str(found["verdict"])
    parts: list[tuple[object, str]] = [
        (f"{verdict:<8}", VERDICT_STYLE.get(verdict, "")),
        (f"{found['class']:<22}", "bold"),
        (f"fault: {found['fault']:<10}", ""),
        ("suppress  " if found["suppress"] else "          ", "magenta"),
        (found["rule"], "dim"),
    ]
    console.print(show.styled(*parts), soft_wrap=True)
    console.print(show.styled(("        ", ""), (found["reply"], "dim")), soft_wrap=True)
