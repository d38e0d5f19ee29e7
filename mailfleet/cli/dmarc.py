"""``mailfleet dmarc``: what receivers report on mail with a domain in From, and how far its policy may go."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mailfleet.cli import show
from mailfleet.cli.client import Api, path_of
from mailfleet.cli.domains import Domain
from mailfleet.cli.files import unreadable
from mailfleet.cli.frame import CliError, DataOption, ExitCode, JsonOption, UnreachableError, group
from mailfleet.cli.manage import print_list

app = group("dmarc", "DMARC reports: who sends with a domain in From, and how far its policy may go.")
STANDARD_INPUT = "-"


@app.command("add")
def add(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="XML, gzip, ZIP, or the message that carries it; a folder of these; - for one from a pipe.",
        ),
    ],
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Take in reports as receivers sent them. The same again counts once. Exit code 1 when some were refused."""
    refused = 0
    with Api.open(data) as api:
        for file in _every(files):
            name = "standard input" if str(file) == STANDARD_INPUT else str(file)
            try:
                answer = api.post_file("/v1/dmarc-reports", _content(file))
            except UnreachableError:
                raise
            except CliError as error:
                refused += 1
                show.say(show.stderr(), f"{name}: {error}")
                continue
            if as_json:
                show.json_line({"file": name, **answer})
            else:
                _print_taken(name, answer["items"])
    if refused:
        raise typer.Exit(ExitCode.REFUSED)


def _every(files: Sequence[Path]) -> list[Path]:
    """Folders as what is in them. Raises ``CliError`` for a name that leads to nothing, before anything is taken in."""
    found: list[Path] = []
    for file in files:
        try:
            if file.is_dir():
                found += sorted(one for one in file.rglob("*") if one.is_file())
                continue
            if str(file) != STANDARD_INPUT:
                file.stat()
        except OSError as error:
            raise unreadable(file, "FILE", error) from None
        found.append(file)
    return found


def _content(file: Path) -> bytes:
    """Raises ``CliError``."""
    from mailfleet.mail.report_files import MAX_FILE_BYTES

    if str(file) == STANDARD_INPUT:
        return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    try:
        with file.open("rb") as opened:  # what is larger is refused with the words for it
            return opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise unreadable(file, "FILE", error) from None


def _print_taken(name: str, items: Sequence[Mapping[str, Any]]) -> None:
    for one in items:
        report = one["report"]
        known = "known already" if one["known"] else f"{show.number(report['messages'])} messages"
        line = f"{name}: {report['domain']}, by {report['reporter']}, {report['begin'][:10]}: {known}"
        show.say(show.stdout(), line)
        for problem in one["problems"]:
            show.say(show.stderr(), f"  passed over {problem}")


@app.command("show")
def show_domain(
    domain: Domain,
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=180, help="So many days back.")] = 30,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show who sends with the domain in From, how much of it passes, and how far the policy may go."""
    with Api.open(data) as api:
        view = api.get(path_of("domains", domain) + "/dmarc", days=days)
    _print(view, as_json)


@app.command("judge")
def judge(
    domain: Domain,
    judged: Annotated[str, typer.Argument(metavar="ours|foreign|open", help="Whose they are; open takes it back.")],
    who: Annotated[list[str], typer.Argument(metavar="WHO...", help="As they are listed; all: every one that waits.")],
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Say whose senders are whose mail fails: ours must pass before the policy goes on, foreign ones do not matter."""
    with Api.open(data) as api:
        path = path_of("domains", domain) + "/dmarc"
        if who == ["all"]:
            who = [one["who"] for one in api.get(path)["senders"] if one["must_judge"]]
            if not who:
                raise CliError("no sender waits for a word", mend=f"mailfleet dmarc show {domain}")
        view = api.put(path + "/judgements", {"who": who, "judged": judged})
    _print(view, as_json)


@app.command("reports")
def reports(
    domain: Domain,
    limit: Annotated[int, typer.Option("--last", metavar="N", min=1, max=500, help="At most this many.")] = 50,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List the reports that speak of a domain, newest first."""
    with Api.open(data) as api:
        items = api.get(path_of("domains", domain) + "/dmarc/reports", limit=limit)["items"]
    print_list(
        items,
        as_json,
        ("from (UTC)", "to", "by", "policy of", "policy", "messages", "passed", "taken in"),
        lambda one: (
            show.moment(one["begin"]), show.moment(one["end"]), one["reporter"], one["domain"], one["policy"],
            show.number(one["messages"]), _share(one), show.moment(one["received"]),
        ),
        f"No report speaks of {domain} yet. Take some in: mailfleet dmarc add FILE",
    )  # fmt: skip


def _print(view: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        show.json_line(view)
        return
    console = show.stdout()
    name = view["domain"]
    if not view["days"]:
        show.say(console, f"{name}: {view['found']}. Take some in: mailfleet dmarc add FILE")
        return
    show.say(console, f"{name}: {view['found'] or 'none of these reports found a policy of its own'}")
    if view["meaning"]:
        show.say(console, f"{view['state']}: {view['meaning']}")
    if view["next_step"]:
        show.say(console, f"Next: {view['next_step']}")
    if view["rollout"] == "auto":
        show.say(console, "The policy follows by itself (--dmarc-rollout auto).")
    show.say(console, "")
    rows = [
        (
            _named(one), _whose(one), show.number(one["messages"]), _share(one), show.number(one["by_dkim"]),
            show.number(one["by_spf"]), show.number(one["failed"]), one["why"],
        )
        for one in view["senders"]
    ]  # fmt: skip
    columns = ("sender", "whose", "messages", "passed", "DKIM", "SPF", "failed", "how most of it failed")
    show.table(console, columns, rows, right=columns[2:7])
    if view["others"] > 0:
        senders = show.number(view["other_senders"])
        show.say(console, f"And {show.number(view['others'])} messages of {senders} smaller senders.")


def _named(one: Mapping[str, Any]) -> str:
    return f"{one['who']} ({one['host']})" if one["host"] else str(one["who"])


def _whose(one: Mapping[str, Any]) -> str:
    if one["must_judge"]:
        return "? judge it"
    if one["kind"] in ("ours", "forwarders"):
        return "ours"
    return "" if one["judged"] == "open" else str(one["judged"])


def _share(one: Mapping[str, Any]) -> str:
    return f"{100 * one['passed'] / one['messages']:.1f} %" if one["messages"] else ""
