"""``mailfleet send``: an HTML file and a recipient list become a campaign."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from mailfleet.base.clock import parse_rfc3339, rfc3339
from mailfleet.cli import files, show
from mailfleet.cli import send_options as options
from mailfleet.cli.client import Api, refusal
from mailfleet.cli.frame import CliError, DataOption, ExitCode, JsonOption, UnreachableError
from mailfleet.cli.report import command_line, print_report, totals
from mailfleet.cli.upload import check_list, upload_campaign
from mailfleet.cli.watch import watch_campaign

_HEADER = re.compile(r"([!-9;-~]+)\s*:\s*(.*)", re.DOTALL)  # RFC 5322 3.6.8: printable ASCII but the colon


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asked for."""

    sender: str
    subject: str
    html: Path
    recipients: Path
    text: Path | None = None
    stream: str = "bulk"
    name: str = ""
    reply_to: str = ""
    at: str = ""
    preview: int = 0
    out: Path = Path("previews")
    dry_run: bool = False
    skip_invalid: bool = False
    wait: bool = False
    as_json: bool = False
    attach: list[Path] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    tag: list[str] = field(default_factory=list)
    address_column: str = ""
    data: Path | None = None
    rate: str = ""

    @property
    def rehearsal(self) -> bool:
        """Nothing leaves: a dry run or a preview."""
        return self.dry_run or self.preview > 0


def send(
    sender: options.Sender,
    subject: options.Subject,
    html: options.Html,
    recipients: options.Recipients,
    text: options.PlainText = None,
    stream: options.Stream = "bulk",
    campaign: options.Campaign = "",
    reply_to: options.ReplyTo = "",
    at: options.At = "",
    preview: options.Preview = 0,
    out: options.Out = Path("previews"),
    dry_run: options.DryRun = False,
    skip_invalid: options.SkipInvalid = False,
    wait: options.Wait = False,
    as_json: JsonOption = False,
    attach: options.Attach = None,
    header: options.Header = None,
    tag: options.Tag = None,
    address_column: options.AddressColumn = "",
    rate: options.Rate = "",
    data: DataOption = None,
) -> None:
    """Send a newsletter to a list of recipients.

    Each copy is filled in for its recipient. Without --skip-invalid a list with rows that cannot be used is refused whole,
    and every such row is named.
    """
    order = Order(
        sender, subject, html, recipients, text, stream, campaign, reply_to, at, preview, out, dry_run, skip_invalid,
        wait, as_json, attach or [], header or [], tag or [], address_column, data, rate,
    )  # fmt: skip
    if order.wait and order.rehearsal:
        raise CliError(
            "--wait has nothing to wait for: --preview and --dry-run send nothing",
            mend="leave one of them out",
            code=ExitCode.USAGE,
        )
    run(order)


def run(order: Order) -> None:
    """Upload, then tell what became of it."""
    request = campaign_object(order)
    check_list(order.recipients)
    status, answer = upload_campaign(order.data, request, order.recipients, key=secrets.token_hex(16))
    if status == 422:
        raise refusal(_in_our_words(answer))
    if order.rehearsal:
        _tell_rehearsal(order, answer)
        return
    _tell_accepted(order, answer)
    if order.wait:
        wait_and_report(order.data, str(answer["campaign"]["campaign"]), as_json=order.as_json)


def campaign_object(order: Order) -> dict[str, Any]:
    """The JSON part ``campaign`` of the upload. Raises ``CliError`` for files and options that cannot be used."""
    html, inline = files.embed_images(files.read_text(order.html, "--html"), order.html)
    request: dict[str, Any] = {
        "name": order.name or (order.html.stem if "{" in order.subject else order.subject),
        "from": order.sender,
        "subject": order.subject,
        "html": html,
        "stream": order.stream,
        "skip_invalid": order.skip_invalid,
        "dry_run": order.rehearsal,
    }
    optional: dict[str, Any] = {
        "text": files.read_text(order.text, "--text") if order.text else None,
        "reply_to": order.reply_to,
        "headers": _headers(order.header),
        "tags": order.tag,
        "rate": order.rate,
        "send_at": _instant(order.at) if order.at else None,
        "previews": order.preview,
        "address_column": order.address_column,
        "attachments": inline + files.attachments(order.attach),
    }
    return request | {name: value for name, value in optional.items() if value}


