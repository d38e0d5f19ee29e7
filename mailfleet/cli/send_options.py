"""The options of ``mailfleet send``, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Sender = Annotated[
    str, typer.Option("--from", metavar="ADDRESS", help="The From field: an address, or 'Name <address>'.")
]
Subject = Annotated[str, typer.Option("--subject", metavar="TEXT", help="The Subject field; a template like the HTML.")]
Html = Annotated[
    Path,
    typer.Option(
        "--html", metavar="FILE", help="The HTML template, UTF-8. Images named by relative path travel along."
    ),
]
Recipients = Annotated[
    Path,
    typer.Option(
        "--recipients",
        metavar="FILE",
        help="The list: .csv (comma, semicolon or tab; a row of headings first), .ndjson or .json.",
    ),
]
PlainText = Annotated[
    Path | None,
    typer.Option("--text", metavar="FILE", help="The plain text template; made from the HTML when not given."),
]
Stream = Annotated[str, typer.Option("--stream", metavar="NAME", help="The stream it belongs to.")]
Campaign = Annotated[
    str,
    typer.Option(
        "--campaign",
        metavar="NAME",
        help="Name of the campaign. Default: the subject, or if that is a template the name of the HTML file.",
    ),
]
ReplyTo = Annotated[str, typer.Option("--reply-to", metavar="ADDRESS", help="The Reply-To field.")]
At = Annotated[str, typer.Option("--at", metavar="TIME", help="Start then, for example 2026-01-31T09:00:00+01:00.")]
Rate = Annotated[str, typer.Option("--rate", metavar="RATE", help="No faster than this: 50/s, 1000/h, '10/s 20000/d'.")]
Preview = Annotated[
    int,
    typer.Option(
        "--preview",
        metavar="N",
        min=0,
        max=100,
        show_default=False,
        help="Write this many whole messages (100 at most) as .eml files; send nothing.",
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where --preview writes.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, name every problem, send nothing.")]
SkipInvalid = Annotated[
    bool, typer.Option("--skip-invalid", help="Send to the good rows although some cannot be used.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Watch until every recipient has an outcome, then report.")]
Attach = Annotated[
    list[Path] | None, typer.Option("--attach", metavar="FILE", help="Attach a file to every copy. Repeatable.")
]
Header = Annotated[
    list[str] | None,
    typer.Option("--header", metavar="NAME:VALUE", help="One more header field; the value is a template. Repeatable."),
]
Tag = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="WORD", help="A word of yours, shown with the campaign. Repeatable."),
]
AddressColumn = Annotated[
    str,
    typer.Option("--address-column", metavar="NAME", help="Column with the address. Default: found by its heading."),
]
