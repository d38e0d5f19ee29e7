"""``mailfleet sandbox``: what the simulated mailbox providers saw. Reads the data folder; the server need not run."""

from __future__ import annotations

from collections.abc import Mapping
from email.parser import BytesHeaderParser
from email.policy import default as any_policy
from pathlib import Path
from typing import Annotated, Any

import typer

from mailfleet.base.clock import rfc3339
from mailfleet.cli import show
from mailfleet.cli.client import data_folder
from mailfleet.cli.frame import CliError, DataOption, ExitCode, JsonOption, group

app = group("sandbox", "What the simulated mailbox providers saw.")


@app.command("report")
def report(as_json: JsonOption = False, data: DataOption = None) -> None:
    """Show what each provider accepted, refused (by reason) and deferred, and whether signatures verified."""
    from mailfleet.sandbox.report import report as add_up

    found = add_up(_sandbox_folder(data))
    if as_json:
        show.json_line(found)
        return
    console = show.stdout()
    columns = ("accepted", "refused", "deferred", "repeats", "bad signatures")
    show.table(
        console,
        ("provider", *columns),
        [_row(name, counts) for name, counts in (*found["providers"].items(), ("all", found["totals"]))],
        right=columns,
    )
    for word, title in (
        ("refused", "Refused, by reason"),
        ("deferred", "Put off, by reason (replies, not deliveries)"),
    ):
        reasons = [
            (name, reason, show.number(count))
            for name, counts in found["providers"].items()
            for reason, count in counts[word].items()
            if count
        ]
        if reasons:
            show.say(console)
            show.table(console, ("provider", "reason", "count"), reasons, right=("count",), title=title)


def _row(name: str, counts: Mapping[str, Any]) -> tuple[str, ...]:
    refused, deferred = sum(counts["refused"].values()), sum(counts["deferred"].values())
    numbers = (counts["accepted"], refused, deferred, counts["repeats"], counts["bad_signatures"])
    return (name, *(show.number(one) for one in numbers))


@app.command("inbox")
def inbox(
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="Only mail for this recipient.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="DIR", help="Write the messages as .eml files, byte for byte.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="List at most this many.")] = 50,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List the mail that was accepted, or save it."""
    from mailfleet.sandbox import inbox as mail

    folder = _sandbox_folder(data)
    if save is not None:
        _save(folder, save, address, as_json)
        return
    console, listed, total = show.stdout(), [], 0
    for message in mail.messages(folder, address):
        total += 1
        if as_json:
            show.json_line(_message_object(message))
        elif total <= limit:
            listed.append(_message_object(message))
    if as_json:
        return
    if not listed:
        show.say(console, "No mail was accepted" + (f" for {address}." if address else " yet."))
        return
    names = ("at", "provider", "recipient", "from", "subject", "bytes")
    show.table(
        console,
        ("accepted (UTC)", *names[1:]),
        [(show.moment(one["at"]), *(one[name] for name in names[1:-1]), show.number(one["bytes"])) for one in listed],
        right=("bytes",),
    )
    if total > limit:
        show.say(console, f"\n{total - limit:,} more; raise --limit, name an --address, or write all with --save DIR.")


def _save(folder: Path, into: Path, address: str | None, as_json: bool) -> None:
    from mailfleet.sandbox import inbox as mail

    try:
        count = mail.save(folder, into, address)
    except OSError as error:
        raise _not_writable(into, error, "choose another folder with --save") from None
    if as_json:
        show.json_line({"saved": count, "folder": str(into)})
    else:
        show.say(show.stdout(), f"Wrote {count:,} messages to {into}")


@app.command("dmarc-reports")
def dmarc_reports(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files go; it is made if need be.")],
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Write the DMARC aggregate reports that each provider would send about the mail it took or refused, one file a day."""
    from mailfleet.config.settings import load
    from mailfleet.sandbox.dmarc_reports import write

    known = _sandbox_folder(data)
    try:
        done = write(known, folder, load(data=known).sandbox.address_base)
    except OSError as error:
        raise _not_writable(folder, error, "choose another folder") from None
    if as_json:
        show.json_line(done)
        return
    console = show.stdout()
    if done["files"]:
        columns = ("messages", "passed")
        rows = [
            (
                one["provider"],
                one["domain"],
                rfc3339(one["begin"] * 1000)[:10],
                *map(show.number, (one[name] for name in columns)),
            )
            for one in done["files"]
        ]
        show.table(console, ("provider", "domain", "day (UTC)", *columns), rows, right=columns)
        show.say(console)
    show.say(console, f"Wrote {len(done['files']):,} reports to {folder}")
    for what, count in _left_out(done["left_out"]):
        show.say(console, f"{count:,} not in any report: {what}")


def _left_out(left_out: Mapping[str, Any]) -> list[tuple[str, int]]:
    without, shown = left_out["no_policy"], sorted(left_out["no_policy"])[:5]
    more = ", ..." if len(without) > len(shown) else ""
    reasons = (
        (f"no DMARC policy is found for {', '.join(shown)}{more}", sum(without.values())),
        ("the From field does not name one domain, or an earlier version logged them", left_out["no_domain"]),
        ("refused before the message was seen", left_out["not_seen"]),
    )
    return [(what, count) for what, count in reasons if count]


def _not_writable(folder: Path, error: OSError, mend: str) -> CliError:
    return CliError(f"cannot write there: {error.strerror}", where=str(folder), mend=mend, code=ExitCode.USAGE)


def _message_object(message: Any) -> dict[str, Any]:
    """A ``StoredMessage`` without its body: envelope, size, and the header fields that people look for."""
    header = BytesHeaderParser(policy=any_policy).parsebytes(message.data)
    return {
        "at": rfc3339(message.at_ms),
        "provider": message.provider,
        "recipient": message.recipient,
        "sender": message.sender,
        "from": str(header.get("From", "")),
        "subject": str(header.get("Subject", "")),
        "message_id": str(header.get("Message-ID", "")),
        "bytes": len(message.data),
    }


def _sandbox_folder(data: Path | None) -> Path:
    folder = data_folder(data)
    if not (folder / "sandbox").is_dir():
        raise CliError(
            "no sandbox has run on this data folder",
            where=str(folder),
            mend=f"start one: mailfleet serve --sandbox --data {folder}",
        )
    return folder