def _headers(given: list[str]) -> dict[str, list[str]]:
    """Name to values, in the order given."""
    fields: dict[str, list[str]] = {}
    for one in given:
        found = _HEADER.fullmatch(one)
        if not found:
            raise CliError(
                f"{one!r} is not a header field",
                where="--header",
                mend="write it as 'Name: value'",
                code=ExitCode.USAGE,
            )
        fields.setdefault(found[1], []).append(found[2])
    return fields


def _instant(given: str) -> str:
    try:
        return rfc3339(parse_rfc3339(given))
    except ValueError:
        here = datetime.now().astimezone().isoformat(timespec="seconds")
        raise CliError(
            f"{given!r} is not a time with an offset",
            where="--at",
            mend=f"write it like this moment: {here}",
            code=ExitCode.USAGE,
        ) from None


def _in_our_words(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The refusal in the words of this command line."""
    return {**answer, "mend": str(answer.get("mend") or "").replace("set skip_invalid", "add --skip-invalid")}


def _tell_rehearsal(order: Order, answer: Mapping[str, Any]) -> None:
    written = write_previews(answer.get("previews", []), order.out) if order.preview else []
    if order.as_json:
        show.json_line({**answer, "previews": [str(path) for path in written]})
        return
    console = show.stdout()
    _tell_rows(answer)
    for path in written:
        show.say(console, f"Wrote {path}")
    usable = answer["rows"] - answer["invalid"] - answer["duplicates"] - answer["suppressed"]
    show.say(console, f"Nothing was sent. {usable:,} of {answer['rows']:,} rows would get a copy.")
    if answer["invalid"] and not order.skip_invalid:
        show.say(console, "As it stands the list would be refused whole: correct it, or add --skip-invalid.")


def _tell_rows(answer: Mapping[str, Any]) -> None:
    """Every row that cannot be used, every warning, and the counts."""
    console = show.stdout()
    if answer["problems"]:
        show.problem_table(console, answer["problems"], answer["problem_count"])
    if answer.get("warnings"):
        show.problem_table(console, answer["warnings"], len(answer["warnings"]), title="Worth a look")
    show.say(
        console,
        f"{answer['rows']:,} rows read: {answer['invalid']:,} cannot be used, {answer['duplicates']:,} are duplicates, "
        f"{answer['suppressed']:,} are suppressed.",
    )


def _tell_accepted(order: Order, answer: Mapping[str, Any]) -> None:
    if order.as_json:
        show.json_line({name: value for name, value in answer.items() if name != "previews"})
        return
    _tell_rows(answer)
    console, campaign = show.stdout(), answer["campaign"]
    start = f" It starts at {show.moment(campaign['send_at'])} UTC." if campaign["state"] == "scheduled" else ""
    show.say(console, f"Accepted as {campaign['campaign']}: {campaign['recipients']:,} recipients.{start}")
    if not order.wait:
        show.say(console, "Watch it: " + command_line(order.data, "campaign", "watch", campaign["campaign"]))
    show.say(console)


def write_previews(messages: list[str], folder: Path) -> list[Path]:
    """Write whole messages as ``0001.eml`` and so on; returns their paths. Raises ``CliError`` when the folder refuses."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, message in enumerate(messages, start=1):
            path = folder / f"{index:04}.eml"
            path.write_bytes(message.encode("utf-8", "surrogateescape"))
            written.append(path)
    except OSError as error:
        raise CliError(
            f"cannot write there: {error.strerror}", where=str(folder), mend="choose another folder with --out",
            code=ExitCode.USAGE,
        ) from None  # fmt: skip
    return written


def wait_and_report(data: Path | None, campaign: str, *, as_json: bool) -> None:
    """Watch to the end and report. Exits 4 when recipients were left without an outcome, 130 on Ctrl-C."""
    again = command_line(data, "campaign", "watch", campaign)
    try:
        view = watch_campaign(data, campaign)
    except KeyboardInterrupt:
        show.say(show.stderr(), f"\nStopped watching; the campaign goes on. Watch it again: {again}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except UnreachableError as error:
        raise UnreachableError(
            error.what, where=error.where, mend=f"when the server is back, watch again: {again}"
        ) from None
    if as_json:
        show.json_line(totals(view))
    else:
        with Api.open(data) as api:
            print_report(api, view, data)
    if view["cancelled"] or view["pending"]:
        raise typer.Exit(ExitCode.UNFINISHED)
